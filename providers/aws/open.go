package aws

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted"
)

// What [Open] sets instead of the SDK's defaults, which wait for minutes. A
// request to KMS takes some milliseconds; a user waits behind it.
const (
	connectTimeout  = 2 * time.Second // TCP, and TLS again as long
	responseTimeout = 5 * time.Second // from request sent to first byte, per attempt
	attempts        = 3               // of a call that was throttled or found no answer
	maxBackoff      = time.Second     // between two attempts
	idleConnections = 100             // kept for parallel calls; the SDK keeps 10
)

// Open returns a provider with a client of its own, configured in the SDK's way:
// environment, shared files, roles of containers and instances. The region is
// that of an ARN, if keyID is one. It gives a call at most three attempts with
// at most a second between them, two seconds each for TCP and TLS, and five for
// the answer. Load options come last and can change all of this.
//
// The service is not called; see [Provider.Probe]. A configuration that cannot
// be read or names no region is [kmsencrypted.ErrConfig].
func Open(ctx context.Context, keyID string, options Options, load ...func(*config.LoadOptions) error) (*Provider, error) {
	defaults := []func(*config.LoadOptions) error{
		config.WithHTTPClient(httpClient()),
		config.WithRetryer(retryer),
	}
	if region := regionOf(keyID); region != "" {
		defaults = append(defaults, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, append(defaults, load...)...)
	if err != nil {
		return nil, fmt.Errorf("aws: %w: %w", kmsencrypted.ErrConfig, err)
	}
	if cfg.Region == "" {
		return nil, fmt.Errorf("aws: %w: no region; set AWS_REGION or name the key by its ARN", kmsencrypted.ErrConfig)
	}
	return New(kms.NewFromConfig(cfg), keyID, options)
}

func httpClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.TLSHandshakeTimeout = connectTimeout
			t.ResponseHeaderTimeout = responseTimeout
			t.MaxIdleConns = idleConnections
			t.MaxIdleConnsPerHost = idleConnections
		})
}

func retryer() sdk.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.MaxBackoff = maxBackoff
	})
}
