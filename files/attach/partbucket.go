package attach

import (
	"context"
	"net/http"
	"time"
)

// PartBucket is a [Bucket] that takes an object in parts, in any order and from several
// processes. [Dir], [Memory] and the services of kind S3 of package files/storage can.
// Package files/attach/buckettest tests a PartBucket.
type PartBucket interface {
	Bucket
	// BeginParts begins an object of a new name, and returns what the store calls the upload:
	// at most 1024 bytes of UTF-8, possibly none. Nothing of that name can be opened yet.
	BeginParts(ctx context.Context, name string) (upload string, err error)
	// PutPart stores a part, also if it is there already. When it returns nil, the part
	// is durable.
	PutPart(ctx context.Context, name, upload string, p Part, content []byte) error
	// ListParts returns the parts that are stored, ordered by number. It returns
	// [io/fs.ErrNotExist] if there is no such upload, also because it was completed.
	ListParts(ctx context.Context, name, upload string) ([]Part, error)
	// CompleteParts makes the object of these parts, which ListParts has returned, and
	// which are all parts of the object. It fails if one was stored again meanwhile.
	CompleteParts(ctx context.Context, name, upload string, parts []Part) error
	// AbortParts removes the parts that are stored. Later ones are refused. It returns nil if
	// there are none. An empty upload means all of this name: BeginParts may have begun one
	// whose answer was lost.
	AbortParts(ctx context.Context, name, upload string) error
}

// PartSigner is a [PartBucket] that also takes parts from clients, by URLs.
type PartSigner interface {
	PartBucket
	// SignPart returns a URL to which a client can PUT this one part until the time has passed,
	// with the headers that it must send. The store must refuse another length, and other
	// bytes than those of the SHA-256.
	SignPart(ctx context.Context, name, upload string, p Part, valid time.Duration) (url string, header http.Header, err error)
}

// Part is a part of an object.
type Part struct {
	Number       int   // from 1
	Offset, Size int64 // in bytes of the object; [PartBucket.ListParts] may leave out Offset
	// SHA256 is that of the content. It is zero if ListParts does not know it.
	SHA256 [32]byte
	// Tag is what the store knows these bytes by, such as an ETag. Only ListParts sets it.
	Tag string
}
