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
	// Context returns the encryption context of an object from the name of the bucket
	// and the key; nil means {"bucket": bucket, "object": key}. It must return the same
	// for the same key for as long as the object exists. A context without the key
	// allows the store's own tools to move objects, together with their sidecars, but
	// the key service's audit log then does not show which object was read. A context
	// without the bucket allows them to be moved between buckets.
	Context func(bucket, key string) kmsencrypted.EncryptionContext
	// Transfer bounds the memory of an upload. What a caller sets in
	// [blob.WriterOptions] comes first.
	Transfer Transfer
	// Unnamed returns the encryption context of an object that an older release wrote,
	// when buckets had no name: {"object": key}, if nothing else was configured. Nil
	// refuses such objects with [kmsencrypted.ErrBinding], because they may come from
	// another bucket. [Bucket.Rewrap] gives them the context of today.
	Unnamed func(key string) kmsencrypted.EncryptionContext
}

// Bucket encrypts the objects of another bucket. It is safe for concurrent use.
type Bucket struct {
	inner   *blob.Bucket
	name    string
	box     *kmsencrypted.Box
	options Options
	outer   *blob.Bucket
	readers readers
}

// Encrypt returns a bucket that encrypts what is written to inner, with the
// default options. name is that of [New]. Closing the bucket closes inner.
func Encrypt(inner *blob.Bucket, name string, box *kmsencrypted.Box) *blob.Bucket {
	return New(inner, name, box, Options{}).Blob()
}

// New returns an encrypted view of inner whose keys box encrypts. name is a name of
// the application's for what the bucket holds, such as "contracts": objects open
// under this name only. It is not the name of the bucket in the store, so that a
// bucket may be copied or restored elsewhere, and it must not change. To use only a
// part of a bucket, prefix inner with [blob.PrefixedBucket] and give each part a
// name of its own. With a nil inner or box or an empty name every operation returns
// [kmsencrypted.ErrConfig].
func New(inner *blob.Bucket, name string, box *kmsencrypted.Box, o Options) *Bucket {
	if o.Context == nil {
		o.Context = func(bucket, key string) kmsencrypted.EncryptionContext {
			return kmsencrypted.Context{"bucket": bucket, "object": key}
		}
	}
	b := &Bucket{inner: inner, name: name, box: box, options: o}
	b.outer = blob.NewBucket(driverBucket{b})
	return b
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Bucket, and for one that
// New made of nothing.
func (b *Bucket) usable() error {
	if b == nil || b.inner == nil || b.box == nil || b.name == "" {
		return fmt.Errorf("gocloud: %w: the Bucket was not made by New of a bucket, a name and a Box", kmsencrypted.ErrConfig)
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
