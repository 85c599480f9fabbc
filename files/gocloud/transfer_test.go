package gocloud

import (
	"errors"
	"io"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func TestTransfer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		transfer    Transfer
		caller      blob.WriterOptions
		part, tasks int
	}{
		{Transfer{}, blob.WriterOptions{}, 5 << 20, 2},
		{Transfer{PartSize: 16 << 20, Concurrency: 1}, blob.WriterOptions{}, 16 << 20, 1},
		{Transfer{PartSize: 16 << 20, Concurrency: 1}, blob.WriterOptions{BufferSize: 8 << 20, MaxConcurrency: 4}, 8 << 20, 4},
	} {
		if err := c.transfer.apply(&c.caller); err != nil || c.caller.BufferSize != c.part || c.caller.MaxConcurrency != c.tasks {
			t.Errorf("%+v: parts of %d bytes, %d at a time, %v, want %d and %d", c.transfer, c.caller.BufferSize, c.caller.MaxConcurrency, err, c.part, c.tasks)
		}
	}
	inner := memblob.OpenBucket(nil)
	for _, wrong := range []Transfer{{PartSize: -1}, {Concurrency: -1}} {
		err := AttachmentsWith(inner, wrong).Put(t.Context(), "name", func(w io.Writer) error { return nil })
		if !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Put with %+v = %v, want ErrConfig", wrong, err)
		}
		err = New(inner, "test", kmstest.Box(t), Options{Transfer: wrong}).Blob().WriteAll(t.Context(), "a", nil, nil)
		if !errors.Is(err, kmsencrypted.ErrConfig) || gcerrors.Code(err) != gcerrors.InvalidArgument {
			t.Errorf("WriteAll with %+v = %v, want ErrConfig", wrong, err)
		}
	}
	if objects, sidecars := stored(t, inner); len(objects)+len(sidecars) > 0 {
		t.Errorf("%v and %v were written", objects, sidecars)
	}
}
