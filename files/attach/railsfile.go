package attach

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
	filebox "github.com/kmsencrypted/kmsencrypted/files/lockbox"
)

// RailsPending is an uploaded file that is not attached yet. It is not safe for
// concurrent use.
type RailsPending[R any] struct {
	rails  *Rails[R]
	row    *R
	b      *Blob
	column string // the key column of the data key, for a file encrypted under it
}

// Upload encrypts src as Rails would and returns when the object is durable, like
// [Manager.Upload]. A file under the record's data key needs a record that was
// read with its data key. Otherwise Upload returns [kmsencrypted.ErrNoDataKey].
func (r *Rails[R]) Upload(ctx context.Context, row *R, name string, src io.Reader, o Options) (*RailsPending[R], error) {
	if err := r.usable(row, src); err != nil {
		return nil, err
	}
	if err := r.records.named(name); err != nil {
		return nil, err
	}
	if err := r.records.config.checkSize(o); err != nil {
		return nil, err
	}
	bucket, err := r.records.config.bucketFor(ctx, name, o)
	if err != nil {
		return nil, err
	}
	p := &RailsPending[R]{rails: r, row: row, b: &Blob{Name: name, Service: bucket, FileName: CleanName(o.Name)}}
	if err := r.put(ctx, p, src, o); err != nil {
		return nil, err
	}
	return p, nil
}

// put writes the object of a pending file.
func (r *Rails[R]) put(ctx context.Context, p *RailsPending[R], src io.Reader, o Options) error {
	if o.Size < 0 {
		return ErrSize
	}
	a := r.config.Attachments[p.b.Name]
	codec, err := r.codecFor(ctx, p, a)
	if err != nil {
		return err
	}
	limited := &source{Reader: src, limit: r.records.limit(o)}
	head := make([]byte, sniffLen)
	n, err := fullio.Read(limited, head)
	if err != nil && err != io.EOF {
		return err
	}
	head = head[:n]
	p.b.ContentType = railsContentType(contentType(head, o.ContentType))
	var associated []byte
	if a.AssociatedData != nil {
		associated = a.AssociatedData(p.row)
	}
	var done atomic.Int64
	sum := md5.New()
	counted := &counter{}
	object := newObjectName()
	err = r.store(ctx, p.b.Service, object, &done, func(ctx context.Context, w io.Writer) error {
		counted.w = io.MultiWriter(w, sum)
		file := progress{io.MultiReader(&byteReader{head}, limited), &done, o}
		var err error
		if codec == nil {
			_, err = io.Copy(counted, file)
		} else {
			err = codec.Seal(ctx, counted, file, associated)
		}
		if err == nil {
			err = limited.check(o)
		}
		return err
	})
	clear(head)
	p.b.Key, p.b.ObjectSize, p.b.Checksum = object, counted.n, base64.StdEncoding.EncodeToString(sum.Sum(nil))
	p.b.Encrypted, p.b.Created = codec != nil, time.Now().UTC().Truncate(time.Microsecond)
	return err
}

// byteReader reads a slice without keeping a copy.
type byteReader struct{ rest []byte }

func (b *byteReader) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// progress reports how much was read.
type progress struct {
	io.Reader
	done *atomic.Int64
	o    Options
}

func (p progress) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if done := p.done.Add(int64(max(n, 0))); n > 0 && p.o.Progress != nil {
		p.o.Progress(done, p.o.Size)
	}
	return n, err
}

// codecFor returns the codec that seals a new file, or nil for a file that is not
// encrypted.
func (r *Rails[R]) codecFor(ctx context.Context, p *RailsPending[R], a RailsAttachment[R]) (*filebox.Codec, error) {
	if a.Plain {
		return nil, nil
	}
	if a.Codec != nil {
		return a.Codec, nil
	}
	if !a.RecordKey {
		key, err := r.masterKey(p.b.Name, a)
		if err != nil {
			return nil, err
		}
		defer clear(key)
		return filebox.New(key, a.Lockbox)
	}
	keys, err := r.model.DataKeys(ctx, r.records.key, p.row)
	if err != nil {
		return nil, err
	}
	defer keys[0].Wipe()
	if keys[0].IsZero() {
		return nil, kmsencrypted.ErrNoDataKey
	}
	if p.column, err = keyText(r.model.Key(r.records.key, p.row)); err != nil {
		return nil, err
	}
	key, err := keys[0].Raw()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return filebox.New(key, a.Lockbox)
}

// Commit attaches the file in the caller's transaction by adding the rows that
// Rails adds; see [Pending.Commit]. It returns [kmsencrypted.ErrConflict] if the
// file is under the record's data key and the record has got another one
// meanwhile: upload the file again.
func (p *RailsPending[R]) Commit(ctx context.Context, tx Tx) (*Blob, error) {
	if err := p.usable(tx); err != nil {
		return nil, err
	}
	b := *p.b
	if err := p.commit(ctx, tx, &b); err != nil {
		return nil, p.rails.failed("attach", &b, err)
	}
	return &b, nil
}

func (p *RailsPending[R]) commit(ctx context.Context, tx Tx, b *Blob) error {
	r := p.rails
	record, err := r.recordID(p.row)
	if err != nil {
		return err
	}
	b.RecordID = r.model.ID(p.row)[0]
	if err := r.lockRecord(ctx, tx, p, b); err != nil {
		return err
	}
	if slices.Contains(r.records.config.One, b.Name) {
		taken, err := r.query(ctx, tx, "a.record_id = ? AND a.name = ?{lock}", record, b.Name)
		if err == nil && len(taken) > 0 {
			err = fmt.Errorf("%w: the record has a file there already: delete it first, in the same transaction", kmsencrypted.ErrConflict)
		}
		if err != nil {
			return err
		}
	}
	if err := r.insert(ctx, tx, b, record); err != nil {
		return err
	}
	return r.settle(ctx, tx, b.Service, b.Key)
}

