package gocloud

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/kmsencrypted/kmsencrypted/files/attach/buckettest"
)

func TestAttachments(t *testing.T) {
	t.Parallel()
	for name, open := range inners {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			buckettest.Run(t, Attachments(open(t)))
		})
	}
}

// After a failed Put no object remains, even if the store had committed it.
func TestAttachmentsFailedCommit(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"write", "commit", "committed"} {
		store := newSpy(memblob.OpenBucket(nil))
		store.hear(func(op, _ string) error {
			if op == at {
				return errCrash
			}
			return nil
		})
		b := Attachments(blob.NewBucket(store))
		err := b.Put(t.Context(), "x", func(w io.Writer) error { _, err := w.Write(pattern(100)); return err })
		if objects, _ := stored(t, store.Bucket); !errors.Is(err, errCrash) || len(objects) != 0 {
			t.Errorf("%s fails: %v, left are %q", at, err, objects)
		}
	}
}

func TestAttachmentsReadAhead(t *testing.T) {
	t.Parallel()
	store := newSpy(memblob.OpenBucket(nil))
	object := pattern(8 << 20)
	write(t, store.Bucket, "x", object)
	o, err := Attachments(blob.NewBucket(store)).Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	got := store.counted(func() {
		if all, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size())); err != nil || !bytes.Equal(all, object) {
			t.Errorf("%d bytes, %v", len(all), err)
		}
	})
	if got.requests > 10 || got.bytes > int64(len(object)) {
		t.Errorf("reading in order: %+v", got)
	}
}
