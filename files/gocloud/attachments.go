package gocloud

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// Attachments returns a store of attached files in a bucket of gocloud.dev. The
// bucket must not be an encrypted one, because package attach encrypts the files
// itself. Objects are as durable as the bucket's driver makes them when its writer
// closes. For a folder use [attach.OpenDir], which waits for the disk. The caller
// closes the bucket.
//
// An upload holds about 17 MiB of memory; [AttachmentsWith] changes that.
func Attachments(bucket *blob.Bucket) attach.Bucket { return AttachmentsWith(bucket, Transfer{}) }

// AttachmentsWith is like [Attachments] with another size and number of parts. A
// negative one is [kmsencrypted.ErrConfig] when a file is uploaded.
func AttachmentsWith(bucket *blob.Bucket, t Transfer) attach.Bucket { return attachments{bucket, t} }

type attachments struct {
	bucket   *blob.Bucket
	transfer Transfer
}

func (a attachments) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	options := &blob.WriterOptions{ContentType: storedContentType, DisableContentTypeDetection: true, IfNotExist: true}
	if err := errors.Join(checkName(name), a.transfer.apply(options)); err != nil {
		return err
	}
	w, err := a.bucket.NewWriter(ctx, name, options)
	if err != nil {
		return err
	}
	written := false
	defer func() {
		if !written { // write failed or panicked
			cancel()
			w.Close()
		}
	}()
	if err := write(w); err != nil {
		return err
	}
	written = true
	err = w.Close()
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return fmt.Errorf("gocloud: object %s: %w: %w", name, fs.ErrExist, err)
	}
	if err != nil {
		// The object may have arrived nevertheless.
		return errors.Join(err, a.Delete(context.WithoutCancel(ctx), name))
	}
	return nil
}

// checkName checks the name of an object as [attach.Bucket] has it.
func checkName(name string) error {
	if name == "." || !fs.ValidPath(name) {
		return fmt.Errorf("gocloud: object name %q: %w", name, fs.ErrInvalid)
	}
	return nil
}

// Open reads the first chunk, which most reads need first.
func (a attachments) Open(ctx context.Context, name string) (attach.Object, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	s, err := newSource(ctx, a.bucket, name, oneChunk, nil)
	if isNotFound(err) {
		return nil, fmt.Errorf("gocloud: object %s: %w: %w", name, fs.ErrNotExist, err)
	}
	if err != nil {
		if is, of := a.bucket.Attributes(ctx, name); of == nil && is.Size == 0 { // S3 has no range of it
			return attached{&source{ctx: ctx, bucket: a.bucket, key: name}}, nil
		}
		return nil, err
	}
	return attached{s}, nil
}

func (a attachments) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := a.bucket.Delete(ctx, name); err != nil && !isNotFound(err) {
		return err
	}
	return nil
}

// List implements [attach.Lister].
func (a attachments) List(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for list := a.bucket.List(nil); ; {
			object, err := list.Next(ctx)
			if err == io.EOF {
				return
			}
			if err != nil {
				yield("", err)
				return
			}
			if object.Key != markName && !yield(object.Key, nil) {
				return
			}
		}
	}
}

// markName is the name of the object that holds the identity of a store.
const markName = "kms-store"

// Identity implements [attach.Identified].
func (a attachments) Identity(ctx context.Context) (string, error) {
	mark, err := a.bucket.ReadAll(ctx, markName)
	if isNotFound(err) {
		options := &blob.WriterOptions{ContentType: "text/plain", IfNotExist: true}
		err = a.bucket.WriteAll(ctx, markName, []byte(strings.ToLower(rand.Text())), options)
		if err != nil && gcerrors.Code(err) != gcerrors.FailedPrecondition {
			return "", err
		}
		mark, err = a.bucket.ReadAll(ctx, markName) // of whoever was faster
	}
	return string(mark), err
}

// attached is an object with read-ahead.
type attached struct{ *source }

func (a attached) Size() int64 { return a.size }

func (a attached) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("gocloud: offset %d: %w", off, fs.ErrInvalid)
	}
	want := p[:max(0, min(int64(len(p)), a.size-off))]
	if len(want) == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	n, err := a.source.ReadAt(want, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (a attached) Close() error {
	a.forget()
	return nil
}
