package gocloud

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"path"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// storedContentType is the content type of every object in the store.
const storedContentType = "application/octet-stream"

// writer encrypts one object.
type writer struct {
	*files.Writer
	ctx    context.Context
	bucket *Bucket
	key    string
	card   string // text of the sidecar
	inner  *blob.Writer
	cancel context.CancelFunc // of inner
}

func (d driverBucket) NewTypedWriter(ctx context.Context, key, contentType string, o *driver.WriterOptions) (driver.Writer, error) {
	w, err := d.newWriter(ctx, key, attributes{
		ContentType:        contentType,
		CacheControl:       o.CacheControl,
		ContentDisposition: o.ContentDisposition,
		ContentEncoding:    o.ContentEncoding,
		ContentLanguage:    o.ContentLanguage,
		Metadata:           o.Metadata,
		// Package blob compares it with what was written before it closes the writer.
		MD5: o.ContentMD5,
	}, o)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// newWriter uses the options in o that concern the request to the store.
func (b *Bucket) newWriter(ctx context.Context, key string, a attributes, o *driver.WriterOptions) (*writer, error) {
	if key == "" {
		return nil, errEmptyKey
	}
	if err := b.check(key); err != nil {
		return nil, err
	}
	if err := checkNewKey(key); err != nil {
		return nil, err
	}
	fileKey := files.NewKey()
	defer fileKey.Wipe() // the cipher stays
	w := &writer{ctx: ctx, bucket: b, key: key}
	var err error
	if w.Writer, err = files.NewWriter(ctx, sink{w}, fileKey, files.Options{}); err != nil {
		return nil, err
	}
	// Call the key service first, so that a refusal costs no upload.
	w.card, err = b.encryptCard(ctx, key, card{id: w.ID(), key: fileKey, attributes: a})
	if err != nil {
		return nil, err
	}
	if len(path.Base(key)) > longPart {
		if err := b.tryName(ctx, key); err != nil {
			return nil, err
		}
	}
	inner, cancel := context.WithCancel(ctx)
	w.cancel = cancel
	options := &blob.WriterOptions{
		BufferSize:                  o.BufferSize,
		MaxConcurrency:              o.MaxConcurrency,
		ContentType:                 storedContentType,
		DisableContentTypeDetection: true,
		BeforeWrite:                 o.BeforeWrite,
		IfNotExist:                  o.IfNotExist,
	}
	if err = b.options.Transfer.apply(options); err == nil {
		w.inner, err = b.inner.NewWriter(inner, key, options)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return w, nil
}

// tryName makes a store that refuses the name of the sidecar say so before the upload. The
// name that it tries is as long and belongs to no object: a sidecar that were there long
// before its object could be deleted by Prune when the object is finished.
func (b *Bucket) tryName(ctx context.Context, key string) error {
	var id files.ID
	rand.Read(id[:])
	if err := b.putSidecar(ctx, key, id, ""); err != nil {
		return fmt.Errorf("gocloud: the sidecar, whose name has %d bytes: %w", len(sidecarName(key, id)), err)
	}
	b.dropSidecar(context.WithoutCancel(ctx), key, id)
	return nil
}

var errEmptyKey = located("write", "", kmsencrypted.ErrConfig)

// sink passes ciphertext to the store's writer, which is opened at the first
// write.
type sink struct{ w *writer }

func (s sink) Write(p []byte) (int, error) { return s.w.inner.Write(p) }

// Upload writes the whole file at once.
func (w *writer) Upload(r io.Reader) error {
	_, err := w.ReadFrom(r)
	return err
}

// Close makes the file visible: first its key, then the object. If it fails
// before the object was sent, no new object exists and the old one stays.
func (w *writer) Close() error {
	defer w.cancel()
	err := w.Writer.Close()
	var old files.ID
	if err == nil {
		// Without read permission nothing is cleaned up: a server that may only write
		// can still write.
		old, _ = w.bucket.fileID(w.ctx, w.key)
		err = w.bucket.putSidecar(w.ctx, w.key, w.ID(), w.card)
	}
	if err != nil {
		w.cancel()
		w.inner.Close()
		return err
	}
	if err := w.inner.Close(); err != nil {
		if w.wasStored(err) {
			return nil
		}
		return err
	}
	w.bucket.dropSidecar(w.ctx, w.key, old)
	return nil
}

// wasStored reports whether the object is there although the store refused it: a client
// that gets no answer sends the object again, and the store then refuses to replace it.
// If another object is there, wasStored drops the sidecar. In all other cases it
// stays, because there may be an object, now or soon: after a broken connection, and
// without permission to read. [Bucket.Prune] deletes it if there is none.
func (w *writer) wasStored(refused error) bool {
	if gcerrors.Code(refused) != gcerrors.FailedPrecondition {
		return false
	}
	id, err := w.bucket.fileID(w.ctx, w.key)
	if err == nil && id != w.ID() {
		w.bucket.dropSidecar(w.ctx, w.key, w.ID())
	}
	return err == nil && id == w.ID()
}
