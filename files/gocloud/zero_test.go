package gocloud_test

import (
	"testing"

	"gocloud.dev/blob/memblob"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// A bucket that was made of nothing refuses every operation, also through package blob.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		t.Fatal(err)
	}
	inner := memblob.OpenBucket(nil)
	defer inner.Close()
	for _, b := range []*gocloud.Bucket{gocloud.New(nil, "test", box, gocloud.Options{}), gocloud.New(inner, "test", nil, gocloud.Options{}), gocloud.New(inner, "", box, gocloud.Options{})} {
		zerotest.Methods(t, b)
		outer := b.Blob()
		zerotest.Calls(t, map[string]func() error{
			"ReadAll":    func() error { _, err := outer.ReadAll(ctx, "a"); return err },
			"WriteAll":   func() error { return outer.WriteAll(ctx, "a", []byte("x"), nil) },
			"Attributes": func() error { _, err := outer.Attributes(ctx, "a"); return err },
			"Copy":       func() error { return outer.Copy(ctx, "b", "a", nil) },
			"Delete":     func() error { return outer.Delete(ctx, "a") },
			"List":       func() error { _, err := outer.List(nil).Next(ctx); return err },
		})
	}
}
