package kmsencrypted

import (
	"bytes"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"hash"
)

// HMAC of short public messages under short keys. Every record takes two of them,
// and crypto/hmac spends as long on the objects that it makes as on hashing, so
// here the two hashes are taken over memory on the stack, of which the blocks with
// the key are wiped. In FIPS 140 mode the validated module has to do it whole.

// The two blocks that HMAC combines with its key.
var (
	innerPad = [sha512.BlockSize]byte(bytes.Repeat([]byte{0x36}, sha512.BlockSize))
	outerPad = [sha512.BlockSize]byte(bytes.Repeat([]byte{0x5c}, sha512.BlockSize))
)

// usualMessage is what finds room on the stack.
const usualMessage = 320

// hmacSHA512 is HMAC-SHA-512, of a message in parts, under a key of at most 128 bytes.
func hmacSHA512(key []byte, message ...[]byte) [sha512.Size]byte {
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
	clear(padded[:sha512.BlockSize]) // elsewhere if there was no room
	clear(outer[:])
	return sum
}

// hmacSHA256 is HMAC-SHA-256, of a message in parts, under a key of at most 64 bytes.
func hmacSHA256(key []byte, message ...[]byte) [sha256.Size]byte {
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
	clear(padded[:sha256.BlockSize]) // elsewhere if there was no room
	clear(outer[:])
	return sum
}

// padKey fills the first block of the inner and of the outer hash.
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
