package vault

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// Settings of [Open] that replace the client's defaults, which wait for minutes.
// A request to transit takes about a millisecond, and a user is waiting.
const (
	callTimeout     = 10 * time.Second // with all attempts; VAULT_CLIENT_TIMEOUT changes it
	firstPause      = 100 * time.Millisecond
	longestPause    = time.Second
	idleConnections = 100 // kept for concurrent calls; the client keeps about as many as there are processors
)

// Open returns a provider with a client of its own, configured by the
// environment: VAULT_ADDR, VAULT_TOKEN and the other variables of Vault's client,
// also for OpenBao. A call has three attempts (VAULT_MAX_RETRIES) within ten
// seconds (VAULT_CLIENT_TIMEOUT).
//
// If [Options].Login is nil and VAULT_TOKEN is not set, the token is that of
// ~/.vault-token, where the vault program keeps it. The file is read again when
// the server refuses the token.
//
// Open calls the service to check the key: it returns the errors of
// [Provider.Probe], and [kmsencrypted.ErrConfig] for a configuration that cannot be
// read. The provider has no Close method: its idle connections end by themselves.
func Open(ctx context.Context, keyID string, options Options) (*Provider, error) {
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, fmt.Errorf("vault: %w: %w", kmsencrypted.ErrConfig, config.Error)
	}
	if os.Getenv(api.EnvVaultClientTimeout) == "" {
		config.Timeout = callTimeout
	}
	config.MinRetryWait, config.MaxRetryWait = firstPause, longestPause
	if transport, ok := config.HttpClient.Transport.(*http.Transport); ok {
		transport.MaxIdleConns, transport.MaxIdleConnsPerHost = idleConnections, idleConnections
	}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("vault: %w: %w", kmsencrypted.ErrConfig, err)
	}
	if options.Login == nil && client.Token() == "" {
		options.Login = homeToken()
	}
	p, err := New(client, keyID, options)
	if err != nil {
		return nil, err
	}
	if options.Login != nil {
		token, err := options.Login(ctx)
		if err != nil {
			return nil, p.answered(ctx, probing, loginError{err})
		}
		client.SetToken(token)
	}
	if err := p.Probe(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// homeToken returns a Login that reads the file in which the vault program keeps
// its token, or nil if there is none.
func homeToken() func(context.Context) (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	file := filepath.Join(home, ".vault-token")
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	return TokenFile(file)
}

var probing = operation{name: "probe"}

// Probe reads the key's configuration. It returns [kmsencrypted.ErrKeyUnusable]
// if the key is missing or cannot encrypt. It returns [kmsencrypted.ErrConfig] if
// the key is derived and [Options].NotDerived is set, or the other way round. It
// returns [kmsencrypted.ErrDenied] if the token may not read the configuration.
func (p *Provider) Probe(ctx context.Context) error {
	if err := p.Check(); err != nil {
		return err
	}
	path := p.mount + "/keys/" + p.name
	secret, err := p.request(ctx, func() (*api.Secret, error) {
		return p.client.Logical().ReadWithContext(ctx, path)
	})
	if err != nil {
		return p.answered(ctx, probing, err)
	}
	if secret == nil {
		return p.failed(probing, fmt.Errorf("%w: there is no key at %s", kmsencrypted.ErrKeyUnusable, path))
	}
	if encrypts, _ := secret.Data["supports_encryption"].(bool); !encrypts {
		return p.failed(probing, fmt.Errorf("%w: a key of type %v cannot encrypt", kmsencrypted.ErrKeyUnusable, secret.Data["type"]))
	}
	switch derived, _ := secret.Data["derived"].(bool); {
	case !derived && !p.notDerived:
		return p.failed(probing, fmt.Errorf("%w: the key was made without derived=true, so it ignores the encryption context; make a derived key, or set Options.NotDerived", kmsencrypted.ErrConfig))
	case derived && p.notDerived:
		return p.failed(probing, fmt.Errorf("%w: the key is derived, contrary to Options.NotDerived", kmsencrypted.ErrConfig))
	}
	return nil
}

var hashing = operation{"audit-hash", "hash"}

// ContextHash returns the text that an audit device logs for a context, such as
// "hmac-sha256:…". Search the log for it. It hashes what is really sent;
// kms_encrypted's context_hash does not. The token needs update on
// sys/audit-hash/DEVICE.
func (p *Provider) ContextHash(ctx context.Context, device string, ec kmsencrypted.BoundContext) (string, error) {
	if err := p.Check(); err != nil {
		return "", err
	}
	if !pathShape.MatchString(device) {
		return "", p.failed(hashing, fmt.Errorf("%w: %q is not the path of an audit device", kmsencrypted.ErrConfig, device))
	}
	input := item{"input": rubycompat.Encode64(ec.Bytes())}
	secret, err := p.request(ctx, func() (*api.Secret, error) {
		return p.client.Logical().WriteWithContext(ctx, "sys/audit-hash/"+device, input)
	})
	if err != nil {
		return "", p.answered(ctx, hashing, err)
	}
	if secret == nil {
		return "", p.failed(hashing, errNoAnswer)
	}
	hash, err := p.value(hashing, secret.Data)
	return string(hash), err
}
