package attach

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/internal/parallel"
)

// Recoverable is a file that was found by its sidecar.
type Recoverable struct {
	// Attachment is the row that the file had when the sidecar was written, without
	// WrappedKey. All of it is authenticated.
	Attachment Attachment
	// Written is the time at which the recovery wrap was made. Of two files with one ID
	// the later replaced the other.
	Written time.Time

	card   card
	text   string // of the sidecar
	bucket Bucket
}

// unwrapping is the number of sidecars that are opened at once.
const unwrapping = 16

// Files returns the files in a bucket that have a sidecar, in no particular order. name
// is the name of the bucket in [Config.Buckets]. The files include those that were
// deleted or replaced but not swept yet, and uploads that were never committed. It needs
// no database. It takes a call to the recovery provider for each file.
//
// A sidecar that cannot be used is an error, and the next file follows:
// [kmsencrypted.ErrNotCiphertext], [kmsencrypted.ErrMalformed] and [kmsencrypted.ErrDecrypt] for changed bytes
// and for those of another store, [kmsencrypted.ErrBinding] for the sidecar of another
// bucket or object. An error that concerns all files, such as
// [kmsencrypted.ErrDenied], and an error of the list end it.
func (r Recovery) Files(ctx context.Context, name string, bucket Bucket) iter.Seq2[*Recoverable, error] {
	return func(yield func(*Recoverable, error) bool) {
		lister, ok := bucket.(Lister)
		if err := r.check(); err != nil || !ok {
			if err == nil {
				err = configError("bucket %q cannot list its objects", name)
			}
			yield(nil, err)
			return
		}
		var batch []string
		open := func() (more bool) {
			found, errs := make([]*Recoverable, len(batch)), make([]error, len(batch))
			parallel.Do(len(batch), unwrapping, func(i int) { found[i], errs[i] = r.find(ctx, name, bucket, batch[i]) })
			more = true
			for i := range batch {
				switch {
				case !more:
					found[i].wipe()
				case !yield(found[i], errs[i]), kmsencrypted.ConcernsAll(errs[i]), ctx.Err() != nil:
					more = false
				}
			}
			batch = batch[:0]
			return more
		}
		for object, err := range lister.List(ctx) {
			if err != nil {
				yield(nil, fmt.Errorf("attach: list bucket %s: %w", name, err))
				return
			}
			if _, ok := objectOf(object); !ok {
				continue
			}
			if batch = append(batch, object); len(batch) == unwrapping && !open() {
				return
			}
		}
		open()
	}
}

// find opens a sidecar.
func (r Recovery) find(ctx context.Context, name string, bucket Bucket, sidecar string) (*Recoverable, error) {
	text, err := readSidecar(ctx, bucket, sidecar)
	if err != nil {
		return nil, fmt.Errorf("attach: sidecar %s in bucket %s: %w", sidecar, name, err)
	}
	c, err := r.open(ctx, text)
	if object, _ := objectOf(sidecar); err == nil && (c.a.Bucket != name || c.a.Object != object) {
		c.key.Wipe()
		err = fmt.Errorf("%w: it belongs to object %s in bucket %s", kmsencrypted.ErrBinding, c.a.Object, c.a.Bucket)
	}
	if err != nil {
		return nil, fmt.Errorf("attach: sidecar %s in bucket %s: %w", sidecar, name, err)
	}
	return &Recoverable{Attachment: c.a, Written: time.UnixMilli(c.written).UTC(), card: c, text: text, bucket: bucket}, nil
}

// Open opens the file. The caller closes it. The errors are those of [Manager.Open];
// [fs.ErrNotExist] means that the object was deleted and its sidecar is left.
func (f *Recoverable) Open(ctx context.Context) (*File, error) {
	if f == nil || f.bucket == nil {
		return nil, configError("the Recoverable was not made by Recovery.Files")
	}
	file, err := f.open(ctx)
	if err != nil {
		return nil, f.card.a.failed("recover", err)
	}
	return file, nil
}

func (f *Recoverable) open(ctx context.Context) (*File, error) {
	return openBy(ctx, f.bucket, &f.card.a, func() (files.Key, error) { return f.card.key, nil })
}

// Close wipes the file key. Files that were opened stay open.
func (f *Recoverable) Close() error {
	f.wipe()
	return nil
}

func (f *Recoverable) wipe() {
	if f != nil {
		f.card.key.Wipe()
	}
}
