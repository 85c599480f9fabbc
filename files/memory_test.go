package files

import (
	"bytes"
	"io"
	"runtime"
	"testing"
)

// A file takes the buffers of its workers, however long it is. Not parallel: it
// reads a counter of the whole process.
func TestConstantMemory(t *testing.T) {
	k := NewKey()
	allocated := func(f func()) int64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return int64(after.TotalAlloc - before.TotalAlloc)
	}
	const small, large = 1 << 20, 32 << 20
	for _, workers := range []int{1, 2} {
		o := Options{Workers: workers}
		seal := func(n int64) int64 {
			return allocated(func() {
				w, err := NewWriter(t.Context(), io.Discard, k, o)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.ReadFrom(io.LimitReader(endless{}, n)); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
		open := func(n int) int64 {
			object := sealBytes(t, k, make([]byte, n))
			return allocated(func() {
				r, err := NewReader(t.Context(), bytes.NewReader(object), k, o)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := r.WriteTo(io.Discard); err != nil {
					t.Fatal(err)
				}
			})
		}
		// Whether the pool has the rooms already is chance.
		batches := (&pipeline{workers: workers}).most()
		most := int64(batches)*2*batchChunks*sealedChunk + 256<<10
		for _, size := range []int{small, large} {
			if n := seal(int64(size)); n > most {
				t.Errorf("%d workers: sealing %d bytes allocates %d, want at most %d", workers, size, n, most)
			}
			if n := open(size); n > most {
				t.Errorf("%d workers: opening %d bytes allocates %d, want at most %d", workers, size, n, most)
			}
		}
	}
}
