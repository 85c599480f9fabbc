package attach_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// What a derived file may hold is limited like an upload, whatever its function does with
// the error.
func TestDerivedSize(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, func(c *attach.Config) { c.MaxSize, c.Grace = 1000, time.Millisecond })
	c := w.insert(t, 1)
	a := w.attach(t, c, "scans", []byte("original"))
	for _, test := range []struct {
		declared int64
		written  int
		want     error
	}{{0, 1000, nil}, {0, 1001, attach.ErrSize}, {0, 1 << 20, attach.ErrSize}, {5, 5, nil}, {5, 4, attach.ErrSize}, {5, 6, attach.ErrSize}, {1001, 1001, attach.ErrSize}} {
		p, err := w.manager.Derive(t.Context(), c, a, "small", attach.Options{Size: test.declared}, func(dst io.Writer, _ *attach.File) error {
			for range test.written {
				dst.Write([]byte("x")) // as a careless function
			}
			return nil
		})
		if !errors.Is(err, test.want) {
			t.Errorf("Derive of %d bytes, %d declared = %v, want %v", test.written, test.declared, err, test.want)
		}
		if err == nil {
			must(t, p.Discard(t.Context()))
		}
	}
	w.sweep(t)
	w.clean(t, 1)
}

// A record that was read before its first file was attached has no data key yet.
func TestOpenFromRecordReadBeforeItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	w.exec(t, "INSERT INTO customers (id, name) VALUES (1, 'Ada')")
	before := w.read(t, 1)
	a := w.attach(t, w.read(t, 1), "scans", []byte("original"))
	f, err := w.manager.OpenFrom(t.Context(), before, a)
	must(t, err)
	must(t, f.Close())
	w.holds(t, w.derive(t, before, a), []byte("ori"))
}
