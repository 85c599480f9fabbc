// Package gcp wraps data keys under a symmetric key of Google Cloud KMS. The
// encryption context is sent as additional authenticated data: the JSON text
// that kms_encrypted sends, so that each side reads what the other wrote.
//
//	provider, err := gcp.Open(ctx, "projects/p/locations/global/keyRings/r/cryptoKeys/k", gcp.Options{})
//
// The program needs cloudkms.cryptoKeyVersions.useToEncrypt to wrap and
// .useToDecrypt to unwrap (roles Cloud KMS CryptoKey Encrypter and Decrypter).
// [Provider.Probe] needs cloudkms.cryptoKeys.get.
//
// Cloud KMS does not write the additional data to its audit log. The log shows
// which key was used, but not for which record.
//
// CRC32C checksums protect values in both directions. An answer with a wrong or
// missing checksum, or that does not confirm the checksums sent, is discarded
// and requested again.
package gcp

import (
	"context"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"

	kms "cloud.google.com/go/kms/apiv1"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
)

// MaxPlaintext is the limit of the service in bytes, for the plaintext and for
// the additional data. Keys in hardware accept less: 8 KiB together.
const MaxPlaintext = 64 << 10

// Client is the part of [kms.KeyManagementClient] that the provider uses.
type Client interface {
	Encrypt(context.Context, *kmspb.EncryptRequest, ...gax.CallOption) (*kmspb.EncryptResponse, error)
	Decrypt(context.Context, *kmspb.DecryptRequest, ...gax.CallOption) (*kmspb.DecryptResponse, error)
	GetCryptoKey(context.Context, *kmspb.GetCryptoKeyRequest, ...gax.CallOption) (*kmspb.CryptoKey, error)
}

// Options of a [Provider]. The zero value is usual.
type Options struct {
	// LegacyKeys are names of keys, in addition to the configured one, that columns
	// from before kms_encrypted 1.0 may name. Ruby uses any key that a column
	// names. Here the content of the database never selects a key by itself.
	LegacyKeys []string
	// Client configures the client that [Open] makes, such as
	// option.WithCredentialsFile("key.json"). With [New], whose client is configured
	// already, it is [kmsencrypted.ErrConfig].
	Client []option.ClientOption
}

// Provider wraps data keys under one key. It is immutable and safe for
// concurrent use.
type Provider struct {
	client     Client
	keyName    string
	location   string
	legacyKeys []string
	closer     io.Closer // our own client; nil if the caller passed one
}

var keyNameShape = regexp.MustCompile(`^projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+$`)

// New returns a provider for a key by its resource name,
// "projects/P/locations/L/keyRings/R/cryptoKeys/K". Anything else, the name of a
// key version included, is [kmsencrypted.ErrConfig], and so is a nil client.
//
// New does not call the service; see [Provider.Probe]. Credentials are those of the
// client. The caller closes the client, after the last use of the provider.
func New(client Client, keyName string, options Options) (*Provider, error) {
	if options.Client != nil {
		return nil, fmt.Errorf("gcp: %w: Options.Client is for Open, not for New with a client of its own configuration", kmsencrypted.ErrConfig)
	}
	if missing.Is(client) {
		return nil, fmt.Errorf("gcp: %w: the client is nil", kmsencrypted.ErrConfig)
	}
	p := &Provider{client: client, keyName: keyName, legacyKeys: slices.Clone(options.LegacyKeys)}
	for _, name := range append([]string{keyName}, p.legacyKeys...) {
		if !keyNameShape.MatchString(name) {
			return nil, fmt.Errorf("gcp: %w: %q is not projects/…/locations/…/keyRings/…/cryptoKeys/…", kmsencrypted.ErrConfig, name)
		}
	}
	p.location = keyNameShape.FindStringSubmatch(keyName)[1]
	return p, nil
}

// Close closes the client that [Open] made. It does nothing after [New].
func (p *Provider) Close() error {
	if p == nil || p.closer == nil {
		return nil
	}
	return p.closer.Close()
}

// Check returns [kmsencrypted.ErrConfig] for a nil or zero Provider.
func (p *Provider) Check() error {
	if p == nil || p.client == nil {
		return fmt.Errorf("gcp: %w: the provider was not made by New or Open", kmsencrypted.ErrConfig)
	}
	return nil
}

