package bench

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/files/lockbox"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
)

const chunk = 16 << 10

// limits are what encrypting and decrypting objectSize bytes costs at the least.
func limits(b *testing.B) (seal, open func()) {
	aead := gcm(b)
	nonce := make([]byte, aead.NonceSize())
	in, out := make([]byte, chunk), make([]byte, 0, chunk+aead.Overhead())
	sealed := aead.Seal(nil, nonce, in, nil)
	seal = func() {
		for range objectSize / chunk {
			aead.Seal(out, nonce, in, nil)
		}
	}
	open = func() {
		for range objectSize / chunk {
			if _, err := aead.Open(out, nonce, sealed, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	return seal, open
}

// endless gives zeros at no cost.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// plainReader hides every other method.
type plainReader struct{ io.Reader }

func (p peer) encryptAll(b *testing.B) func() {
	return func() {
		w, err := p.encrypt(io.Discard)
		if err == nil {
			_, err = io.CopyBuffer(w, io.LimitReader(endless{}, objectSize), make([]byte, 1<<20))
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func (p peer) decryptAll(b *testing.B, object *os.File) func() {
	return func() {
		if _, err := object.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		r, err := p.decrypt(object)
		if err == nil {
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 1<<20))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncrypt encrypts from memory to nowhere. "of-limit" is speed over that
// of the limit.
func BenchmarkEncrypt(b *testing.B) {
	seal, _ := limits(b)
	for _, p := range append([]peer{ours(b, 1)}, peers(b)...) {
		b.Run(p.name, func(b *testing.B) { against.Pair(b, "of-limit", seal, p.encryptAll(b)) })
	}
	b.Run("kmsencrypted, 2 cores to 1", func(b *testing.B) {
		against.PairCores(b, "times", ours(b, 1).encryptAll(b), ours(b, 2).encryptAll(b))
	})
}

// BenchmarkDecrypt decrypts a file in the page cache to nowhere.
func BenchmarkDecrypt(b *testing.B) {
	_, open := limits(b)
	plaintext := make([]byte, objectSize)
	for _, p := range append([]peer{ours(b, 1)}, peers(b)...) {
		object := p.object(b, plaintext)
		b.Run(p.name, func(b *testing.B) { against.Pair(b, "of-limit", open, p.decryptAll(b, object)) })
	}
	b.Run("kmsencrypted, 2 cores to 1", func(b *testing.B) {
		one, two := ours(b, 1), ours(b, 2)
		against.PairCores(b, "times", one.decryptAll(b, one.object(b, plaintext)), two.decryptAll(b, two.object(b, plaintext)))
	})
}

// BenchmarkLockbox is for objects of the Ruby gem, in constant memory: one AES-GCM
// message, of which nothing may come out before all of it was checked.
func BenchmarkLockbox(b *testing.B) {
	seal, open := limits(b)
	codec, err := lockbox.New(random(32), lockbox.Options{TempDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encrypt", func(b *testing.B) {
		against.Pair(b, "of-limit", seal, func() {
			if err := codec.Seal(context.Background(), io.Discard, io.LimitReader(endless{}, objectSize), nil); err != nil {
				b.Fatal(err)
			}
		})
	})
	object, err := os.Create(filepath.Join(b.TempDir(), "object"))
	if err != nil {
		b.Fatal(err)
	}
	defer object.Close()
	if err := codec.Seal(b.Context(), object, io.LimitReader(endless{}, objectSize), nil); err != nil {
		b.Fatal(err)
	}
	for name, source := range map[string]func() io.Reader{
		"decrypt a file":   func() io.Reader { return object },
		"decrypt a stream": func() io.Reader { return plainReader{object} },
	} {
		b.Run(name, func(b *testing.B) {
			against.Pair(b, "of-limit", open, func() {
				if _, err := object.Seek(0, io.SeekStart); err != nil {
					b.Fatal(err)
				}
				if err := codec.Open(context.Background(), io.Discard, source(), nil); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}
