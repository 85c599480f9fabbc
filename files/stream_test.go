package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/kmsencrypted/kmsencrypted"
)

// Every way of writing makes an object that every way of reading opens.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	k := NewKey()
	writers := map[string]func(w *Writer, p []byte) error{
		"Write": func(w *Writer, p []byte) error { _, err := w.Write(p); return err },
		"Write, little by little": func(w *Writer, p []byte) error {
			_, err := io.CopyBuffer(plainWriter{w}, plainReader{bytes.NewReader(p)}, make([]byte, 1013))
			return err
		},
		"ReadFrom": func(w *Writer, p []byte) error { _, err := w.ReadFrom(plainReader{bytes.NewReader(p)}); return err },
		"ReadFrom, in halves": func(w *Writer, p []byte) error {
			_, err := w.ReadFrom(iotest.HalfReader(iotest.DataErrReader(bytes.NewReader(p))))
			return err
		},
		"Write, ReadFrom twice, Write": func(w *Writer, p []byte) error {
			for i, from := range []int{0, len(p) / 5, len(p) / 2, len(p) * 9 / 10} {
				part := p[from:[]int{len(p) / 5, len(p) / 2, len(p) * 9 / 10, len(p)}[i]]
				var err error
				if i == 0 || i == 3 {
					_, err = w.Write(part)
				} else {
					_, err = w.ReadFrom(bytes.NewReader(part))
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	for _, n := range sizes {
		plaintext := pattern(n)
		want, _ := SealedSize(int64(n))
		for name, write := range writers {
			for workers := 1; workers <= 3; workers += 2 {
				var out bytes.Buffer
				var told int64
				w, err := NewWriter(t.Context(), &out, k, Options{Workers: workers, Progress: func(done int64) {
					if done < told {
						t.Errorf("progress went from %d to %d", told, done)
					}
					told = done
				}})
				if err != nil {
					t.Fatal(err)
				}
				if err := write(w, plaintext); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil || int64(out.Len()) != want || told != int64(n) {
					t.Fatalf("%s, %d bytes: %d bytes, told %d, %v, want %d", name, n, out.Len(), told, err, want)
				}
				for reading, open := range openers {
					if got, err := open(t, k, out.Bytes()); err != nil || !bytes.Equal(got, plaintext) {
						t.Errorf("%s, %d bytes, %s = %d bytes, %v", name, n, reading, len(got), err)
					}
				}
			}
		}
	}
}

func TestReadThenWriteTo(t *testing.T) {
	t.Parallel()
	k := NewKey()
	plaintext := pattern(20*ChunkSize + 5)
	object := sealBytes(t, k, plaintext)
	for _, first := range []int{1, ChunkSize, ChunkSize + 1, 16 * ChunkSize, 19 * ChunkSize, len(plaintext)} {
		var told int64
		r, err := NewReader(t.Context(), bytes.NewReader(object), k, Options{Workers: 2, Progress: func(done int64) { told = done }})
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, first)
		if _, err := io.ReadFull(r, head); err != nil {
			t.Fatal(err)
		}
		var rest bytes.Buffer
		n, err := r.WriteTo(&rest)
		if got := append(head, rest.Bytes()...); err != nil || !bytes.Equal(got, plaintext) || int(n) != rest.Len() || told != int64(len(plaintext)) {
			t.Errorf("Read(%d), WriteTo = %d bytes, %v, told %d", first, n, err, told)
		}
		if n, err := r.Read(head); n != 0 || err != io.EOF {
			t.Errorf("Read after the end = %d, %v, want EOF", n, err)
		}
		if n, err := r.WriteTo(&rest); n != 0 || err != nil {
			t.Errorf("WriteTo after the end = %d, %v, want nothing", n, err)
		}
	}
}

func TestReaderConforms(t *testing.T) {
	t.Parallel()
	k := NewKey()
	plaintext := pattern(2*ChunkSize + 5)
	object := sealBytes(t, k, plaintext)
	r, err := NewReader(t.Context(), iotest.OneByteReader(bytes.NewReader(object)), k, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(plainReader{r}, plaintext); err != nil {
		t.Error(err)
	}
	at, err := NewReaderAt(t.Context(), bytes.NewReader(object), int64(len(object)), k)
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(at.Section(), plaintext); err != nil {
		t.Error(err)
	}
}

var errBroken = errors.New("broken")

// failingReader gives n bytes and then an error.
type failingReader struct {
	n   int
	err error
}

func (r *failingReader) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, r.err
	}
	n := min(r.n, len(p), 5000)
	r.n -= n
	return n, nil
}

// A source that fails must never leave an object that opens. io.ErrUnexpectedEOF
// is what a broken upload gives.
func TestFailingSource(t *testing.T) {
	t.Parallel()
	k := NewKey()
	for _, want := range []error{errBroken, io.ErrUnexpectedEOF, io.ErrNoProgress} {
		for _, n := range sizes {
			for workers := 1; workers <= 2; workers++ {
				var out bytes.Buffer
				w, err := NewWriter(t.Context(), &out, k, Options{Workers: workers})
				if err != nil {
					t.Fatal(err)
				}
				source := &failingReader{n, want}
				if want == io.ErrNoProgress {
					source.err = nil
				}
				got, err := io.Copy(w, source)
				if got != int64(n) || !errors.Is(err, want) {
					t.Errorf("ReadFrom(%d bytes, then %v) = %d, %v", n, want, got, err)
				}
				if err := w.Close(); !errors.Is(err, want) {
					t.Errorf("Close after %v = %v", want, err)
				}
				refused(t, "object of a failed source", k, out.Bytes(), make([]byte, n))
				// The same on the other side.
				object := sealBytes(t, k, pattern(n))
				r, err := NewReader(t.Context(), io.MultiReader(bytes.NewReader(object[:len(object)-1]), source), k, Options{Workers: workers})
				if err != nil {
					t.Fatal(err)
				}
				var opened bytes.Buffer
				_, err = r.WriteTo(&opened)
				if !errors.Is(err, want) || !bytes.HasPrefix(pattern(n), opened.Bytes()) {
					t.Errorf("WriteTo(object of %d bytes, then %v) = %d bytes, %v", n, want, opened.Len(), err)
				}
			}
		}
	}
}

// limitedWriter takes n bytes. Then it fails, or writes short without saying so.
type limitedWriter struct {
	n     int
	err   error
	wrote bytes.Buffer
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	n := min(w.n, len(p))
	w.n -= n
	w.wrote.Write(p[:n])
	if n < len(p) {
		return n, w.err
	}
	return n, nil
}

func TestFailingDestination(t *testing.T) {
	t.Parallel()
	k := NewKey()
	plaintext := pattern(40 * ChunkSize)
	object := sealBytes(t, k, plaintext)
	for _, n := range []int{0, 1, bodyStart, ChunkSize, 17 * ChunkSize, 39 * ChunkSize} {
		for want, given := range map[error]error{errBroken: errBroken, io.ErrShortWrite: nil} {
			for workers := 1; workers <= 3; workers++ {
				dst := &limitedWriter{n: n, err: given}
				w, err := NewWriter(t.Context(), dst, k, Options{Workers: workers})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.ReadFrom(bytes.NewReader(plaintext)); !errors.Is(err, want) {
					t.Errorf("ReadFrom to a destination of %d bytes = %v, want %v", n, err, want)
				}
				if err := w.Close(); !errors.Is(err, want) {
					t.Errorf("Close = %v, want %v", err, want)
				}
				dst = &limitedWriter{n: n, err: given}
				r, err := NewReader(t.Context(), bytes.NewReader(object), k, Options{Workers: workers})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := r.WriteTo(dst); !errors.Is(err, want) || !bytes.HasPrefix(plaintext, dst.wrote.Bytes()) {
					t.Errorf("WriteTo a destination of %d bytes = %v, want %v", n, err, want)
				}
				if _, err := r.Read(make([]byte, 1)); !errors.Is(err, want) {
					t.Errorf("Read after that = %v, want %v", err, want)
				}
			}
		}
	}
}

func TestContextDone(t *testing.T) {
	t.Parallel()
	k := NewKey()
	plaintext := pattern(40 * ChunkSize)
	object := sealBytes(t, k, plaintext)
	ctx, cancel := context.WithCancel(t.Context())
	stop := Options{Workers: 2, Progress: func(done int64) {
		if done > 0 {
			cancel()
		}
	}}
	var out bytes.Buffer
	w, err := NewWriter(ctx, &out, k, stop)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(ctx, bytes.NewReader(object), k, stop)
	if err != nil {
		t.Fatal(err)
	}
	at, err := NewReaderAt(ctx, bytes.NewReader(object), int64(len(object)), k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, &failingReader{1 << 30, nil}); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadFrom = %v, want context.Canceled", err)
	}
	if err := w.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("Close = %v, want context.Canceled", err)
	}
	if _, err := w.Write(plaintext); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Write after Close = %v, want fs.ErrClosed", err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Read = %v, want context.Canceled", err)
	}
	if _, err := at.ReadAt(make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadAt = %v, want context.Canceled", err)
	}
	if _, err := NewReader(ctx, bytes.NewReader(object), k, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("NewReader = %v, want context.Canceled", err)
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 'k')
	holder := struct{ k Key }{k}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{k, &k, holder, &holder, []Key{k}} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, "kkkk") || strings.Contains(got, "6b6b") || strings.Contains(got, "107 107") {
				t.Errorf("Sprintf(%q, key) = %q, which holds the key", verb, got)
			}
		}
	}
	if got := fmt.Sprint(k); got != "[redacted]" {
		t.Errorf("Sprint(key) = %q, want [redacted]", got)
	}
}

