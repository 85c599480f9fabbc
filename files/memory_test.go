package files

import (
	"bytes"
	"io"
	"runtime"
	"testing"
)

// A file 32 times as long takes no buffer more. Not parallel: it reads a counter
// of the whole process.
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
		const margin = 1200 << 10 // one worker's buffers, which a short file may do without
		if s, l := seal(small), seal(large); l-s > margin || l > 3<<20 {
			t.Errorf("%d workers: sealing allocates %d bytes for %d, %d for %d", workers, s, small, l, large)
		}
		if s, l := open(small), open(large); l-s > margin || l > 3<<20 {
			t.Errorf("%d workers: opening allocates %d bytes for %d, %d for %d", workers, s, small, l, large)
		}
	}
}
