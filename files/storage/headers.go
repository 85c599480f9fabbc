package storage

import (
	"cmp"
	"context"
	"maps"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/kmsencrypted/kmsencrypted/files/s3ec/s3client"
)

// Headers are stored with an object in S3 and returned with it, also by URLs. They are
// neither encrypted nor authenticated. Services that are folders have none.
type Headers struct {
	ContentType, ContentDisposition string
	// Metadata are names without "x-amz-meta-". Those that begin with "x-amz-" belong to
	// encryption and are [kmsencrypted.ErrConfig].
	Metadata map[string]string
}

// headersKey is that of the headers in a context: a bucket of attachments has no other way
// to pass them on.
type headersKey struct{}

// sendHeaders is an option of a client that adds the headers of an upload, and the settings
// that all uploads have. To errors of the store it adds what they mean.
func (s settings) sendHeaders(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("kmsencryptedHeaders",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				h, _ := ctx.Value(headersKey{}).(Headers)
				switch call := in.Parameters.(type) {
				case *s3.PutObjectInput:
					s.fill(h, &call.ContentType, &call.ContentDisposition, &call.CacheControl, &call.StorageClass, &call.Metadata)
				case *s3.CreateMultipartUploadInput:
					s.fill(h, &call.ContentType, &call.ContentDisposition, &call.CacheControl, &call.StorageClass, &call.Metadata)
				}
				out, metadata, err := next.HandleInitialize(ctx, in)
				return out, metadata, s3client.Meaning(err)
			}), middleware.After)
	})
}

func (s settings) fill(h Headers, contentType, disposition, cacheControl **string, class *types.StorageClass, metadata *map[string]string) {
	*contentType = cmp.Or(optional(h.ContentType), *contentType)
	*disposition = cmp.Or(optional(h.ContentDisposition), *disposition)
	*cacheControl = cmp.Or(optional(s.cacheControl), *cacheControl)
	if s.storageClass != "" {
		*class = types.StorageClass(s.storageClass)
	}
	if h.Metadata != nil {
		all := maps.Clone(h.Metadata)
		maps.Copy(all, *metadata)
		*metadata = all
	}
}
