package aws

import (
	"context"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted/internal/awsconfig"
	"github.com/kmsencrypted/kmsencrypted/internal/reason"
)

// call makes a request. If the service says that the credentials are outdated,
// call discards them and makes the request once more: another process may have
// renewed a shared file or the key of the role meanwhile.
func call[In, Out any](ctx context.Context, p *Provider, request func(context.Context, *In, ...func(*kms.Options)) (*Out, error), in *In) (*Out, error) {
	used := p.session.number.Load()
	options := []func(*kms.Options){countAttempts}
	if text := reason.Of(ctx); text != "" { // CloudTrail logs the user agent
		options = append(options, kms.WithAPIOptions(middleware.AddUserAgentKeyValue("reason", text)))
	}
	out, err := request(ctx, in, options...)
	if !awsconfig.Outdated(err) {
		return out, err
	}
	p.session.discard(used)
	return request(ctx, in, options...)
}

// session is the credentials that the requests of a provider share.
type session struct {
	number atomic.Int64 // of the credentials in use
	cache  interface{ Invalidate() }
}

// sessionOf returns the session of a client. A client whose credentials have no
// cache gets them anew for every request.
func sessionOf(client Client) *session {
	s := &session{}
	if configured, ok := client.(interface{ Options() kms.Options }); ok {
		s.cache, _ = configured.Options().Credentials.(interface{ Invalidate() })
	}
	return s
}

// discard makes the next request get new credentials. Of many requests that
// failed with the same ones, only the first has an effect.
func (s *session) discard(used int64) {
	if s.cache != nil && s.number.CompareAndSwap(used, used+1) {
		s.cache.Invalidate()
	}
}
