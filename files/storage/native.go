package storage

import (
	"context"

	"gocloud.dev/blob"

	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
)

// openNativeS3 and openNativeURL open services whose objects are encrypted in the format of
// this library, each under a data key of its own.
func openNativeS3(ctx context.Context, s settings, o Options) (*Service, error) {
	_, client, err := s.client(ctx, o)
	if err != nil {
		return nil, err
	}
	inner, err := s.open(ctx, client)
	if err != nil {
		return nil, err
	}
	return s.native(inner, o)
}

func openNativeURL(ctx context.Context, s settings, o Options) (*Service, error) {
	inner, err := s.openBlob(ctx)
	if err != nil {
		return nil, err
	}
	return s.native(inner, o)
}

// native encrypts what goes to inner.
func (s settings) native(inner *blob.Bucket, o Options) (*Service, error) {
	if o.Box == nil {
		inner.Close()
		return nil, configError("Options.Box is nil")
	}
	native := gocloud.New(inner, s.name, o.Box, gocloud.Options{})
	bucket := native.Blob()
	return &Service{bucket: gocloud.Attachments(bucket), list: listedBlobs(bucket), close: bucket.Close, encrypts: true, native: native}, nil
}

// Native returns the encrypted bucket of a service of kind NativeS3 or NativeURL, whose data keys
// [gocloud.Bucket.Rewrap] moves to the current version of the Box. It is nil for others.
func (s *Service) Native() *gocloud.Bucket {
	if s == nil {
		return nil
	}
	return s.native
}
