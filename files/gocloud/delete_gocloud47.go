//go:build gocloud47

package gocloud

import (
	"context"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
)

// If the next line does not compile, the program has gocloud.dev v0.46.0 or
// older: build it without -tags gocloud47.
var _ driver.Bucket = driverBucket{}

// Delete deletes the object, then its key.
func (d driverBucket) Delete(ctx context.Context, key string, o *driver.DeleteOptions) error {
	return d.deleteWith(ctx, key, func() error {
		return d.inner.DeleteWithOptions(ctx, key, &blob.DeleteOptions{BeforeDelete: o.BeforeDelete})
	})
}
