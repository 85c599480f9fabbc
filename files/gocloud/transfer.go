package gocloud

import (
	"cmp"
	"fmt"

	"gocloud.dev/blob"

	"github.com/kmsencrypted/kmsencrypted"
)

// Transfer is how objects are uploaded. It bounds the memory of an upload to a store that
// takes parts, such as S3. An upload holds about PartSize * (Concurrency + 1), and 2 MiB for encryption, however
// large the file is. n uploads at a time hold n times that. The zero value, which is
// 5 MiB and 2, holds about 17 MiB.
type Transfer struct {
	// PartSize is the size in bytes of a part; 0 means 5 MiB, the least that S3
	// accepts. S3 takes 10,000 parts, so it also limits a file: to 48.8 GiB at 5 MiB.
	PartSize int
	// Concurrency is the number of parts that are sent at a time; 0 means 2. More are
	// faster to a store at a distance.
	Concurrency int
	// BeforeWrite is called before each upload, as that of [blob.WriterOptions], for what
	// only the driver of the store knows, such as a storage class or tags. One in the
	// options of a single upload comes first. An error ends the upload. It is not called
	// for sidecars.
	BeforeWrite func(asFunc func(any) bool) error
}

const (
	defaultPartSize    = 5 << 20
	defaultConcurrency = 2
)

// apply sets what the caller of the store left open.
func (t Transfer) apply(o *blob.WriterOptions) error {
	if t.PartSize < 0 || t.Concurrency < 0 {
		return fmt.Errorf("gocloud: %w: parts of %d bytes, %d at a time", kmsencrypted.ErrConfig, t.PartSize, t.Concurrency)
	}
	if o.BufferSize == 0 {
		o.BufferSize = cmp.Or(t.PartSize, defaultPartSize)
	}
	if o.MaxConcurrency == 0 {
		o.MaxConcurrency = cmp.Or(t.Concurrency, defaultConcurrency)
	}
	if o.BeforeWrite == nil {
		o.BeforeWrite = t.BeforeWrite
	}
	return nil
}
