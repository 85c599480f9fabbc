// Package s3client makes a store of package s3ec from a client of AWS's SDK for S3.
//
//	cfg, err := config.LoadDefaultConfig(ctx)
//	...
//	store, err := s3client.New(s3.NewFromConfig(cfg), "my-bucket", s3client.Options{})
package s3client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
)

// Client is what a store needs of an [s3.Client].
type Client interface {
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
	CreateMultipartUpload(context.Context, *s3.CreateMultipartUploadInput, ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error)
	UploadPart(context.Context, *s3.UploadPartInput, ...func(*s3.Options)) (*s3.UploadPartOutput, error)
	CompleteMultipartUpload(context.Context, *s3.CompleteMultipartUploadInput, ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error)
	AbortMultipartUpload(context.Context, *s3.AbortMultipartUploadInput, ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error)
}

// Options are the options of a store.
type Options struct {
	// Prefix begins the key of each object.
	Prefix string
	// PartSize is the size in bytes of the parts of a large object, at least 5 MiB. An
	// upload holds one part in memory. Zero means 8 MiB.
	PartSize int64
	// ServerSide is what the store itself encrypts with.
	ServerSide ServerSide
}

const (
	minPart     = 5 << 20
	defaultPart = 8 << 20
	maxParts    = 10_000
)

// ServerSide is the encryption by the store, a second layer over that of package s3ec. The
// zero value leaves it to the bucket.
type ServerSide struct {
	// Algorithm is that of the header x-amz-server-side-encryption, such as "aws:kms".
	Algorithm types.ServerSideEncryption
	// KMSKeyID is the ARN or the id of the key, for "aws:kms" and "aws:kms:dsse". An alias
	// is [kmsencrypted.ErrConfig]: the store answers with the ARN of a key, which could not
	// be compared with it.
	KMSKeyID string
}

// ErrServerSide reports a store that did not encrypt with the algorithm and key that it
// was told to. The object was deleted.
var ErrServerSide = errors.New("store did not encrypt with the configured algorithm and key")

// Store is an [s3ec.Store] in a bucket of S3. It is safe for concurrent use.
type Store struct {
	client Client
	bucket string
	o      Options
}

var _ s3ec.Store = (*Store)(nil)

// New returns a store. It makes no call. It returns [kmsencrypted.ErrConfig] for invalid
// options.
func New(client Client, bucket string, o Options) (*Store, error) {
	switch {
	case client == nil || bucket == "":
		return nil, configError("the client is nil or the bucket has no name")
	case o.PartSize == 0:
		o.PartSize = defaultPart
	case o.PartSize < minPart:
		return nil, configError("a part has at least %d bytes, not %d", minPart, o.PartSize)
	}
	if err := o.ServerSide.check(); err != nil {
		return nil, err
	}
	return &Store{client, bucket, o}, nil
}

func (want ServerSide) check() error {
	isKMS := want.Algorithm == types.ServerSideEncryptionAwsKms || want.Algorithm == types.ServerSideEncryptionAwsKmsDsse
	switch {
	case want.Algorithm != "" && !slices.Contains(want.Algorithm.Values(), want.Algorithm):
		return configError("unknown server-side encryption %q", want.Algorithm)
	case want.KMSKeyID != "" && !isKMS:
		return configError("ServerSide.KMSKeyID needs the algorithm aws:kms")
	case strings.Contains(want.KMSKeyID, "alias/"):
		return configError("ServerSide.KMSKeyID is an alias; name the ARN of the key, which the store answers with")
	}
	return nil
}

func configError(format string, args ...any) error {
	return fmt.Errorf("s3client: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Store.
func (s *Store) usable() error {
	if s == nil || s.client == nil {
		return configError("the Store was not made by New")
	}
	return nil
}

func (s *Store) key(key string) *string { return aws.String(s.o.Prefix + key) }

// Get implements [s3ec.Store].
func (s *Store) Get(ctx context.Context, key string, r s3ec.Range) (*s3ec.Object, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	in := &s3.GetObjectInput{Bucket: &s.bucket, Key: s.key(key), IfMatch: optional(r.Version.ETag), VersionId: optional(r.Version.ID)}
	switch {
	case r.Length > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1))
	case r.Offset > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", r.Offset))
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return nil, meaning(err, s3ec.ErrReplaced)
	}
	if out.ContentLength == nil {
		out.Body.Close()
		return nil, errors.New("s3client: the store's answer has no length")
	}
	object := &s3ec.Object{
		Body: out.Body, Size: *out.ContentLength, Metadata: make(map[string]string, len(out.Metadata)),
		Headers: s3ec.Headers{ContentType: aws.ToString(out.ContentType), ContentDisposition: aws.ToString(out.ContentDisposition), CacheControl: aws.ToString(out.CacheControl)},
		Version: s3ec.Version{ETag: aws.ToString(out.ETag), ID: aws.ToString(out.VersionId)},
	}
	for name, value := range out.Metadata {
		object.Metadata[strings.ToLower(name)] = value
	}
	return object, nil
}

// Delete implements [s3ec.Store].
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.usable(); err != nil {
		return err
	}
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.key(key)})
	if err = meaning(err, nil); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Put implements [s3ec.Store]. An object of more than one part is uploaded part after
