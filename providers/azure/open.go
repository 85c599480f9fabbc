package azure

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kmsencrypted/kmsencrypted"
)

// Settings of [Open] that replace the SDK's defaults, which wait for minutes. A
// request to a vault takes some tens of milliseconds, and a user is waiting.
const (
	attempts       = 3               // of a call that was throttled or not answered
	attemptTimeout = 5 * time.Second // of one attempt
	firstPause     = 100 * time.Millisecond
	longestPause   = time.Second

	idleConnections = 100 // kept for concurrent calls; the SDK keeps 10
)

// Open returns a provider with a client of its own for the vault that keyID names.
// A call has at most three attempts of five seconds each, with at most a second
// between them.
//
// Open does not call the service; see [Provider.Probe]. It returns
// [kmsencrypted.ErrConfig] if there are no credentials. The provider has no Close
// method: its idle connections end by themselves.
func Open(_ context.Context, keyID string, options Options) (*Provider, error) {
	vault, _, err := split(keyID)
	if err != nil {
		return nil, err
	}
	credential := options.Credential
	if credential == nil {
		if credential, err = azidentity.NewDefaultAzureCredential(nil); err != nil {
			return nil, fmt.Errorf("azure: %w: %w", kmsencrypted.ErrConfig, err)
		}
	}
	settings := &azkeys.ClientOptions{}
	settings.Retry = policy.RetryOptions{
		MaxRetries: attempts - 1, TryTimeout: attemptTimeout, RetryDelay: firstPause, MaxRetryDelay: longestPause,
	}
	settings.Transport = httpClient()
	client, err := azkeys.NewClient(vault, credential, settings)
	if err != nil {
		return nil, fmt.Errorf("azure: %w: %w", kmsencrypted.ErrConfig, err)
	}
	options.Credential = nil
	return New(client, keyID, options)
}

// httpClient differs from the client of the SDK in the connections that it keeps.
func httpClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = idleConnections, idleConnections
	return &http.Client{Transport: transport}
}
