package lockbox

import (
	"crypto/cipher"
	"io"
	"os"
	"path/filepath"
	"testing"
)

const benchmarkSize = 32 << 20

// The limit: AES-256-GCM of the standard library over 16 KiB chunks in memory.
func limit(b *testing.B, run func(gcm cipher.AEAD, nonce, in, out []byte)) {
	gcm := testGCM(b)
	nonce, in, out := make([]byte, nonceSize), make([]byte, 16<<10), make([]byte, 16<<10+tagSize)
	b.SetBytes(benchmarkSize)
	for b.Loop() {
		for range benchmarkSize / len(in) {
			run(gcm, nonce, in, out)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func BenchmarkSeal(b *testing.B) {
	b.Run("limit", func(b *testing.B) {
		limit(b, func(gcm cipher.AEAD, nonce, in, out []byte) { gcm.Seal(out[:0], nonce, in, nil) })
	})
	b.Run("ours", func(b *testing.B) {
		codec, _ := newCodecs(b, Options{})
		b.SetBytes(benchmarkSize)
		b.ReportAllocs()
		for b.Loop() {
			if err := codec.Seal(b.Context(), io.Discard, io.LimitReader(endless{}, benchmarkSize), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	b.Run("limit", func(b *testing.B) {
		var sealed []byte
		limit(b, func(gcm cipher.AEAD, nonce, in, out []byte) {
			if sealed == nil {
				sealed = gcm.Seal(nil, nonce, in, nil)
			}
			if _, err := gcm.Open(out[:0], nonce, sealed, nil); err != nil {
				b.Fatal(err)
			}
		})
	})
	codec, box := newCodecs(b, Options{TempDir: b.TempDir()})
	object, err := box.Seal(nil, make([]byte, benchmarkSize), nil)
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "object")
	if err := os.WriteFile(path, object, 0o600); err != nil {
		b.Fatal(err)
	}
	for name, wrap := range map[string]func(*os.File) io.Reader{
		"ours, a file":   func(f *os.File) io.Reader { return f },
		"ours, a stream": func(f *os.File) io.Reader { return stream{f} },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(benchmarkSize)
			b.ReportAllocs()
			for b.Loop() {
				file, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				if err := codec.Open(b.Context(), io.Discard, wrap(file), nil); err != nil {
					b.Fatal(err)
				}
				file.Close()
			}
		})
	}
}
