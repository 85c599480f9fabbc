package files

import (
	"context"
	"io"
	"os"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/files/lockbox"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// lockboxJobs are objects of the Ruby gem, in constant memory: one AES-GCM message,
// of which nothing may come out before all of it was checked.
func lockboxJobs(folder string, seal, open func()) ([]job.Job, error) {
	codec, err := lockbox.New(limit.Random(32), lockbox.Options{TempDir: folder})
	if err != nil {
		return nil, err
	}
	encrypt := func(dst io.Writer) error {
		return codec.Seal(context.Background(), dst, io.LimitReader(endless{}, objectSize), nil)
	}
	object, err := os.CreateTemp(folder, "lockbox")
	if err != nil {
		return nil, err
	}
	if err := encrypt(object); err != nil {
		return nil, err
	}
	decrypt := func(src io.Reader) func() {
		return func() {
			job.OrPanic(object.Seek(0, io.SeekStart))
			job.Must(codec.Open(context.Background(), io.Discard, src, nil))
		}
	}
	return []job.Job{
		{Name: "encrypt 64 MiB for Lockbox", Ours: func() { job.Must(encrypt(io.Discard)) }, Limit: seal},
		{Name: "decrypt 64 MiB of Lockbox", Ours: decrypt(object), Limit: open},
		{Name: "decrypt 64 MiB of Lockbox, not seekable", Ours: decrypt(struct{ io.Reader }{object}), Limit: open},
	}, nil
}