// lockRecord locks a record and checks that it still has the data key that the
// file was sealed under.
func (r *Rails[R]) lockRecord(ctx context.Context, tx Tx, p *RailsPending[R], b *Blob) error {
	if err := r.extend(ctx, tx, b.Service, b.Key); err != nil {
		return err
	}
	now, err := r.records.load(ctx, tx, []string{b.RecordID}, r.dialect.Lock())
	if err != nil || p.column == "" {
		return err
	}
	column, err := keyText(r.model.Key(r.records.key, now))
	if err != nil || column == p.column {
		return err
	}
	keys, err := r.model.DataKeys(ctx, r.records.key, now)
	if err != nil {
		return err
	}
	defer keys[0].Wipe()
	own, err := r.model.DataKeys(ctx, r.records.key, p.row)
	if err != nil {
		return err
	}
	defer own[0].Wipe()
	if !keys[0].Equal(own[0]) {
		return kmsencrypted.ErrConflict
	}
	return nil
}

// Discard gives the file up and deletes its object, like [Pending.Discard].
func (p *RailsPending[R]) Discard(ctx context.Context) error {
	if err := p.usable(); err != nil {
		return err
	}
	return p.rails.discardPending(ctx, p.b.Service, p.b.Key)
}

// Open opens an attached file. It makes one call to the key service if the file is
// under the record's data key and that is not open in row. Open reads the whole
// object once, so that no unauthenticated byte is returned, and compares it with the
// row's checksum. The file reads under ctx. The caller closes it. The errors are those
// of [Manager.Open]; an object that is not the row's is [kmsencrypted.ErrDecrypt], an
// encrypted blob without a checksum [kmsencrypted.ErrMalformed].
func (r *Rails[R]) Open(ctx context.Context, row *R, b *Blob) (*File, error) {
	if err := r.usable(row, b); err != nil {
		return nil, err
	}
	f, err := r.open(ctx, row, b)
	return f, r.failed("open", b, err)
}

func (r *Rails[R]) open(ctx context.Context, row *R, b *Blob) (f *File, err error) {
	if id := r.model.ID(row); id == nil || id[0] != b.RecordID {
		return nil, fmt.Errorf("%w: the blob belongs to another record", kmsencrypted.ErrConfig)
	}
	a, known := r.config.Attachments[b.Name]
	if !known {
		return nil, configError("%s has no attachment %q", r.model.Table(), b.Name)
	}
	bucket := r.buckets[b.Service]
	if bucket == nil {
		return nil, configError("no bucket %q", b.Service)
	}
	object, err := openBlob(ctx, bucket, b)
	if err != nil {
		return nil, r.missing(ctx, b.Service, err)
	}
	defer func() {
		if err != nil {
			object.Close()
		}
	}()
	attachment := Attachment{Table: r.model.BoundTable(), RecordID: []string{b.RecordID}, Name: b.Name, Bucket: b.Service, Object: b.Key,
		Format: files.Lockbox, ObjectSize: b.ObjectSize, FileName: CleanName(b.FileName), ContentType: b.ContentType, Created: b.Created}
	attachment.File, err = b.checksum()
	if a.Plain || a.Migrating && !b.Encrypted { // not read before the caller reads it, and a composed blob has no checksum
		return newFile(ctx, attachment, object, object.Size(), object), nil
	}
	if err != nil {
		return nil, err
	}
	codec, err := r.codecOf(ctx, row, b, a)
	if err != nil {
		return nil, err
	}
	var associated []byte
	if a.AssociatedData != nil {
		associated = a.AssociatedData(row)
	}
	read := newSumming(object)
	at, err := codec.NewReaderAt(ctx, read, object.Size(), associated)
	if err != nil {
		return nil, err
	}
	if err := read.check(attachment.File); err != nil {
		at.Close()
		return nil, err
	}
	return newFile(ctx, attachment, at, at.Size(), closers{at, object}), nil
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, closer := range c {
		errs = append(errs, closer.Close())
	}
	return errors.Join(errs...)
}

// codecOf returns the codec that opens an existing file.
func (r *Rails[R]) codecOf(ctx context.Context, row *R, b *Blob, a RailsAttachment[R]) (*filebox.Codec, error) {
	if a.Codec != nil {
		return a.Codec, nil
	}
	key, err := r.fileKey(ctx, row, b, a)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return filebox.New(key, a.Lockbox)
}

// fileKey returns the key of an existing file. The caller clears it.
func (r *Rails[R]) fileKey(ctx context.Context, row *R, b *Blob, a RailsAttachment[R]) ([]byte, error) {
	if !a.RecordKey {
		return r.masterKey(b.Name, a)
	}
	keys, err := r.model.DataKeys(ctx, r.records.key, row)
	if err != nil {
		return nil, err
	}
	defer keys[0].Wipe()
	if keys[0].IsZero() {
		return nil, kmsencrypted.ErrNoDataKey
	}
	if !b.Adopted() {
		return keys[0].Raw()
	}
	place, err := r.place(b)
	if err != nil {
		return nil, err
	}
	key, err := files.UnwrapKey(keys[0], b.wrappedKey(), place)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return key.Raw()
}
