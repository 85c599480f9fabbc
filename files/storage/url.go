package storage

import (
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// signer makes URLs of S3.
type signer struct {
	client         *s3.PresignClient
	bucket, prefix string
}

// URLOptions are the options of [Service.URL].
type URLOptions struct {
	// Expires is how long the URL is valid. 0 means 5 minutes.
	Expires time.Duration
	// ContentType and ContentDisposition replace those of the object.
	ContentType, ContentDisposition string
}

const urlExpires = 5 * time.Minute

// URL returns a URL at which whoever has it can download the object from the store. A
// service that encrypts has none, because the store has ciphertext only, and a folder has
// none either: they return [errors.ErrUnsupported]. Package files/serve has links that go
// through the application.
func (s *Service) URL(ctx context.Context, key string, o URLOptions) (string, error) {
	signer, err := s.signs(key, o.Expires)
	if err != nil {
		return "", s.failed("sign URL of", key, err)
	}
	signed, err := signer.client.PresignGetObject(ctx, &s3.GetObjectInput{
		Bucket: &signer.bucket, Key: aws.String(signer.prefix + key),
		ResponseContentType: optional(o.ContentType), ResponseContentDisposition: optional(o.ContentDisposition),
	}, expiresAfter(o.Expires))
	if err != nil {
		return "", s.failed("sign URL of", key, err)
	}
	return signed.URL, nil
}

// DirectUpload describes a file that a browser will upload to the store by itself.
type DirectUpload struct {
	// Expires is how long the URL is valid. 0 means 5 minutes.
	Expires time.Duration
	// Size in bytes and MD5 are those of the file. The store refuses any other.
	Size int64
	MD5  []byte
	Headers
}

// DirectUploadURL returns a URL to which a browser can PUT the file, with the headers that
// it has to send. The file is stored as it is sent: a service that encrypts returns
// [errors.ErrUnsupported], as does a folder.
func (s *Service) DirectUploadURL(ctx context.Context, key string, d DirectUpload) (url string, headers http.Header, err error) {
	signer, err := s.signs(key, d.Expires)
	if err != nil {
		return "", nil, s.failed("sign upload of", key, err)
	}
	if d.Size < 0 || len(d.MD5) != 16 {
		return "", nil, configError("a direct upload needs the size and the MD5 of the file")
	}
	ctx = context.WithValue(ctx, headersKey{}, d.Headers)
	signed, err := signer.client.PresignPutObject(ctx, &s3.PutObjectInput{
		Bucket: &signer.bucket, Key: aws.String(signer.prefix + key),
		ContentLength: &d.Size, ContentMD5: aws.String(base64.StdEncoding.EncodeToString(d.MD5)),
	}, expiresAfter(d.Expires))
	if err != nil {
		return "", nil, s.failed("sign upload of", key, err)
	}
	headers = signed.SignedHeader.Clone()
	headers.Del("Host")
	headers.Del("Content-Length") // which a browser sends by itself
	return signed.URL, headers, nil
}

func (s *Service) signs(key string, expires time.Duration) (*signer, error) {
	switch {
	case s.usable() != nil:
		return nil, s.usable()
	case key == "." || !fs.ValidPath(key):
		return nil, fs.ErrInvalid
	case s.signer == nil:
		return nil, errors.ErrUnsupported
	case expires < 0 || expires > 7*24*time.Hour:
		return nil, configError("a URL is valid for at most 7 days")
	}
	return s.signer, nil
}

func expiresAfter(d time.Duration) func(*s3.PresignOptions) {
	if d == 0 {
		d = urlExpires
	}
	return s3.WithPresignExpires(d)
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
