// Package keywrap pads what AES key wrap (RFC 3394) is to take: multiples of 8 bytes, from
// 16. A byte 80 and zeros follow the value (ISO/IEC 7816-4).
package keywrap

const block, least = 8, 16

// Pad returns a padded copy, which the caller wipes.
func Pad(value []byte) []byte {
	padded := make([]byte, max(least, (len(value)/block+1)*block))
	padded[copy(padded, value)] = 0x80
	return padded
}

// Unpad returns the value in what Pad returned, in the same memory. ok is false for
// anything else; Unpad then wipes it.
func Unpad(padded []byte) (value []byte, ok bool) {
	for n := len(padded) - 1; n >= 0 && len(padded)-n <= least; n-- {
		if padded[n] == 0x80 {
			return padded[:n], true
		}
		if padded[n] != 0 {
			break
		}
	}
	clear(padded)
	return nil, false
}
