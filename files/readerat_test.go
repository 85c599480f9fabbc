package files

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
)

// countingReaderAt counts reads, and returns only half of the bytes if fails is set.
type countingReaderAt struct {
	io.ReaderAt
	reads atomic.Int64
	fails bool
	err   error
}

func (r *countingReaderAt) ReadAt(p []byte, off int64) (int, error) {
	r.reads.Add(1)
	if r.fails {
		n, _ := r.ReaderAt.ReadAt(p[:len(p)/2], off)
		return n, r.err
	}
	return r.ReaderAt.ReadAt(p, off)
}

func TestReadAt(t *testing.T) {
	t.Parallel()
	k := NewKey()
	plaintext := pattern(5*ChunkSize + 1000)
	object := sealBytes(t, k, plaintext)
	src := &countingReaderAt{ReaderAt: bytes.NewReader(object)}
	r, err := NewReaderAt(t.Context(), src, int64(len(object)), k)
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != int64(len(plaintext)) {
		t.Errorf("Size = %d, want %d", r.Size(), len(plaintext))
	}
	borders := []int{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, 3*ChunkSize + 7, 5 * ChunkSize, len(plaintext) - 1, len(plaintext), len(plaintext) + 1}
	for _, off := range borders {
		for _, n := range borders {
			p := make([]byte, n)
			before := src.reads.Load()
			got, err := r.ReadAt(p, int64(off))
			want := plaintext[min(off, len(plaintext)):min(off+n, len(plaintext))]
			if !bytes.Equal(p[:got], want) || (err != nil) != (len(want) < n) || err != nil && err != io.EOF {
				t.Errorf("ReadAt(%d bytes, %d) = %d, %v, want %d", n, off, got, err, len(want))
			}
			if reads := src.reads.Load() - before; reads > 1 || reads == 0 && len(want) > 0 {
				t.Errorf("ReadAt(%d bytes, %d) read the source %d times", n, off, reads)
			}
		}
	}
	if _, err := r.ReadAt(make([]byte, 1), -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ReadAt(-1) = %v, want fs.ErrInvalid", err)
	}
	for _, fault := range []struct {
		err, want error
	}{{io.EOF, ErrTruncated}, {errBroken, errBroken}, {nil, fullio.ErrCount}} {
		src.fails, src.err = true, fault.err
		if n, err := r.ReadAt(make([]byte, 100), 0); n != 0 || !errors.Is(err, fault.want) {
			t.Errorf("ReadAt from a failing source = %d, %v, want %v", n, err, fault.want)
		}
	}
}

func TestReadAtConcurrently(t *testing.T) {
	t.Parallel()
	k := NewKey()
	plaintext := pattern(8*ChunkSize + 100)
	object := sealBytes(t, k, plaintext)
	object[bodyStart+5*sealedChunk] ^= 1 // one chunk is bad
	r, err := NewReaderAt(t.Context(), bytes.NewReader(object), int64(len(object)), k)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			x := uint32(g)
			for range 200 {
				x = x*1664525 + 1013904223
				off, n := int(x>>8)%len(plaintext), 1+int(x>>4)%(3*ChunkSize)
				p := make([]byte, n)
				got, err := r.ReadAt(p, int64(off))
				touchesBad := off < 6*ChunkSize && off+n > 5*ChunkSize
				if !bytes.Equal(p[:got], plaintext[off:off+got]) || errors.Is(err, kmsencrypted.ErrDecrypt) != touchesBad {
					t.Errorf("ReadAt(%d bytes, %d) = %d, %v", n, off, got, err)
					return
				}
				// What is behind the error is nothing of the file.
				if touchesBad && !bytes.Equal(p[got:], make([]byte, n-got)) {
					t.Errorf("ReadAt(%d bytes, %d) left bytes behind its error", n, off)
					return
				}
			}
		})
	}
	all.Wait()
}
