package gocloud

import (
	"context"
	"fmt"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"

	"github.com/kmsencrypted/kmsencrypted"
)

// Options change how a [Bucket] works. The zero value suits most programs.
type Options struct {
	// Context returns the encryption context of an object; nil means {"object": key}.
	// It must return the same for the same key for as long as the object exists. A
	// context without the key allows the store's own tools to move objects, together
	// with their sidecars, but the key service's audit log then does not show which
	// object was read.
	Context func(key string) kmsencrypted.EncryptionContext
}

// Bucket encrypts the objects of another bucket. It is safe for concurrent use.
type Bucket struct {
	inner   *blob.Bucket
	box     *kmsencrypted.Box
	context func(key string) kmsencrypted.EncryptionContext
	outer   *blob.Bucket
	readers readers
}

// Encrypt returns a bucket that encrypts what is written to inner, with the
// default options. Closing it closes inner.
func Encrypt(inner *blob.Bucket, box *kmsencrypted.Box) *blob.Bucket {
	return New(inner, box, Options{}).Blob()
}

// New returns an encrypted view of inner whose keys box encrypts. To use only a
// part of a bucket, prefix inner with [blob.PrefixedBucket]. With a nil inner or box
// every operation returns [kmsencrypted.ErrConfig].
func New(inner *blob.Bucket, box *kmsencrypted.Box, o Options) *Bucket {
	if o.Context == nil {
		o.Context = func(key string) kmsencrypted.EncryptionContext {
			return kmsencrypted.Context{"object": key}
		}
	}
	b := &Bucket{inner: inner, box: box, context: o.Context}
	b.outer = blob.NewBucket(driverBucket{b})
	return b
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Bucket, and for one that
// New made of nothing.
func (b *Bucket) usable() error {
	if b == nil || b.inner == nil || b.box == nil {
		return fmt.Errorf("gocloud: %w: the Bucket was not made by New of a bucket and a Box", kmsencrypted.ErrConfig)
	}
	return nil
}

// check also checks the key of an object.
func (b *Bucket) check(key string) error {
	if err := b.usable(); err != nil {
		return err
	}
	return checkKey(key)
}

// Blob returns the bucket for everything that gocloud.dev can do. Every call
// returns the same bucket; closing it closes the inner bucket. Its As method
// returns the Bucket into a **Bucket.
func (b *Bucket) Blob() *blob.Bucket {
	if b == nil {
		return nil
	}
	return b.outer
}

// driverBucket implements the driver of package blob.
type driverBucket struct{ *Bucket }

func (d driverBucket) As(i any) bool {
	if p, ok := i.(**Bucket); ok {
		*p = d.Bucket
		return true
	}
	return d.inner.As(i)
}

func (d driverBucket) ErrorAs(err error, i any) bool { return d.inner.ErrorAs(err, i) }

func (d driverBucket) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", ErrSignedURL
}

func (d driverBucket) Close() error { return d.inner.Close() }