func TestKeyAndOptions(t *testing.T) {
	t.Parallel()
	wiped := NewKey()
	wiped.Wipe()
	for name, k := range map[string]Key{"zero": {}, "wiped": wiped} {
		if _, err := NewWriter(t.Context(), io.Discard, k, Options{}); !errors.Is(err, kmsencrypted.ErrWiped) {
			t.Errorf("NewWriter with a %s key = %v, want ErrWiped", name, err)
		}
		if _, err := WrapKey(kmsencrypted.NewDataKey(), k, place); !errors.Is(err, kmsencrypted.ErrWiped) {
			t.Errorf("WrapKey of a %s key = %v, want ErrWiped", name, err)
		}
		if _, err := k.Raw(); !errors.Is(err, kmsencrypted.ErrWiped) {
			t.Errorf("Raw of a %s key = %v, want ErrWiped", name, err)
		}
	}
	if _, err := KeyFrom(make([]byte, KeySize+1)); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("KeyFrom(33 bytes) = %v, want ErrConfig", err)
	}
	for name, p := range map[string]Place{
		"format": {Table: "t", ID: []string{"1"}, Attachment: "a", File: ID{1}}, "table": {Format: Native, ID: []string{"1"}, Attachment: "a", File: ID{1}},
		"attachment": {Format: Native, Table: "t", ID: []string{"1"}, File: ID{1}}, "file": {Format: Native, Table: "t", ID: []string{"1"}, Attachment: "a"},
	} {
		if _, err := WrapKey(kmsencrypted.NewDataKey(), NewKey(), p); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("WrapKey without %s = %v, want ErrConfig", name, err)
		}
	}
	if _, err := WrapKey(kmsencrypted.NewDataKey(), NewKey(), Place{Format: Native, Table: "t", Attachment: "a", File: ID{1}}); !errors.Is(err, kmsencrypted.ErrNoID) {
		t.Errorf("WrapKey without a record = %v, want ErrNoID", err)
	}
	for _, workers := range []int{-1, maxWorkers + 1} {
		if _, err := NewWriter(t.Context(), io.Discard, NewKey(), Options{Workers: workers}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewWriter with %d workers = %v, want ErrConfig", workers, err)
		}
	}
	id := NewID()
	if got, err := ParseID(id.String()); got != id || err != nil {
		t.Errorf("ParseID(%s) = %s, %v", id, got, err)
	}
	for _, text := range []string{"", "00", id.String()[:31], id.String() + "0", id.String()[:31] + "g"} {
		if _, err := ParseID(text); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("ParseID(%q) = %v, want ErrMalformed", text, err)
		}
	}
}
