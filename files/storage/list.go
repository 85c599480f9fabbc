package storage

import (
	"context"
	"io"
	"iter"
	"strings"

	"gocloud.dev/blob"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// lister lists the keys that begin with a prefix.
type lister func(ctx context.Context, prefix string) iter.Seq2[string, error]

// except leaves out the keys that are not a program's.
func (l lister) except(own func(key string) bool) lister {
	return func(ctx context.Context, prefix string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for key, err := range l(ctx, prefix) {
				if (err != nil || !own(key)) && !yield(key, err) {
					return
				}
			}
		}
	}
}

// listed asks a bucket that lists all of its objects.
func listed(bucket attach.Lister) lister {
	return func(ctx context.Context, prefix string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for key, err := range bucket.List(ctx) {
				if (err != nil || strings.HasPrefix(key, prefix)) && !yield(key, err) {
					return
				}
			}
		}
	}
}

// listedBlobs asks a bucket that lists by prefix.
func listedBlobs(bucket *blob.Bucket) lister {
	all := lister(func(ctx context.Context, prefix string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for objects := bucket.List(&blob.ListOptions{Prefix: prefix}); ; {
				object, err := objects.Next(ctx)
				if err == io.EOF {
					return
				}
				if err != nil {
					yield("", err)
					return
				}
				if !yield(object.Key, nil) {
					return
				}
			}
		}
	})
	return all.except(func(key string) bool { return key == markName })
}

// markName is the object in which files/gocloud and files/s3ec keep the identity of a store.
const markName = "kms-store"
