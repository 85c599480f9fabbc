package fullio

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// countReader returns what it was told to, whatever fits.
type countReader struct {
	n   int
	err error
}

func (r countReader) Read([]byte) (int, error) { return r.n, r.err }

func TestRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		src  io.Reader
		n    int
		want error
	}{
		"enough":                  {strings.NewReader("123456789"), 5, nil},
		"just enough":             {strings.NewReader("12345"), 5, nil},
		"just enough, with EOF":   {iotest.DataErrReader(strings.NewReader("12345")), 5, nil},
		"byte by byte":            {iotest.OneByteReader(strings.NewReader("12345")), 5, nil},
		"less":                    {strings.NewReader("123"), 3, io.EOF},
		"less, with EOF":          {iotest.DataErrReader(strings.NewReader("123")), 3, io.EOF},
		"nothing":                 {strings.NewReader(""), 0, io.EOF},
		"broken":                  {io.MultiReader(strings.NewReader("123"), iotest.ErrReader(io.ErrClosedPipe)), 3, io.ErrClosedPipe},
		"broken off":              {io.MultiReader(strings.NewReader("123"), iotest.ErrReader(io.ErrUnexpectedEOF)), 3, io.ErrUnexpectedEOF},
		"full, but broken":        {countReader{5, io.ErrClosedPipe}, 5, io.ErrClosedPipe},
		"never anything":          {countReader{}, 0, io.ErrNoProgress},
		"more than there is room": {countReader{n: 6}, 0, ErrCount},
		"less than nothing":       {countReader{n: -1}, 0, ErrCount},
	} {
		n, err := Read(c.src, make([]byte, 5))
		if n != c.n || !errors.Is(err, c.want) || (err == io.EOF) != (c.want == io.EOF) {
			t.Errorf("%s: Read = %d, %v, want %d, %v", name, n, err, c.n, c.want)
		}
	}
}

type shortWriter struct{}

func (shortWriter) Write(p []byte) (int, error) { return len(p) - 1, nil }

func TestWrite(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := Write(&out, []byte("12345")); err != nil || out.String() != "12345" {
		t.Errorf("Write = %q, %v", out.String(), err)
	}
	if err := Write(shortWriter{}, []byte("12345")); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Write to a short writer = %v, want io.ErrShortWrite", err)
	}
	if err := Write(nil, nil); err != nil { // does not touch the writer
		t.Errorf("Write of nothing = %v", err)
	}
}
