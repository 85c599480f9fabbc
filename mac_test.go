package kmsencrypted

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"testing"
)

// The MACs on the stack are crypto/hmac's, also for keys of a whole block and
// messages that find no room there.
func TestNativeMAC(t *testing.T) {
	t.Parallel()
	for _, keySize := range []int{16, 24, 32, 64} {
		for _, size := range []int{0, 1, 23, 100, usualMessage, usualMessage + 1, 5000} {
			key, message := bytes.Repeat([]byte{0xa7}, keySize), bytes.Repeat([]byte{0x3b}, size)
			if got, want := hmacSHA256(key, message[:size/2], message[size/2:]), moduleHMAC(sha256.New, key, [][]byte{message}); !bytes.Equal(got[:], want) {
				t.Errorf("hmacSHA256 of %d bytes under %d = %x, want %x", size, keySize, got, want)
			}
			if got, want := hmacSHA512(key, message[:size/2], message[size/2:]), moduleHMAC(sha512.New, key, [][]byte{message}); !bytes.Equal(got[:], want) {
				t.Errorf("hmacSHA512 of %d bytes under %d = %x, want %x", size, keySize, got, want)
			}
		}
	}
}
