package s3client

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// Enforce returns an option for any client of S3, such as that of gocloud.dev, which makes
// it ask for the encryption by the store and compare the answer. An upload to a store that
// encrypted otherwise fails with [ErrServerSide]; the object is there then, and the caller
// deletes it. Enforce returns [kmsencrypted.ErrConfig] for an invalid ServerSide. For the
// zero value the option does nothing.
//
// A Store does this by itself: see [Options.ServerSide].
func Enforce(want ServerSide) (func(*s3.Options), error) {
	if err := want.check(); err != nil {
		return nil, err
	}
	if want.Algorithm == "" {
		return func(*s3.Options) {}, nil
	}
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("kmsencryptedServerSide", want.enforce), middleware.After)
		})
	}, nil
}

// enforce runs once for each call, not for each attempt: an answer that is wrong is not
// asked for again.
func (want ServerSide) enforce(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (out middleware.InitializeOutput, metadata middleware.Metadata, err error) {
	switch call := in.Parameters.(type) {
	case *s3.PutObjectInput:
		call.ServerSideEncryption, call.SSEKMSKeyId = want.Algorithm, optional(want.KMSKeyID)
	case *s3.CreateMultipartUploadInput:
		call.ServerSideEncryption, call.SSEKMSKeyId = want.Algorithm, optional(want.KMSKeyID)
	case *s3.CopyObjectInput:
		call.ServerSideEncryption, call.SSEKMSKeyId = want.Algorithm, optional(want.KMSKeyID)
	}
	out, metadata, err = next.HandleInitialize(ctx, in)
	if err != nil {
		return out, metadata, err
	}
	switch said := out.Result.(type) {
	case *s3.PutObjectOutput:
		err = want.compare(answer{algorithm: said.ServerSideEncryption, keyID: aws.ToString(said.SSEKMSKeyId)})
	case *s3.CompleteMultipartUploadOutput:
		err = want.compare(answer{algorithm: said.ServerSideEncryption, keyID: aws.ToString(said.SSEKMSKeyId)})
	case *s3.CopyObjectOutput:
		err = want.compare(answer{algorithm: said.ServerSideEncryption, keyID: aws.ToString(said.SSEKMSKeyId)})
	}
	return out, metadata, err
}
