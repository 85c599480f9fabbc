// Package azure wraps data keys under a key of Azure Key Vault or of Azure Managed
// HSM.
//
//	provider, err := azure.Open(ctx, "https://NAME.vault.azure.net/keys/customers", azure.Options{})
//
// A vault has RSA keys only. RSA takes no encryption context, so the service
// neither checks nor logs for which record a key is unwrapped, and
// [kmsencrypted.KeyInfo].IgnoresContext is set: the native format still binds
// every record by itself, the Ruby format does not. And whoever has the public
// key can wrap without being asked. A Managed HSM also has AES keys: with
// [AES256GCM] the context is additional authenticated data, and the service
// checks it.
//
// The program needs the permission wrapKey to wrap and unwrapKey to unwrap (role
// Key Vault Crypto Service Encryption User; encrypt and decrypt for [AES256GCM]).
// [Provider.Probe] needs get.
//
// This package was tested with a server that speaks the protocol of the service
// according to its documentation. It has not met the real service.
package azure

import (
	"context"
	"fmt"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
)

// MaxPlaintext is the limit in bytes, which is that of an RSA key of 2048 bits.
const MaxPlaintext = 190

// Client is the part of [azkeys.Client] that the provider uses.
type Client interface {
	WrapKey(ctx context.Context, name, version string, parameters azkeys.KeyOperationParameters, options *azkeys.WrapKeyOptions) (azkeys.WrapKeyResponse, error)
	UnwrapKey(ctx context.Context, name, version string, parameters azkeys.KeyOperationParameters, options *azkeys.UnwrapKeyOptions) (azkeys.UnwrapKeyResponse, error)
	Encrypt(ctx context.Context, name, version string, parameters azkeys.KeyOperationParameters, options *azkeys.EncryptOptions) (azkeys.EncryptResponse, error)
	Decrypt(ctx context.Context, name, version string, parameters azkeys.KeyOperationParameters, options *azkeys.DecryptOptions) (azkeys.DecryptResponse, error)
	GetKey(ctx context.Context, name, version string, options *azkeys.GetKeyOptions) (azkeys.GetKeyResponse, error)
}

// Options of a [Provider]. The zero value is for an RSA key.
type Options struct {
	// Algorithm wraps and unwraps. Empty is [RSAOAEP256]. A ciphertext of another
	// algorithm does not open.
	Algorithm Algorithm
	// Credential identifies the program to [Open]. Nil is the default of the SDK:
	// environment, workload identity, managed identity, developer tools. With [New],
	// whose client has one already, it is [kmsencrypted.ErrConfig].
	Credential azcore.TokenCredential
}

// Provider wraps data keys under the newest version of one key and unwraps under
// all of them. It is immutable and safe for concurrent use.
type Provider struct {
	client    Client
	keyID     string // https://NAME.vault.azure.net/keys/KEY
	name      string // KEY
	algorithm algorithm
}

var nameShape = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)

// New returns a provider for a key by its identifier, https://HOST/keys/KEY. An
// identifier with a version, or anything else, is [kmsencrypted.ErrConfig], and so
// are an unknown algorithm and a nil client. The client must be one for the same
// host.
//
// New does not call the service; see [Provider.Probe]. Neither the client nor the
// provider has to be closed.
func New(client Client, keyID string, options Options) (*Provider, error) {
	if options.Credential != nil {
		return nil, fmt.Errorf("azure: %w: Options.Credential is for Open, not for New with a client of its own credential", kmsencrypted.ErrConfig)
	}
	_, name, err := split(keyID)
	if err != nil {
		return nil, err
	}
	if missing.Is(client) {
		return nil, fmt.Errorf("azure: %w: the client is nil", kmsencrypted.ErrConfig)
	}
	algorithm, ok := algorithmNamed(options.Algorithm)
	if !ok {
		return nil, fmt.Errorf("azure: %w: unknown algorithm %q", kmsencrypted.ErrConfig, options.Algorithm)
	}
	return &Provider{client: client, keyID: keyID, name: name, algorithm: algorithm}, nil
}

