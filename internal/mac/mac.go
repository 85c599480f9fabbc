// Package mac computes HMACs of short messages under short keys, and HKDF-Expand
// of a uniformly random key.
//
// Every record takes two HMACs of public messages, and crypto/hmac spends as long
// on allocating objects as on hashing. So this package hashes memory on the stack
// and wipes the blocks that hold the key. In FIPS 140 mode it calls crypto/hmac,
// because the validated module must compute the whole HMAC.
package mac

import (
	"bytes"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"hash"
)

// The two blocks that HMAC combines with its key.
var (
	innerPad = [sha512.BlockSize]byte(bytes.Repeat([]byte{0x36}, sha512.BlockSize))
	outerPad = [sha512.BlockSize]byte(bytes.Repeat([]byte{0x5c}, sha512.BlockSize))
)

// usualMessage is the size in bytes up to which a message fits on the stack.
const usualMessage = 320

// SHA512 returns the HMAC-SHA-512 of a message given in parts, under a key of at
// most 128 bytes.
func SHA512(key []byte, message ...[]byte) [sha512.Size]byte {
	if fips140.Enabled() {
		return [sha512.Size]byte(moduleHMAC(sha512.New, key, message))
	}
	var inner [sha512.BlockSize + usualMessage]byte
	var outer [sha512.BlockSize + sha512.Size]byte
	padKey(inner[:sha512.BlockSize], outer[:sha512.BlockSize], key)
	padded := inner[:sha512.BlockSize]
	for _, part := range message {
		padded = append(padded, part...)
	}
	sum := sha512.Sum512(padded)
	copy(outer[sha512.BlockSize:], sum[:])
	sum = sha512.Sum512(outer[:])
	clear(inner[:sha512.BlockSize])
	clear(padded[:sha512.BlockSize]) // allocated if the stack had no room
	clear(outer[:])
	return sum
}

// SHA256 returns the HMAC-SHA-256 of a message given in parts, under a key of at
// most 64 bytes.
func SHA256(key []byte, message ...[]byte) [sha256.Size]byte {
	if fips140.Enabled() {
		return [sha256.Size]byte(moduleHMAC(sha256.New, key, message))
	}
	var inner [sha256.BlockSize + usualMessage]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	padKey(inner[:sha256.BlockSize], outer[:sha256.BlockSize], key)
	padded := inner[:sha256.BlockSize]
	for _, part := range message {
		padded = append(padded, part...)
	}
	sum := sha256.Sum256(padded)
	copy(outer[sha256.BlockSize:], sum[:])
	sum = sha256.Sum256(outer[:])
	clear(inner[:sha256.BlockSize])
	clear(padded[:sha256.BlockSize]) // allocated if the stack had no room
	clear(outer[:])
	return sum
}

// padKey fills the first blocks of the inner and the outer hash.
func padKey(inner, outer, key []byte) {
	copy(inner, innerPad[:])
	copy(outer, outerPad[:])
	subtle.XORBytes(inner, inner, key)
	subtle.XORBytes(outer, outer, key)
}

func moduleHMAC(newHash func() hash.Hash, key []byte, message [][]byte) []byte {
	mac := hmac.New(newHash, key)
	for _, part := range message {
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// MaxExpand is the largest size in bytes that [Expand] returns.
const MaxExpand = 255 * sha512.Size

// Expand returns size bytes, 1 to [MaxExpand], of HKDF-Expand-SHA-512 of a key of
// at most 128 bytes under label. There is no extraction, so the key must be
// uniformly random. The caller must wipe the result.
func Expand(key []byte, label string, size int) ([]byte, error) {
	if size > sha512.Size || size < 1 {
		return hkdf.Expand(sha512.New, key, label, size)
	}
	// One block of HKDF-Expand is HMAC(key, info || 1), which in itself takes
	// much less time.
	block := SHA512(key, append([]byte(label), 1))
	defer clear(block[:])
	return append(make([]byte, 0, size), block[:size]...), nil
}
