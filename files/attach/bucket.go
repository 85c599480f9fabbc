package attach

import (
	"context"
	"io"
	"iter"
)

// Bucket stores objects: immutable bytes under a name. [Dir] and [Memory] are
// buckets. Package files/gocloud makes buckets from S3, Google Cloud Storage,
// Azure and every other store of gocloud.dev/blob. Package
// files/attach/buckettest tests a Bucket. A Bucket is safe for concurrent use.
//
// Names made by this package have 28 letters a to z and digits, which [SidecarSuffix] may
// follow. Names made by
// Active Storage may be anything that [io/fs.ValidPath] allows.
type Bucket interface {
	// Put stores what write writes under a new name. It calls write once. When Put returns nil, the
	// object is complete and durable, and Open finds it. When Put returns an error,
	// no object of that name exists; an error of write is returned unchanged. If the
	// process dies during Put, Delete removes what is left. Put returns
	// [io/fs.ErrExist] if the name is taken. A store that cannot detect this may
	// omit the check, because this package never uses a name twice.
	Put(ctx context.Context, name string, write func(io.Writer) error) error
	// Open opens an object. The caller closes it. The object can be read until ctx
	// is done. Open returns [io/fs.ErrNotExist] if there is no such object.
	Open(ctx context.Context, name string) (Object, error)
	// Delete removes an object and the remains of an interrupted Put. It returns nil
	// if there is nothing to remove.
	Delete(ctx context.Context, name string) error
}

// Lister is a [Bucket] that can list its objects, as recovery needs it: see [Recovery].
// [Dir], [Memory] and the buckets of package files/gocloud can.
type Lister interface {
	Bucket
	// List returns the names of all objects, in no particular order. An error ends it.
	List(ctx context.Context) iter.Seq2[string, error]
}

// Object is an open object that can be read at any offset. ReadAt is safe for
// concurrent use.
type Object interface {
	io.ReaderAt
	io.Closer
	// Size returns the size of the object in bytes.
	Size() int64
}
