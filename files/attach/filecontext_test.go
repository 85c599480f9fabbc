package attach_test

import (
	"context"
	"errors"
	"io"
	"testing"
)

// A file ends with the context it was opened under, also where it is decrypted already.
func TestFileEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	a := w.attach(t, w.insert(t, 1), "license", random(1, 1000))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f, err := w.manager.Open(ctx, a)
	must(t, err)
	defer f.Close()
	if _, err := io.ReadFull(f, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := f.Read(make([]byte, 10)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("Read after the end of the context = %d, %v, want context.Canceled", n, err)
	}
	if n, err := f.ReadAt(make([]byte, 10), 0); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("ReadAt after the end of the context = %d, %v, want context.Canceled", n, err)
	}
}
