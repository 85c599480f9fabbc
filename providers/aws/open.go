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
	"github.com/kmsencrypted/kmsencrypted/internal/awsconfig"
)

// Settings of [Open] that replace the SDK's defaults, which wait for minutes. A
// request to KMS takes some milliseconds, and a user is waiting.
const (
	connectTimeout  = 2 * time.Second // for TCP, and again for TLS
	responseTimeout = 5 * time.Second // from request sent to first byte, per attempt
	attempts        = 3               // of a call that was throttled or not answered
	maxBackoff      = time.Second     // between two attempts
	idleConnections = 100             // kept for concurrent calls; the SDK keeps 10
)

// Open returns a provider with a client of its own, configured as usual for the
// SDK: by environment, shared files, and roles of containers and instances. If
// keyID is an ARN, it determines the region. A call has at most three attempts
// with at most a second between them, two seconds each for TCP and TLS, and five
// seconds for the answer. [Options].Load can change all of this.
//
// The configuration is read again when credentials expire and when the service
// refuses them: another process may renew a shared file, and access keys are
// rotated.
//
// Open does not call the service; see [Provider.Probe]. It returns
// [kmsencrypted.ErrConfig] for a configuration that cannot be read or names no
// region. The provider has no Close method: its idle connections end by themselves.
func Open(ctx context.Context, keyID string, options Options) (*Provider, error) {
	settings := []func(*config.LoadOptions) error{
		config.WithHTTPClient(httpClient()),
		config.WithRetryer(retryer),
	}
	if region := regionOf(keyID); region != "" {
		settings = append(settings, config.WithRegion(region))
	}
	settings = append(settings, options.Load...)
	cfg, err := awsconfig.Load(ctx, settings...)
	if err != nil {
		return nil, fmt.Errorf("aws: %w: %w", kmsencrypted.ErrConfig, err)
	}
	if cfg.Region == "" {
		return nil, fmt.Errorf("aws: %w: no region; set AWS_REGION or name the key by its ARN", kmsencrypted.ErrConfig)
	}
	options.Load = nil
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
