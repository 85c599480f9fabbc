package lockbox

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/nacl/box"
	"golang.org/x/crypto/nacl/secretbox"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
)

// most is how many times the plain layout a box may take.
const most = 1.15

// plainBox is the limit: a layout written with the standard library and
// golang.org/x/crypto and nothing around it. Both append to dst.
type plainBox struct {
	seal func(dst, plaintext []byte) []byte
	open func(dst, box []byte) ([]byte, bool)
}

// newPlainBox returns the layout of an algorithm, and a box under the same keys.
func newPlainBox(b *testing.B, algorithm Algorithm) (plainBox, *Box) {
	b.Helper()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	key := [KeySize]byte(testKey(1))
	switch algorithm {
	case AESGCM:
		block, err := aes.NewCipher(key[:])
		check(err)
		aead, err := cipher.NewGCMWithRandomNonce(block)
		check(err)
		return plainBox{
			seal: func(dst, plaintext []byte) []byte { return aead.Seal(dst, nil, plaintext, nil) },
			open: func(dst, box []byte) ([]byte, bool) {
				plaintext, err := aead.Open(dst, nil, box, nil)
				return plaintext, err == nil
			},
		}, newTestBox(b, Options{})
	case XChaCha20:
		aead, err := chacha20poly1305.NewX(key[:])
		check(err)
		return plainBox{
			seal: func(dst, plaintext []byte) []byte {
				dst, nonce := appendNonce(dst)
				return aead.Seal(dst, nonce, plaintext, nil)
			},
			open: func(dst, box []byte) ([]byte, bool) {
				plaintext, err := aead.Open(dst, box[:24], box[24:], nil)
				return plaintext, err == nil
			},
		}, newTestBox(b, Options{Algorithm: XChaCha20})
	case XSalsa20:
		return plainBox{
			seal: func(dst, plaintext []byte) []byte {
				dst, nonce := appendNonce(dst)
				return secretbox.Seal(dst, plaintext, (*[24]byte)(nonce), &key)
			},
			open: func(dst, box []byte) ([]byte, bool) {
				return secretbox.Open(dst, box[24:], (*[24]byte)(box), &key)
			},
		}, newTestBox(b, Options{Algorithm: XSalsa20})
	case Hybrid:
		encryption, decryption, err := GenerateHybridKeys()
		check(err)
		ours, err := NewHybrid(encryption, decryption, Options{})
		check(err)
		var sealing, opening [KeySize]byte
		box.Precompute(&sealing, (*[KeySize]byte)(encryption), (*[KeySize]byte)(encryption[KeySize:]))
		box.Precompute(&opening, (*[KeySize]byte)(decryption[KeySize:]), (*[KeySize]byte)(decryption))
		return plainBox{
			seal: func(dst, plaintext []byte) []byte {
				dst, nonce := appendNonce(dst)
				return box.SealAfterPrecomputation(dst, plaintext, (*[24]byte)(nonce), &sealing)
			},
			open: func(dst, sealed []byte) ([]byte, bool) {
				return box.OpenAfterPrecomputation(dst, sealed[24:], (*[24]byte)(sealed), &opening)
			},
		}, ours
	}
	b.Fatalf("no plain layout of %s", algorithm)
	panic("unreachable")
}

// appendNonce returns dst with a random nonce of 24 bytes, and the nonce in it.
func appendNonce(dst []byte) (longer, nonce []byte) {
	n := len(dst)
	dst = append(dst, make([]byte, 24)...)
	rand.Read(dst[n:])
	return dst, dst[n:]
}

// againstPlain compares every algorithm and size, as bytes and in base64.
func againstPlain(b *testing.B, f func(b *testing.B, plain plainBox, box *Box, plaintext []byte, text bool)) {
	for _, algorithm := range algorithms {
		for _, size := range []int{32, 4 << 10} {
			for _, form := range []string{"bytes", "text"} {
				b.Run(fmt.Sprintf("%s/%d/%s", algorithm, size, form), func(b *testing.B) {
					plain, box := newPlainBox(b, algorithm)
					f(b, plain, box, bytes.Repeat([]byte("x"), size), form == "text")
				})
			}
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	againstPlain(b, func(b *testing.B, plain plainBox, box *Box, plaintext []byte, text bool) {
		// Room for everything on both sides: who reuses buffers pays for none.
		sealed, encoded, buf := make([]byte, 0, 16<<10), make([]byte, 0, 16<<10), make([]byte, 0, 16<<10)
		limit := func() { sealed = plain.seal(sealed[:0], plaintext) }
		seal := box.Seal
		if text {
			limit = func() {
				sealed = plain.seal(sealed[:0], plaintext)
				encoded = base64.StdEncoding.AppendEncode(encoded[:0], sealed)
			}
			seal = box.SealText
		}
		ours := func() {
			var err error
			if buf, err = seal(buf[:0], plaintext, nil); err != nil {
				b.Fatal(err)
			}
		}
		limit()
		ours()
		// What the limit leaves out would make it a lower one.
		if len(buf) != len(map[bool][]byte{false: sealed, true: encoded}[text]) {
			b.Fatalf("the box has %d bytes, the plain layout another number", len(buf))
		}
		if got, err := box.Open(nil, sealed, nil); err != nil || !bytes.Equal(got, plaintext) {
			b.Fatalf("Open(plain layout) = %d bytes, %v", len(got), err)
		}
		against.Limit(b, most, limit, ours)
	})
}

func BenchmarkOpen(b *testing.B) {
	againstPlain(b, func(b *testing.B, plain plainBox, box *Box, plaintext []byte, text bool) {
		sealed := plain.seal(nil, plaintext)
		encoded := base64.StdEncoding.AppendEncode(nil, sealed)
		decoded, opened, buf := make([]byte, 0, 16<<10), make([]byte, 0, 16<<10), make([]byte, 0, 16<<10)
		open, from := box.Open, sealed
		if text {
			open, from = box.OpenText, encoded
		}
		against.Limit(b, most, func() {
			in, ok := sealed, false
			if text {
				var err error
				if decoded, err = base64.StdEncoding.AppendDecode(decoded[:0], encoded); err != nil {
					b.Fatal(err)
				}
				in = decoded
			}
			if opened, ok = plain.open(opened[:0], in); !ok {
				b.Fatal("the plain layout does not open")
			}
		}, func() {
			var err error
			if buf, err = open(buf[:0], from, nil); err != nil {
				b.Fatal(err)
			}
		})
	})
}
