package lockbox

import "slices"

// The padding of ISO/IEC 7816-4 and libsodium is one byte 80, then 00 up to a
// multiple of the size. It has at least one byte.
const padMark = 0x80

// paddedSize returns the size of n bytes after padding.
func paddedSize(n, size int) int { return n - n%size + size }

// pad appends plaintext and its padding to dst.
func pad(dst, plaintext []byte, size int) []byte {
	n := paddedSize(len(plaintext), size)
	start := len(dst)
	dst = append(slices.Grow(dst, n), plaintext...)
	dst = append(dst, padMark)
	end := start + n
	clear(dst[len(dst):end])
	return dst[:end]
}

// unpad returns padded without its padding. Like Lockbox it looks only at the
// last size bytes, and also accepts padding of a smaller size.
func unpad(padded []byte, size int) (plaintext []byte, ok bool) {
	for i := 1; i <= min(size, len(padded)); i++ {
		switch padded[len(padded)-i] {
		case 0:
		case padMark:
			return padded[:len(padded)-i], true
		default:
			return nil, false
		}
	}
	return nil, false
}
