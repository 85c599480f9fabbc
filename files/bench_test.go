package files

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

const benchmarkSize = 64 << 20

// The limit: AES-256-GCM of the standard library over 16 KiB chunks in memory,
// with nothing read or written.
func limitSeal(aead cipher.AEAD, in, out []byte) {
	nonce := make([]byte, nonceSize)
	for range benchmarkSize / ChunkSize {
		aead.Seal(out[:0], nonce, in, nil)
	}
}

func limitOpen(b *testing.B, aead cipher.AEAD, in, out []byte) {
	nonce := make([]byte, nonceSize)
	for range benchmarkSize / ChunkSize {
		if _, err := aead.Open(out[:0], nonce, in, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkCipher(b *testing.B) cipher.AEAD {
	b.Helper()
	block, err := aes.NewCipher(make([]byte, aeadKeySize))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	return aead
}

// endless gives zeros, without a cost that is not that of its caller's buffers.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func benchmarkEncrypt(b *testing.B, workers int) func() {
	k := NewKey()
	return func() {
		w, err := NewWriter(b.Context(), io.Discard, k, Options{Workers: workers})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.ReadFrom(io.LimitReader(endless{}, benchmarkSize)); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// benchmarkDecrypt reads from a file in the page cache.
func benchmarkDecrypt(b *testing.B, workers int) func() {
	k := NewKey()
	path := filepath.Join(b.TempDir(), "object")
	if err := os.WriteFile(path, sealBytes(b, k, make([]byte, benchmarkSize)), 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	return func() {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		r, err := NewReader(b.Context(), file, k, Options{Workers: workers})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// atDepth calls f with n steps of 136 bytes more on the stack. The assembly of
// AES-GCM spills counters to the stack; where that meets the key tables modulo
// 4096 it is a fifth slower, so one depth says nothing.
//
//go:noinline
func atDepth(n int, f func()) {
	var pad [96]byte
	if n > 0 {
		atDepth(n-1, f)
	} else {
		f()
	}
	pad[n%len(pad)]++
}

// pair measures both functions in turns, each at the same changing depths, and
// reports the median of first time / second time.
func pair(b *testing.B, unit string, first, second func()) {
	var ratios []float64
	elapsed := func(depth int, f func()) float64 {
		start := time.Now()
		atDepth(depth, f)
		return float64(time.Since(start))
	}
	depth := 0
	for b.Loop() {
		depth = (depth + 7) % 31
		ratios = append(ratios, elapsed(depth, first)/elapsed(depth, second))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], unit)
}

func once(b *testing.B, f func()) {
	b.SetBytes(benchmarkSize)
	depth := 0
	for b.Loop() {
		depth = (depth + 7) % 31
		atDepth(depth, f)
	}
}

func BenchmarkEncrypt(b *testing.B) {
	aead := benchmarkCipher(b)
	in, out := make([]byte, ChunkSize), make([]byte, sealedChunk)
	limit := func() { limitSeal(aead, in, out) }
	b.Run("limit", func(b *testing.B) { once(b, limit) })
	b.Run("ours", func(b *testing.B) { once(b, benchmarkEncrypt(b, 1)) })
	b.Run("ours, 2 workers", func(b *testing.B) { once(b, benchmarkEncrypt(b, 2)) })
	b.Run("of limit", func(b *testing.B) { pair(b, "of-limit", limit, benchmarkEncrypt(b, 1)) })
	b.Run("2 workers to 1", func(b *testing.B) { pair(b, "times", benchmarkEncrypt(b, 1), benchmarkEncrypt(b, 2)) })
}

func BenchmarkDecrypt(b *testing.B) {
	aead := benchmarkCipher(b)
	out := make([]byte, ChunkSize)
	in := aead.Seal(nil, make([]byte, nonceSize), out, nil)
	limit := func() { limitOpen(b, aead, in, out) }
	b.Run("limit", func(b *testing.B) { once(b, limit) })
	b.Run("ours", func(b *testing.B) { once(b, benchmarkDecrypt(b, 1)) })
	b.Run("ours, 2 workers", func(b *testing.B) { once(b, benchmarkDecrypt(b, 2)) })
	b.Run("of limit", func(b *testing.B) { pair(b, "of-limit", limit, benchmarkDecrypt(b, 1)) })
	b.Run("2 workers to 1", func(b *testing.B) { pair(b, "times", benchmarkDecrypt(b, 1), benchmarkDecrypt(b, 2)) })
}

func BenchmarkReadAt(b *testing.B) {
	aead := benchmarkCipher(b)
	k := NewKey()
	object := sealBytes(b, k, make([]byte, benchmarkSize))
	r, err := NewReaderAt(b.Context(), bytes.NewReader(object), int64(len(object)), k)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		size int
	}{{"4 KiB", 4 << 10}, {"64 KiB", 64 << 10}, {"512 KiB", 512 << 10}} {
		p := make([]byte, c.size)
		sealed := aead.Seal(nil, make([]byte, nonceSize), p, nil)
		b.Run(c.name+"/limit", func(b *testing.B) {
			b.SetBytes(int64(c.size))
			nonce := make([]byte, nonceSize)
			for b.Loop() {
				if _, err := aead.Open(p[:0], nonce, sealed, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/ours", func(b *testing.B) {
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			x := uint32(1)
			for b.Loop() {
				x = x*1664525 + 1013904223
				if _, err := r.ReadAt(p, int64(x)%(benchmarkSize-int64(c.size))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A record's rotation unwraps and wraps the key of each of its files.
func BenchmarkRewrap(b *testing.B) {
	from, to := kmsencrypted.NewDataKey(), kmsencrypted.NewDataKey()
	wrapped, err := WrapKey(from, NewKey(), place)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("limit", func(b *testing.B) { // one seal under a fresh key
		key := make([]byte, KeySize)
		for b.Loop() {
			key[0]++
			block, err := aes.NewCipher(key)
			if err != nil {
				b.Fatal(err)
			}
			aead, err := cipher.NewGCMWithRandomNonce(block)
			if err != nil {
				b.Fatal(err)
			}
			aead.Seal(nil, nil, key, nil)
		}
	})
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		old, err := NewWrapper(from)
		if err != nil {
			b.Fatal(err)
		}
		new, err := NewWrapper(to)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			k, err := old.Unwrap(wrapped, place)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := new.Wrap(k, place); err != nil {
				b.Fatal(err)
			}
			k.Wipe()
		}
	})
	b.Run("ours, of a record with one file", func(b *testing.B) {
		for b.Loop() {
			k, err := UnwrapKey(from, wrapped, place)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := WrapKey(to, k, place); err != nil {
				b.Fatal(err)
			}
			k.Wipe()
		}
	})
}
