package s3ec

import (
	"context"
	"io"
)

// Store is a bucket. Package files/s3ec/s3client makes one from a client of AWS's SDK. A
// Store is safe for concurrent use.
type Store interface {
	// Get opens an object, or the part of it that r names. The caller closes the body,
	// which can be read until ctx is done. Get returns [io/fs.ErrNotExist] if there is no
	// such object, and [ErrReplaced] if it is not the one in r.Version.
	Get(ctx context.Context, key string, r Range) (*Object, error)
	// Put stores an object, which exists only when all of u.Body was read without an
	// error. It returns an error of u.Body unchanged or wrapped. It may replace an object,
	// except with u.IfNotExist: then it returns [io/fs.ErrExist].
	Put(ctx context.Context, key string, u Upload) (Version, error)
	// Delete removes an object, and returns nil if there is none.
	Delete(ctx context.Context, key string) error
}

// Range is a part of one version of an object. The zero value is all of the current one.
type Range struct {
	Offset, Length int64 // in bytes; a length of zero means up to the end
	Version        Version
}

// Version identifies the bytes of an object. Either field may be empty.
type Version struct {
	ETag string // with its quotes
	ID   string // in a bucket with versioning
}

// Object is an object, or a part of it.
type Object struct {
	Body     io.ReadCloser
	Size     int64             // of the body, in bytes
	Metadata map[string]string // names in lower case, without x-amz-meta-
	Headers  Headers
	Version  Version
}

// Upload is an object to store.
type Upload struct {
	Body       io.Reader
	Size       int64 // of the body, in bytes; -1 if it is not known
	Metadata   map[string]string
	Headers    Headers
	IfNotExist bool
}

// Headers are stored with an object and returned with it. They are neither encrypted nor
// authenticated.
type Headers struct {
	ContentType, ContentDisposition, CacheControl string
}
