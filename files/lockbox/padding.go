package lockbox

// padMark begins the padding of ISO/IEC 7816-4 and libsodium; zeros follow.
const padMark = 0x80

// pad appends to the last segment what makes the whole a multiple of size, at
// least one byte. The segments before it are not all multiples of size, so it
// is told how many bytes there are in all.
func pad(segment []byte, total int64, size int) []byte {
	start := len(segment)
	segment = segment[:start+size-int(total%int64(size))]
	clear(segment[start:])
	segment[start] = padMark
	return segment
}

// paddingOf returns how many bytes of padding there are at the end of the last
// bytes of a plaintext.
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