// split returns the address of the vault and the name of the key.
func split(keyID string) (vault, name string, err error) {
	u, err := url.Parse(keyID)
	if err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" {
		if name, ok := strings.CutPrefix(u.Path, "/keys/"); ok && nameShape.MatchString(name) {
			return "https://" + u.Host, name, nil
		}
	}
	return "", "", fmt.Errorf("azure: %w: %q is not https://HOST/keys/NAME", kmsencrypted.ErrConfig, keyID)
}

// Check returns [kmsencrypted.ErrConfig] for a nil or zero Provider.
func (p *Provider) Check() error {
	if p == nil || p.client == nil {
		return fmt.Errorf("azure: %w: the provider was not made by New or Open", kmsencrypted.ErrConfig)
	}
	return nil
}

// Info names the key as configured. Its tag is "azure".
func (p *Provider) Info() kmsencrypted.KeyInfo {
	if p == nil {
		p = new(Provider)
	}
	return kmsencrypted.KeyInfo{Provider: "azure", KeyID: p.keyID, Tag: "azure", IgnoresContext: !p.algorithm.bindsContext}
}

// Encrypt wraps at most 190 bytes under the newest version of the key. It returns
// [kmsencrypted.ErrTooLarge] for more. The ciphertext names the version.
func (p *Provider) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if len(plaintext) > MaxPlaintext {
		return nil, p.failed("encrypt", fmt.Errorf("%w: the provider wraps at most %d bytes", kmsencrypted.ErrTooLarge, MaxPlaintext))
	}
	result, err := p.algorithm.wrap(countingAttempts(ctx), p, plaintext, ec)
	if err != nil {
		return nil, p.answered(ctx, "encrypt", err)
	}
	wrapped, err := p.fromResult(result)
	if err != nil {
		return nil, p.failed("encrypt", err)
	}
	kmsencrypted.UsedKeyVersion(ctx, wrapped.version)
	return wrapped.encode(), nil
}

// Decrypt unwraps what Encrypt returned, under the version that the ciphertext
// names. If the service does not know that version, Decrypt asks it for the key,
// to tell a changed ciphertext ([kmsencrypted.ErrDecrypt]) from a missing key
// ([kmsencrypted.ErrKeyUnusable]).
func (p *Provider) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	w, ok := decode(ciphertext)
	if !ok || w.algorithm != p.algorithm.code {
		return nil, p.failed("decrypt", kmsencrypted.ErrDecrypt)
	}
	plaintext, err := p.algorithm.unwrap(countingAttempts(ctx), p, w, ec)
	if notFound(err) && p.exists(ctx) {
		return nil, p.failed("decrypt", fmt.Errorf("%w (the key has no version %s: it was deleted, or the ciphertext was changed)", kmsencrypted.ErrDecrypt, w.version))
	}
	if err != nil {
		return nil, p.answered(ctx, "decrypt", err)
	}
	kmsencrypted.UsedKeyVersion(ctx, w.version)
	return plaintext, nil
}

func (p *Provider) exists(ctx context.Context) bool {
	_, err := p.client.GetKey(ctx, p.name, "", nil)
	return err == nil
}

// countingAttempts reports each request of the SDK to observers, by the connection
// that it takes. A client's first request is one without credentials, which asks
// the service where to get them.
func countingAttempts(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: func(string) { kmsencrypted.Attempted(ctx) }})
}

// Probe asks the service whether the key exists, is enabled and is of the right
// kind for the algorithm. It returns [kmsencrypted.ErrKeyUnusable] if not. It does
// not check whether the program may wrap or unwrap.
func (p *Provider) Probe(ctx context.Context) error {
	if err := p.Check(); err != nil {
		return err
	}
	answer, err := p.client.GetKey(ctx, p.name, "", nil)
	if err != nil {
		return p.answered(ctx, "probe", err)
	}
	if reason := p.algorithm.unusable(answer.KeyBundle); reason != "" {
		return p.failed("probe", fmt.Errorf("%w: %s", kmsencrypted.ErrKeyUnusable, reason))
	}
	return nil
}

func (p *Provider) failed(op string, err error) *kmsencrypted.Error {
	return &kmsencrypted.Error{Op: op, Provider: "azure", KeyID: p.keyID, Err: err}
}

var (
	_ kmsencrypted.Prober  = (*Provider)(nil)
	_ kmsencrypted.Checker = (*Provider)(nil)
	_ Client               = (*azkeys.Client)(nil)
)
