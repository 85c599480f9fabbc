package kmsencrypted

import (
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// HMAC of short messages under short keys. Every record takes two of them, and
// crypto/hmac spends as long on the objects that it makes as on hashing, so here
// the two hashes are taken over memory on the stack. In FIPS 140 mode the
// validated module has to do it whole.

const innerPad, outerPad = 0x36, 0x5c

// usualMessage is what finds room on the stack.
const usualMessage = 320

// hmacSHA512 is HMAC-SHA-512 under a key of at most 128 bytes.
func hmacSHA512(key, message []byte) [sha512.Size]byte {
	if fips140.Enabled() {
		return [sha512.Size]byte(moduleHMAC(sha512.New, key, message))
	}
	var inner [sha512.BlockSize + usualMessage]byte
	var outer [sha512.BlockSize + sha512.Size]byte
	defer clear(inner[:])
	defer clear(outer[:])
	padKey(inner[:sha512.BlockSize], outer[:sha512.BlockSize], key)
	sum := sha512.Sum512(append(inner[:sha512.BlockSize], message...))
	copy(outer[sha512.BlockSize:], sum[:])
	return sha512.Sum512(outer[:])
}

// hmacSHA256 is HMAC-SHA-256 under a key of at most 64 bytes.
func hmacSHA256(key, message []byte) [sha256.Size]byte {
	if fips140.Enabled() {
		return [sha256.Size]byte(moduleHMAC(sha256.New, key, message))
	}
	var inner [sha256.BlockSize + usualMessage]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	defer clear(inner[:])
	defer clear(outer[:])
	padKey(inner[:sha256.BlockSize], outer[:sha256.BlockSize], key)
	sum := sha256.Sum256(append(inner[:sha256.BlockSize], message...))
	copy(outer[sha256.BlockSize:], sum[:])
	return sha256.Sum256(outer[:])
}

// padKey fills the first block of the inner and of the outer hash.
func padKey(inner, outer, key []byte) {
	copy(inner, key)
	copy(outer, key)
	for i := range inner {
		inner[i] ^= innerPad
		outer[i] ^= outerPad
	}
}

func moduleHMAC(newHash func() hash.Hash, key, message []byte) []byte {
	mac := hmac.New(newHash, key)
	mac.Write(message)
	return mac.Sum(nil)
}