// part; nothing is left of it after an error.
func (s *Store) Put(ctx context.Context, key string, u s3ec.Upload) (s3ec.Version, error) {
	if err := s.usable(); err != nil {
		return s3ec.Version{}, err
	}
	if u.Body == nil {
		return s3ec.Version{}, configError("the body is nil")
	}
	parts := newParts(u.Body, u.Size, s.o.PartSize)
	part, last, err := parts.next()
	if err != nil {
		return s3ec.Version{}, err
	}
	var result answer
	if last {
		result, err = s.putObject(ctx, key, u, part)
	} else {
		result, err = s.putParts(ctx, key, u, part, parts)
	}
	if err != nil {
		return s3ec.Version{}, meaning(err, fs.ErrExist)
	}
	if err := s.o.ServerSide.compare(result); err != nil {
		return s3ec.Version{}, errors.Join(err, s.deleteVersion(ctx, key, result.version))
	}
	return result.version, nil
}

// answer is what the store said about an object that it stored.
type answer struct {
	version   s3ec.Version
	algorithm types.ServerSideEncryption
	keyID     string
}

func (s *Store) putObject(ctx context.Context, key string, u s3ec.Upload, body []byte) (answer, error) {
	out, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: s.key(key), Body: bytes.NewReader(body), ContentLength: aws.Int64(int64(len(body))), Metadata: u.Metadata,
		ContentType: optional(u.Headers.ContentType), ContentDisposition: optional(u.Headers.ContentDisposition), CacheControl: optional(u.Headers.CacheControl),
		IfNoneMatch:          ifNoneMatch(u),
		ServerSideEncryption: s.o.ServerSide.Algorithm, SSEKMSKeyId: optional(s.o.ServerSide.KMSKeyID),
	})
	if err != nil {
		return answer{}, err
	}
	return answer{s3ec.Version{ETag: aws.ToString(out.ETag), ID: aws.ToString(out.VersionId)}, out.ServerSideEncryption, aws.ToString(out.SSEKMSKeyId)}, nil
}

// abortTimeout is how long Put waits for the store to give up an upload that failed.
const abortTimeout = 30 * time.Second

func (s *Store) putParts(ctx context.Context, key string, u s3ec.Upload, part []byte, parts *parts) (_ answer, err error) {
	created, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.bucket, Key: s.key(key), Metadata: u.Metadata,
		ContentType: optional(u.Headers.ContentType), ContentDisposition: optional(u.Headers.ContentDisposition), CacheControl: optional(u.Headers.CacheControl),
		ServerSideEncryption: s.o.ServerSide.Algorithm, SSEKMSKeyId: optional(s.o.ServerSide.KMSKeyID),
	})
	if err != nil {
		return answer{}, err
	}
	completed := false
	defer func() {
		if !completed { // also if the source panics
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
			defer cancel()
			_, aborted := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: s.key(key), UploadId: created.UploadId})
			err = errors.Join(err, aborted)
		}
	}()
	var list []types.CompletedPart
	for last := false; ; {
		number := aws.Int32(int32(len(list) + 1))
		out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &s.bucket, Key: s.key(key), UploadId: created.UploadId, PartNumber: number,
			Body: bytes.NewReader(part), ContentLength: aws.Int64(int64(len(part))),
		})
		if err != nil {
			return answer{}, err
		}
		list = append(list, types.CompletedPart{PartNumber: number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32})
		if last {
			break
		}
		if part, last, err = parts.next(); err != nil {
			return answer{}, err
		}
	}
	out, err := s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &s.bucket, Key: s.key(key), UploadId: created.UploadId, IfNoneMatch: ifNoneMatch(u),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: list},
	})
	if err != nil {
		return answer{}, err
	}
	completed = true
	return answer{s3ec.Version{ETag: aws.ToString(out.ETag), ID: aws.ToString(out.VersionId)}, out.ServerSideEncryption, aws.ToString(out.SSEKMSKeyId)}, nil
}

// compare returns [ErrServerSide] if the store used another algorithm or key.
func (want ServerSide) compare(got answer) error {
	if want.Algorithm == "" {
		return nil
	}
	sameKey := want.KMSKeyID == "" || got.keyID == want.KMSKeyID || strings.HasSuffix(got.keyID, ":key/"+want.KMSKeyID)
	if got.algorithm != want.Algorithm || !sameKey {
		return fmt.Errorf("s3client: %w: it answered %q and %q", ErrServerSide, got.algorithm, got.keyID)
	}
	return nil
}

func (s *Store) deleteVersion(ctx context.Context, key string, version s3ec.Version) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.key(key), VersionId: optional(version.ID)})
	return err
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func ifNoneMatch(u s3ec.Upload) *string {
	if u.IfNotExist {
		return aws.String("*")
	}
	return nil
}

// meanings are the codes of S3 that have an error in Go.
var meanings = map[string]error{
	"NoSuchKey": fs.ErrNotExist, "NotFound": fs.ErrNotExist, "NoSuchVersion": fs.ErrNotExist,
	"BadDigest": s3ec.ErrDigest, "InvalidDigest": s3ec.ErrDigest,
	"XAmzContentChecksumMismatch": s3ec.ErrDigest, "XAmzContentSHA256Mismatch": s3ec.ErrDigest,
}

// Meaning adds to an error of the SDK for S3 what it means: [fs.ErrNotExist], or
// [s3ec.ErrDigest] if the store received other bytes than were sent. It returns other errors as
// they are.
func Meaning(err error) error { return meaning(err, nil) }

// meaning adds to an error of the SDK what it means. precondition is the meaning of a
// condition that was not met.
func meaning(err, precondition error) error {
	if err == nil {
		return nil
	}
	known := error(nil)
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && response.HTTPStatusCode() == http.StatusPreconditionFailed {
		known = precondition
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && known == nil {
		known = meanings[api.ErrorCode()]
	}
	if known == nil || errors.Is(err, known) {
		return err
	}
	return fmt.Errorf("%w: %w", known, err)
}
