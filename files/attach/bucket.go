package attach

import (
	"context"
	"io"
)

// Bucket keeps objects: bytes under a name, which never change. [Dir] and
// [Memory] are buckets; package files/gocloud makes one of S3, Google Cloud
// Storage, Azure and whatever else gocloud.dev/blob knows. Package
// files/attach/buckettest tests one. A Bucket is safe for concurrent use.
//
// Names are 28 letters a to z and digits where this package makes them. They may
// hold what [io/fs.ValidPath] allows where Active Storage made them.
type Bucket interface {
	// Put stores what write writes, under a name that no object has. When it
	// returns nil the object is complete, durable, and found by Open. When it
	// returns an error, which is write's own if that failed, there is no object of
	// that name; should the process die on the way, Delete removes what is left.
	// A name that is taken is [io/fs.ErrExist]; a store that cannot tell may do
	// without, because nobody asks for the same name twice.
	Put(ctx context.Context, name string, write func(io.Writer) error) error
	// Open opens an object; the caller closes it. Reading may go on for as long as
	// ctx lives. An object that is not there is [io/fs.ErrNotExist].
	Open(ctx context.Context, name string) (Object, error)
	// Delete removes an object and whatever a Put that did not end left of it. One
	// that is not there is no error.
	Delete(ctx context.Context, name string) error
}

// Object is an object that can be read in any part. ReadAt is safe for
// concurrent use.
type Object interface {
	io.ReaderAt
	io.Closer
	// Size is that of the object in bytes.
	Size() int64
}
