//go:build !gocloud47

package gocloud

import "context"

func (s *spy) Delete(ctx context.Context, key string) error {
	return s.deleteWith(key, func() error { return s.Bucket.Delete(ctx, key) })
}
