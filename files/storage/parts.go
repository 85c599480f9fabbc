package storage

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// parted is a bucket of S3 that takes objects in parts: an [attach.PartSigner].
type parted struct {
	whole
	client         *s3.Client
	signer         *s3.PresignClient
	bucket, prefix string
}

// whole is what a bucket of package gocloud is.
type whole interface {
	attach.Lister
	attach.Identified
}

func (s settings) parted(client *s3.Client, bucket attach.Bucket) attach.Bucket {
	// A header that is part of the query would not be compared with what the client sends.
	plain := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableHeaderHoisting = true })
	signer := s3.NewPresignClient(client, func(o *s3.PresignOptions) { o.Presigner = plain })
	return &parted{bucket.(whole), client, signer, s.bucket, s.prefix}
}

func (p *parted) key(name string) *string { return aws.String(p.prefix + name) }

// BeginParts implements [attach.PartBucket].
func (p *parted) BeginParts(ctx context.Context, name string) (string, error) {
	out, err := p.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &p.bucket, Key: p.key(name), ContentType: aws.String("application/octet-stream"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.UploadId), nil
}

// PutPart implements [attach.PartBucket].
func (p *parted) PutPart(ctx context.Context, name, upload string, part attach.Part, content []byte) error {
	in := p.part(name, upload, part)
	in.Body = bytes.NewReader(content)
	_, err := p.client.UploadPart(ctx, in)
	return p.gone(err)
}

func (p *parted) part(name, upload string, part attach.Part) *s3.UploadPartInput {
	return &s3.UploadPartInput{
		Bucket: &p.bucket, Key: p.key(name), UploadId: &upload, PartNumber: aws.Int32(int32(part.Number)),
		ContentLength: &part.Size, ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(part.SHA256[:])),
	}
}

// SignPart implements [attach.PartSigner].
func (p *parted) SignPart(ctx context.Context, name, upload string, part attach.Part, valid time.Duration) (string, http.Header, error) {
	signed, err := p.signer.PresignUploadPart(ctx, p.part(name, upload, part), s3.WithPresignExpires(valid))
	if err != nil {
		return "", nil, err
	}
	header := signed.SignedHeader.Clone()
	header.Del("Host")
	header.Del("Content-Length") // which a browser sends by itself
	return signed.URL, header, nil
}

// ListParts implements [attach.PartBucket].
func (p *parted) ListParts(ctx context.Context, name, upload string) (list []attach.Part, err error) {
	for pages := s3.NewListPartsPaginator(p.client, &s3.ListPartsInput{Bucket: &p.bucket, Key: p.key(name), UploadId: &upload}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, p.gone(err)
		}
		for _, is := range page.Parts {
			part := attach.Part{Number: int(aws.ToInt32(is.PartNumber)), Size: aws.ToInt64(is.Size), Tag: aws.ToString(is.ETag)}
			// Not every server keeps it. One that is no SHA-256 is that of other bytes.
			if sum := aws.ToString(is.ChecksumSHA256); sum != "" {
				part.SHA256[0] = 1
				if raw, err := base64.StdEncoding.DecodeString(sum); err == nil && len(raw) == len(part.SHA256) {
					part.SHA256 = [32]byte(raw)
				}
			}
			list = append(list, part)
		}
	}
	return list, nil
}

// CompleteParts implements [attach.PartBucket].
func (p *parted) CompleteParts(ctx context.Context, name, upload string, parts []attach.Part) error {
	list := make([]types.CompletedPart, len(parts))
	for i, part := range parts {
		list[i] = types.CompletedPart{PartNumber: aws.Int32(int32(part.Number)), ETag: &part.Tag,
			ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(part.SHA256[:]))}
	}
	_, err := p.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &p.bucket, Key: p.key(name), UploadId: &upload, MultipartUpload: &types.CompletedMultipartUpload{Parts: list},
	})
	return p.gone(err)
}

// AbortParts implements [attach.PartBucket].
func (p *parted) AbortParts(ctx context.Context, name, upload string) error {
	uploads := []string{upload}
	if upload == "" {
		var err error
		if uploads, err = p.uploads(ctx, name); err != nil {
			return err
		}
	}
	for _, upload := range uploads {
		_, err := p.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &p.bucket, Key: p.key(name), UploadId: &upload})
		if err := p.gone(err); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// uploads lists the uploads of an object.
func (p *parted) uploads(ctx context.Context, name string) (list []string, err error) {
	for pages := s3.NewListMultipartUploadsPaginator(p.client, &s3.ListMultipartUploadsInput{Bucket: &p.bucket, Prefix: p.key(name)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, u := range page.Uploads {
			if aws.ToString(u.Key) == *p.key(name) {
				list = append(list, aws.ToString(u.UploadId))
			}
		}
	}
	return list, nil
}

// gone adds [fs.ErrNotExist] to the error for an upload that the store does not have.
func (p *parted) gone(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "NoSuchUpload" {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}
