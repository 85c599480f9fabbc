package gocloud

import (
	"context"

	"gocloud.dev/blob/driver"
)

// Copy decrypts the source and encrypts it again under a new key. A copy made
// inside the store would have the same file id, and so use a sidecar name again
// that another process is about to delete. And if the source were overwritten
// meanwhile, the copy would be left without a key.
func (d driverBucket) Copy(ctx context.Context, to, from string, o *driver.CopyOptions) error {
	if err := d.check(to); err != nil {
		return err
	}
	source, err := d.open(ctx, from, minAhead, nil)
	if err != nil {
		return err
	}
	defer source.card.key.Wipe()
	if o.BeforeCopy != nil {
		// The store makes no copy, so there is no request to change.
		if err := o.BeforeCopy(func(any) bool { return false }); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := d.newWriter(ctx, to, source.attributes, &driver.WriterOptions{})
	if err != nil {
		return err
	}
	if err := source.download(ctx, w); err != nil {
		cancel()
		w.Close()
		return err
	}
	return w.Close()
}
