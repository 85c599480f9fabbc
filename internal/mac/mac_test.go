package mac

import (
	"bytes"
	"crypto/hkdf"
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
			if got, want := SHA256(key, message[:size/2], message[size/2:]), moduleHMAC(sha256.New, key, [][]byte{message}); !bytes.Equal(got[:], want) {
				t.Errorf("SHA256 of %d bytes under %d = %x, want %x", size, keySize, got, want)
			}
			if got, want := SHA512(key, message[:size/2], message[size/2:]), moduleHMAC(sha512.New, key, [][]byte{message}); !bytes.Equal(got[:], want) {
				t.Errorf("SHA512 of %d bytes under %d = %x, want %x", size, keySize, got, want)
			}
		}
	}
}

// Expand is HKDF-Expand, of one block and of several.
func TestNativeExpand(t *testing.T) {
	t.Parallel()
	for _, keySize := range []int{32, 64} {
		key := bytes.Repeat([]byte{0xa7}, keySize)
		for _, label := range []string{"", "example", string(bytes.Repeat([]byte("long "), 100))} {
			for _, size := range []int{1, 31, 32, 63, 64, 65, 128, MaxExpand} {
				want, err := hkdf.Expand(sha512.New, key, label, size)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := Expand(key, label, size); err != nil || !bytes.Equal(got, want) {
					t.Errorf("Expand(%d bytes, %q, %d) = %x, %v, want %x", keySize, label, size, got, err, want)
				}
			}
		}
		if _, err := Expand(key, "example", MaxExpand+1); err == nil {
			t.Errorf("Expand(%d bytes, %q, %d) succeeded", keySize, "example", MaxExpand+1)
		}
	}
}
