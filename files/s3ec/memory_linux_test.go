package s3ec

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/peakmemory"
)

// onDisk is a bucket of one object, in a file.
type onDisk struct {
	path     string
	metadata map[string]string
}

func (d *onDisk) Put(_ context.Context, _ string, u Upload) (Version, error) {
	f, err := os.Create(d.path)
	if err != nil {
		return Version{}, err
	}
	defer f.Close()
	d.metadata = u.Metadata
	_, err = io.Copy(struct{ io.Writer }{f}, u.Body)
	return Version{}, err
}

func (d *onDisk) Get(_ context.Context, _ string, r Range) (*Object, error) {
	f, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	n := r.Length
	if n == 0 {
		n = info.Size() - r.Offset
	}
	body := struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, r.Offset, n), f}
	return &Object{Body: body, Size: n, Metadata: d.metadata}, nil
}

func (d *onDisk) Delete(context.Context, string) error { return os.Remove(d.path) }

// Writing an object, checking it, and reading it whole and in order take no more memory
// for a large one.
func TestMemory(t *testing.T) {
	peakmemory.Flat(t, func(t *testing.T, size int64) {
		static, err := AES(make([]byte, 32), nil)
		must(t, err)
		c, err := New(&onDisk{path: filepath.Join(t.TempDir(), "object")}, Options{Keys: []Key{static}})
		must(t, err)
		_, err = c.Put(t.Context(), "f", peakmemory.File(size), size, PutOptions{})
		must(t, err)
		r, err := c.Open(t.Context(), "f", OpenOptions{})
		must(t, err)
		defer r.Close()
		peakmemory.CameBack(t, io.NewSectionReader(r, 0, r.Size()), size)
		if n, err := r.WriteTo(io.Discard); n != size || err != nil {
			t.Errorf("WriteTo = %d, %v", n, err)
		}
	})
}
