//go:build gocloud47

package gocloud

import (
	"context"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
)

func (s *spy) Delete(ctx context.Context, key string, o *driver.DeleteOptions) error {
	return s.deleteWith(key, func() error {
		return s.Bucket.DeleteWithOptions(ctx, key, &blob.DeleteOptions{BeforeDelete: o.BeforeDelete})
	})
}
