package files

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
)

// interrupted is a source that does not return after so many bytes.
type interrupted struct {
	left int
	stop func()
}

func (s *interrupted) Read(p []byte) (int, error) {
	if s.left == 0 {
		s.stop()
	}
	n := min(len(p), s.left)
	s.left -= n
	return n, nil
}

// A source or destination that panics or ends its goroutine leaves no object that
// opens as a whole, although Close is deferred, and the panic is the caller's.
func TestInterruptedSources(t *testing.T) {
	t.Parallel()
	stops := map[string]func(){"panic": func() { panic("source") }, "Goexit": runtime.Goexit}
	ran := 0
	for name, stop := range stops {
		for _, workers := range []int{1, 2, 4} {
			for _, size := range []int{0, 1, ChunkSize, batchChunks*ChunkSize - 1, batchChunks * ChunkSize, 5*batchChunks*ChunkSize + 7, 20 * batchChunks * ChunkSize} {
				for range 5 { // the worker that reads is a matter of luck
					ran++
					testInterrupted(t, name, workers, func(w *Writer) {
						w.ReadFrom(&interrupted{size, stop})
					}, nil)
				}
			}
		}
	}
	for name, stop := range stops {
		for _, after := range []int{0, 1, 3} {
			ran++
			testInterrupted(t, name+" of the destination", 1, func(w *Writer) {
				chunk := make([]byte, 100_000)
				for range 10 {
					w.Write(chunk)
				}
			}, func(n int) {
				if n == after {
					stop()
				}
			})
		}
	}
	t.Log(ran, "interruptions")
}

// testInterrupted writes in a goroutine of its own with a deferred Close. seen is
// called before each write to the destination with its number.
func testInterrupted(t *testing.T, what string, workers int, write func(*Writer), seen func(n int)) {
	t.Helper()
	key := NewKey()
	var object bytes.Buffer
	var w *Writer
	var closed, again error
	var cause any
	done := make(chan struct{})
	n := 0
	dst := writerFunc(func(p []byte) (int, error) {
		if seen != nil {
			n++
			seen(n - 1)
		}
		return object.Write(p)
	})
	go func() {
		defer close(done)
		defer func() { cause = recover() }()
		var err error
		if w, err = NewWriter(context.Background(), dst, key, Options{Workers: workers}); err != nil {
			panic(err)
		}
		defer func() { again = w.Close() }()
		defer func() { closed = w.Close() }()
		write(w)
	}()
	<-done
	if again == nil || closed != nil && !errors.Is(again, closed) { // the first may not have returned
		t.Errorf("%s, %d workers: Close = %v, again %v, want one error", what, workers, closed, again)
	}
	if want := what[:5] == "panic"; want != (cause != nil) {
		t.Errorf("%s, %d workers: the caller recovers %v", what, workers, cause)
	}
	r, err := NewReader(t.Context(), &object, key, Options{})
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err == nil {
		t.Errorf("%s, %d workers: the object of %d bytes opens as a whole", what, workers, object.Len())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
