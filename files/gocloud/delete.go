package gocloud

import "context"

// deleteWith deletes the object with remove, then its key.
func (d driverBucket) deleteWith(ctx context.Context, key string, remove func() error) error {
	if err := d.check(key); err != nil {
		return err
	}
	id, _ := d.fileID(ctx, key) // an object that is not ours has no sidecar
	if err := remove(); err != nil {
		return err
	}
	d.dropSidecar(ctx, key, id)
	return nil
}
