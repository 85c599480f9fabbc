package files

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
)

const benchmarkSize = 64 << 20

// bare is what no format can be faster than: AES-256-GCM of the standard library,
// one chunk over and over.
type bare struct {
	aead          cipher.AEAD
	nonce         []byte
	plain, sealed []byte
}

func newBare(b *testing.B) *bare {
	b.Helper()
	block, err := aes.NewCipher(make([]byte, aeadKeySize))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	l := &bare{aead: aead, nonce: make([]byte, nonceSize), plain: make([]byte, ChunkSize)}
	l.sealed = aead.Seal(nil, l.nonce, l.plain, nil)
	return l
}

// seal, open and openFile return what does one batch, with buffers of its own.
func (l *bare) seal() (batch func(first int)) {
	out := make([]byte, 0, sealedChunk)
	return func(int) {
		for range batchChunks {
			l.aead.Seal(out, l.nonce, l.plain, nil)
		}
	}
}

func (l *bare) open() (batch func(first int)) {
	out := make([]byte, 0, ChunkSize)
	return func(int) {
		for range batchChunks {
			l.openOne(out, l.sealed)
		}
	}
}

func (l *bare) openOne(out, sealed []byte) {
	if _, err := l.aead.Open(out, l.nonce, sealed, nil); err != nil {
		panic(err)
	}
}

// openFile reads what it opens from a file in the page cache, as a reader has to.
func (l *bare) openFile(b *testing.B) func() (batch func(first int)) {
	file := benchmarkFile(b, bytes.Repeat(l.sealed, benchmarkSize/ChunkSize))
	return func() (batch func(first int)) {
		buffer, out := make([]byte, batchChunks*sealedChunk), make([]byte, 0, ChunkSize)
		return func(first int) {
			if _, err := file.ReadAt(buffer, int64(first)*sealedChunk); err != nil {
				panic(err)
			}
			for sealed := range slices.Chunk(buffer, sealedChunk) {
				l.openOne(out, sealed)
			}
		}
	}
}

// onCores shares benchmarkSize bytes out, batch by batch to whoever is done.
func onCores(cores int, f func() (batch func(first int))) func() {
	return func() {
		var taken atomic.Int64
		work := func() {
			batch := f()
			for {
				next := int(taken.Add(batchChunks))
				if next > benchmarkSize/ChunkSize {
					return
				}
				batch(next - batchChunks)
			}
		}
		var all sync.WaitGroup
		for range cores - 1 {
			all.Go(work)
		}
		work()
		all.Wait()
	}
}

func benchmarkFile(b *testing.B, content []byte) *os.File {
	b.Helper()
	path := filepath.Join(b.TempDir(), "object")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	return file
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

func benchmarkDecrypt(b *testing.B, workers int) func() {
	k := NewKey()
	file := benchmarkFile(b, sealBytes(b, k, make([]byte, benchmarkSize)))
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

// "of-limit" is speed over that of the bare cipher on one core, "times" what a
// second core gives.
func BenchmarkEncrypt(b *testing.B) {
	seal := newBare(b).seal
	b.Run("of memory", func(b *testing.B) { against.Pair(b, "of-limit", onCores(1, seal), benchmarkEncrypt(b, 1)) })
	b.Run("2 cores", func(b *testing.B) { against.PairCores(b, "times", benchmarkEncrypt(b, 1), benchmarkEncrypt(b, 2)) })
	b.Run("2 cores, limit", func(b *testing.B) { against.PairCores(b, "times", onCores(1, seal), onCores(2, seal)) })
}

// What is decrypted comes from a file in the page cache. The bare cipher is once
// spared that and once not.
func BenchmarkDecrypt(b *testing.B) {
	l := newBare(b)
	fromFile := l.openFile(b)
	b.Run("of memory", func(b *testing.B) { against.Pair(b, "of-limit", onCores(1, l.open), benchmarkDecrypt(b, 1)) })
	b.Run("of the same file", func(b *testing.B) { against.Pair(b, "of-limit", onCores(1, fromFile), benchmarkDecrypt(b, 1)) })
	b.Run("2 cores", func(b *testing.B) { against.PairCores(b, "times", benchmarkDecrypt(b, 1), benchmarkDecrypt(b, 2)) })
	b.Run("2 cores, limit", func(b *testing.B) { against.PairCores(b, "times", onCores(1, fromFile), onCores(2, fromFile)) })
}

func BenchmarkReadAt(b *testing.B) {
	aead := newBare(b).aead
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

// A record's rotation unwraps and wraps the key of each of its files. What is
// derived from its two data keys costs the first file four rounds of SHA-512 and
// a key schedule for each of them.
func BenchmarkRewrap(b *testing.B) {
	from, to := kmsencrypted.NewDataKey(), kmsencrypted.NewDataKey()
	wrapped, err := WrapKey(from, NewKey(), place)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("limit, one seal under a fresh key", func(b *testing.B) {
		b.ReportAllocs()
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
	b.Run("each further file of a record", func(b *testing.B) {
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
	b.Run("the first file of a record", func(b *testing.B) {
		b.ReportAllocs()
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
