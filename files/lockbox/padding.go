package lockbox

// padMark begins the padding of ISO/IEC 7816-4 and libsodium; zeros follow.
const padMark = 0x80

// pad appends the padding to the last segment, so that the total is a multiple
// of size. It adds at least one byte. total is the number of bytes in all
// segments, because the other segments need not be multiples of size.
func pad(segment []byte, total int64, size int) []byte {
	start := len(segment)
	segment = segment[:start+size-int(total%int64(size))]
	clear(segment[start:])
	segment[start] = padMark
	return segment
}

// paddingOf returns the number of padding bytes at the end of a plaintext,
// given its last bytes.
func paddingOf(tail []byte) (n int, ok bool) {
	for i := len(tail) - 1; i >= 0; i-- {
		switch tail[i] {
		case 0:
		case padMark:
			return len(tail) - i, true
		default:
			return 0, false
		}
	}
	return 0, false
}
