// Package awsconfig loads the configuration of AWS's SDK with credentials that follow
// what other processes renew.
package awsconfig

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
)

// Load returns the configuration. Its credentials are those of the configuration at the
// time when they are needed: the SDK itself reads the environment and the shared files
// once and keeps what it found for ever.
func Load(ctx context.Context, settings ...func(*config.LoadOptions) error) (aws.Config, error) {
	load := func(ctx context.Context) (aws.Config, error) { return config.LoadDefaultConfig(ctx, settings...) }
	cfg, err := load(ctx)
	if err == nil && cfg.Credentials != nil {
		cfg.Credentials = aws.NewCredentialsCache(reloading(load))
	}
	return cfg, err
}

// reloading gets credentials by reading the configuration again.
type reloading func(context.Context) (aws.Config, error)

func (load reloading) Retrieve(ctx context.Context) (aws.Credentials, error) {
	cfg, err := load(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	if cfg.Credentials == nil {
		return aws.Credentials{}, errors.New("the configuration has no credentials any more")
	}
	return cfg.Credentials.Retrieve(ctx)
}

// outdated are the error codes for credentials that have been replaced: a session that
// expired, and an access key that was deleted or deactivated. KMS and S3 name them
// differently.
var outdated = map[string]bool{
	"ExpiredTokenException":       true,
	"UnrecognizedClientException": true,
	"InvalidClientTokenId":        true,
	"ExpiredToken":                true,
	"InvalidAccessKeyId":          true,
	"TokenRefreshRequired":        true,
}

// Outdated reports whether a service refused credentials that another process may have
// renewed meanwhile.
func Outdated(err error) bool {
	refusal, ok := errors.AsType[smithy.APIError](err)
	return ok && outdated[refusal.ErrorCode()]
}

// Retryer is a retryer that discards outdated credentials and makes the attempt again, as
// often as inner makes attempts. cache is that of the client.
func Retryer(inner aws.Retryer, cache interface{ Invalidate() }) aws.Retryer {
	return renewing{inner, cache}
}

type renewing struct {
	aws.Retryer
	cache interface{ Invalidate() }
}

func (r renewing) IsErrorRetryable(err error) bool {
	if Outdated(err) {
		r.cache.Invalidate()
		return true
	}
	return r.Retryer.IsErrorRetryable(err)
}
