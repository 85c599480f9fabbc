//go:build !gocloud47

package gocloud

import (
	"context"

	"gocloud.dev/blob/driver"
)

// If the next line does not compile, the program has gocloud.dev v0.47.0 or
// newer: build it with -tags gocloud47.
var _ driver.Bucket = driverBucket{}

// Delete deletes the object, then its key.
func (d driverBucket) Delete(ctx context.Context, key string) error {
	return d.deleteWith(ctx, key, func() error { return d.inner.Delete(ctx, key) })
}
