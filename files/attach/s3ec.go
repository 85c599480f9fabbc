package attach

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"

	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
)

// S3EC returns a bucket whose objects are encrypted as AWS's encryption clients do, such
// as a service amazon_encrypted of Active Storage. It encrypts by itself: the size and the
// checksum of a blob are those of the file, so its attachments are
// [RailsAttachment.Plain] unless Lockbox encrypts them as well. [Rails.Open] compares each
// object with size and checksum of its row before it returns a byte. Deleting an object
// deletes its instruction object too.
//
// All objects have the encryption context, which may be nil
// (kms_encryption_context:). An upload holds about 9 MiB of memory.
func S3EC(client *s3ec.Client, encryptionContext map[string]string) Bucket {
	return s3ecBucket{client, maps.Clone(encryptionContext)}
}

type s3ecBucket struct {
	client  *s3ec.Client
	context map[string]string
}

// Put implements [Bucket].
func (b s3ecBucket) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	if err := allGiven([]any{write}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from, to := io.Pipe()
	stored := make(chan error, 1)
	go func() {
		options := s3ec.PutOptions{Context: b.context, Headers: s3ec.Headers{ContentType: "application/octet-stream"}, IfNotExist: true}
		_, err := b.client.Put(ctx, name, from, -1, options)
		from.CloseWithError(err) // the writer gets it
		stored <- err
	}()
	err := errInterrupted // if write panics
	defer func() {
		if err == errInterrupted {
			to.CloseWithError(err)
			<-stored
		}
	}()
	err = write(to)
	to.CloseWithError(err) // nil ends the file
	failed := <-stored
	if err == nil {
		err = failed
	}
	if failed != nil && !errors.Is(failed, fs.ErrExist) {
		// The object may have arrived nevertheless.
		err = joined(err, b.client.Delete(context.WithoutCancel(ctx), name))
	}
	return err
}

// joined is errors.Join, but returns err itself if there is no other.
func joined(err, more error) error {
	if more == nil {
		return err
	}
	return errors.Join(err, more)
}

// Open implements [Bucket].
func (b s3ecBucket) Open(ctx context.Context, name string) (Object, error) {
	return b.openExpected(ctx, name, nil)
}

func (b s3ecBucket) openExpected(ctx context.Context, name string, expected *s3ec.Content) (Object, error) {
	r, err := b.client.Open(ctx, name, s3ec.OpenOptions{Context: b.context, Expected: expected})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Delete implements [Bucket].
func (b s3ecBucket) Delete(ctx context.Context, name string) error { return b.client.Delete(ctx, name) }

// Identity implements [Identified].
func (b s3ecBucket) Identity(ctx context.Context) (string, error) { return b.client.Identity(ctx) }

// openBlob opens the object of a blob. A bucket that reads all of it anyway compares it
// with the row.
func openBlob(ctx context.Context, bucket Bucket, b *Blob) (Object, error) {
	encrypted, ok := bucket.(s3ecBucket)
	if !ok {
		return openObject(ctx, bucket, &Attachment{Bucket: b.Service, Object: b.Key, ObjectSize: b.ObjectSize})
	}
	expected := &s3ec.Content{Size: b.ObjectSize}
	if b.Checksum != "" { // a composed blob has none
		sum, err := b.checksum()
		if err != nil {
			return nil, err
		}
		expected.MD5 = sum[:]
	}
	return encrypted.openExpected(ctx, b.Key, expected)
}