// Info names the key as configured. Its tag is "gcp" and the location.
func (p *Provider) Info() kmsencrypted.KeyInfo {
	if p == nil {
		p = new(Provider)
	}
	return kmsencrypted.KeyInfo{Provider: "gcp", KeyID: p.keyName, Tag: "gcp " + p.location}
}

// Encrypt wraps at most 65536 bytes under the primary version of the key. It
// returns [kmsencrypted.ErrTooLarge] for more.
func (p *Provider) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	request := &kmspb.EncryptRequest{
		Name:            p.keyName,
		Plaintext:       plaintext,
		PlaintextCrc32C: checksum(plaintext),
	}
	if !ec.Absent() {
		request.AdditionalAuthenticatedData = ec.Bytes()
		request.AdditionalAuthenticatedDataCrc32C = checksum(request.AdditionalAuthenticatedData)
	}
	if len(plaintext) > MaxPlaintext || len(request.AdditionalAuthenticatedData) > MaxPlaintext {
		return nil, p.failed("encrypt", fmt.Errorf("%w: Cloud KMS takes at most %d bytes", kmsencrypted.ErrTooLarge, MaxPlaintext))
	}
	var ciphertext []byte
	err := p.attempt(ctx, "encrypt", func() error {
		out, err := p.client.Encrypt(withReason(ctx), request, callOptions(ctx)...)
		if err != nil {
			return err
		}
		ciphertext = out.Ciphertext
		kmsencrypted.UsedKeyVersion(ctx, path.Base(out.Name))
		return checkEncrypted(request, out)
	})
	if err != nil {
		return nil, err
	}
	return ciphertext, nil
}

// Decrypt unwraps what Encrypt returned, under any enabled version of the key.
func (p *Provider) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	return p.decrypt(ctx, p.keyName, ciphertext, ec)
}

func (p *Provider) decrypt(ctx context.Context, keyName string, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if len(ciphertext) == 0 {
		return nil, p.failed("decrypt", kmsencrypted.ErrDecrypt)
	}
	request := &kmspb.DecryptRequest{
		Name:             keyName,
		Ciphertext:       ciphertext,
		CiphertextCrc32C: checksum(ciphertext),
	}
	if !ec.Absent() {
		request.AdditionalAuthenticatedData = ec.Bytes()
		request.AdditionalAuthenticatedDataCrc32C = checksum(request.AdditionalAuthenticatedData)
	}
	var plaintext []byte
	err := p.attempt(ctx, "decrypt", func() error {
		out, err := p.client.Decrypt(withReason(ctx), request, callOptions(ctx)...)
		if err != nil {
			return err
		}
		plaintext = out.Plaintext
		kmsencrypted.UsedKeyVersion(ctx, primacy[out.UsedPrimary])
		if err := checkDecrypted(out); err != nil {
			clear(out.Plaintext)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return plaintext, nil
}

// primacy is all that an answer to Decrypt says about the version of the key. A
// ciphertext under another version opens until that version is disabled: rewrap
// it before.
var primacy = map[bool]string{true: "primary", false: "not primary"}

// Probe asks the service whether the key exists and its primary version is
// enabled. It returns [kmsencrypted.ErrKeyUnusable] if not. It does not check
// whether the program may encrypt or decrypt.
func (p *Provider) Probe(ctx context.Context) error {
	if err := p.Check(); err != nil {
		return err
	}
	return p.attempt(ctx, "probe", func() error {
		k, err := p.client.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: p.keyName}, callOptions(ctx)...)
		switch {
		case err != nil:
			return err
		case k.Purpose != kmspb.CryptoKey_ENCRYPT_DECRYPT:
			return fmt.Errorf("%w: its purpose is %s, not symmetric encryption", kmsencrypted.ErrKeyUnusable, k.Purpose)
		case k.Primary.GetState() != kmspb.CryptoKeyVersion_ENABLED:
			return fmt.Errorf("%w: its primary version is %s", kmsencrypted.ErrKeyUnusable, strings.ToLower(k.Primary.GetState().String()))
		}
		return nil
	})
}

var (
	_ kmsencrypted.Prober          = (*Provider)(nil)
	_ kmsencrypted.LegacyDecrypter = (*Provider)(nil)
	_ Client                       = (*kms.KeyManagementClient)(nil)
)
