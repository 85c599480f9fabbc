// Package nativefield holds the layout of a field in native form: see
// spec/native.md, section 5.
package nativefield

import "github.com/kmsencrypted/kmsencrypted"

// Format bytes. Neither can begin UTF-8 text, so that plaintext in the place of a
// ciphertext is noticed.
const (
	Padded byte = 0xC0 // the plaintext is padded
	Plain  byte = 0xC1
)

const (
	Head     = 1 + kmsencrypted.KeyTagSize // format byte and key tag
	Overhead = Head + 12 + 16              // and nonce and authentication tag
)

// IsFormat reports whether a value begins with a format byte.
func IsFormat(value []byte) bool {
	return len(value) > 0 && (value[0] == Padded || value[0] == Plain)
}
