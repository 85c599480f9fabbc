package gocloud

import (
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/peakmemory"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// An object of 1 GiB takes as much memory as one of 1 MiB, written to a bucket on a
// disk and read back.
func TestPeakMemory(t *testing.T) {
	peakmemory.Flat(t, func(t *testing.T, size int64) {
		inner, err := fileblob.OpenBucket(t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		b := Encrypt(inner, "test", kmstest.Box(t))
		defer b.Close()
		if err := b.Upload(t.Context(), "object", peakmemory.File(size), &blob.WriterOptions{ContentType: "application/octet-stream"}); err != nil {
			t.Fatal(err)
		}
		r, err := b.NewReader(t.Context(), "object", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		peakmemory.CameBack(t, r, size)
	})
}
