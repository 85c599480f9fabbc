package files

import (
	"bytes"
	"io"
	"testing"
)

// sizes are those around every border.
var sizes = []int{
	0, 1, 15, 16, 17, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2*ChunkSize - 1, 2 * ChunkSize, 2*ChunkSize + 1,
	batchChunks*ChunkSize - 1, batchChunks * ChunkSize, batchChunks*ChunkSize + 1, 3*batchChunks*ChunkSize + 777,
}

// pattern is plaintext in which no two chunks are equal.
func pattern(n int) []byte {
	out := make([]byte, n)
	x := uint32(n) + 1
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

func fixedKey(t testing.TB, first byte) Key {
	t.Helper()
	k, err := KeyFrom(bytes.Repeat([]byte{first}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sealBytes(t testing.TB, k Key, plaintext []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(t.Context(), &out, k, Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plaintext); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// plainReader and plainWriter hide every method but one.
type (
	plainReader struct{ io.Reader }
	plainWriter struct{ io.Writer }
)

// openers are the ways to read a whole object. Each returns what it gave out
// before an error.
var openers = map[string]func(t testing.TB, k Key, object []byte) ([]byte, error){
	"Read": func(t testing.TB, k Key, object []byte) ([]byte, error) {
		return openRead(t, k, object, 32<<10)
	},
	"Read, little by little": func(t testing.TB, k Key, object []byte) ([]byte, error) {
		return openRead(t, k, object, 1009)
	},
	"WriteTo": func(t testing.TB, k Key, object []byte) ([]byte, error) {
		return openWriteTo(t, k, object, 1)
	},
	"WriteTo, 3 workers": func(t testing.TB, k Key, object []byte) ([]byte, error) {
		return openWriteTo(t, k, object, 3)
	},
	"ReadAt": func(t testing.TB, k Key, object []byte) ([]byte, error) {
		r, err := NewReaderAt(t.Context(), bytes.NewReader(object), int64(len(object)), k)
		if err != nil {
			return nil, err
		}
		p := make([]byte, r.Size())
		n, err := r.ReadAt(p, 0)
		if err == io.EOF && int64(n) == r.Size() {
			err = nil
		}
		return p[:n], err
	},
}

func openRead(t testing.TB, k Key, object []byte, step int) ([]byte, error) {
	r, err := NewReader(t.Context(), bytes.NewReader(object), k, Options{})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err = io.CopyBuffer(plainWriter{&out}, plainReader{r}, make([]byte, step))
	return out.Bytes(), err
}

func openWriteTo(t testing.TB, k Key, object []byte, workers int) ([]byte, error) {
	r, err := NewReader(t.Context(), bytes.NewReader(object), k, Options{Workers: workers})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err = r.WriteTo(&out)
	return out.Bytes(), err
}

var place = Place{Format: Native, Table: "users", ID: []string{"7"}, Attachment: "license", File: ID{1}}
