package gcp

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	kms "cloud.google.com/go/kms/apiv1"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/reason"
)

// Limits of each call, which replace the client's minute. A request to Cloud
// KMS takes some tens of milliseconds, and a user is waiting.
const (
	callTimeout  = 10 * time.Second // with all attempts, if the context has no deadline
	attempts     = 4                // of a call that was throttled or not answered
	firstPause   = 100 * time.Millisecond
	longestPause = time.Second
)

// Open returns a provider with a client of its own. It uses the application default
// credentials unless [Options].Client says otherwise. A call has four attempts
// within ten seconds, or within the deadline of its context.
//
// Open does not call the service; see [Provider.Probe]. It returns
// [kmsencrypted.ErrConfig] if the client cannot be created. The caller must call
// [Provider.Close], which closes the connections.
//
// The client does not log, whatever GOOGLE_SDK_GO_LOGGING_LEVEL says: Google's
// debug log shows plaintexts.
func Open(ctx context.Context, keyName string, options Options) (*Provider, error) {
	silent := option.WithLogger(slog.New(slog.DiscardHandler))
	client, err := kms.NewKeyManagementClient(ctx, append([]option.ClientOption{silent}, options.Client...)...)
	if err != nil {
		return nil, fmt.Errorf("gcp: %w: %w", kmsencrypted.ErrConfig, err)
	}
	options.Client = nil
	p, err := New(client, keyName, options)
	if err != nil {
		client.Close()
		return nil, err
	}
	p.closer = client
	return p, nil
}

// callOptions returns the options of one call, also for a client of the
// caller's. The official client retries when the service is unavailable, but
// not when a quota is exhausted.
func callOptions(ctx context.Context) []gax.CallOption {
	return []gax.CallOption{
		gax.WithTimeout(callTimeout),
		gax.WithRetry(func() gax.Retryer {
			return &retryer{ctx: ctx, left: attempts - 1, backoff: gax.Backoff{Initial: firstPause, Max: longestPause, Multiplier: 2}}
		}),
	}
}

type retryer struct {
	ctx     context.Context // of the call, for its observers
	left    int
	backoff gax.Backoff
}

// Retry implements [gax.Retryer].
func (r *retryer) Retry(err error) (pause time.Duration, again bool) {
	switch status.Code(err) {
	case codes.ResourceExhausted, codes.Unavailable, codes.DeadlineExceeded:
	default:
		return 0, false
	}
	if r.left == 0 {
		return 0, false
	}
	r.left--
	kmsencrypted.Attempted(r.ctx)
	return r.backoff.Pause(), true
}

// withReason adds the header that Google's audit logs have as requestAttributes.reason.
func withReason(ctx context.Context) context.Context {
	text := reason.Of(ctx)
	if text == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "x-goog-request-reason", text)
}
