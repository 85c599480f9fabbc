// Package aws wraps data keys under a symmetric key of AWS KMS. It passes the
// encryption context to the service, which checks it on every decryption and
// logs it in CloudTrail.
//
//	provider, err := aws.Open(ctx, "arn:aws:kms:eu-central-1:123456789012:key/…", aws.Options{})
//
// The role of the program needs kms:Encrypt to wrap, kms:Decrypt to unwrap, and
// kms:ReEncryptFrom and kms:ReEncryptTo for rotations that keep the data key
// inside the service. [Provider.Probe] needs kms:DescribeKey.
//
// The service treats an empty context as none.
package aws

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
)

// Limits of the service, in bytes.
const (
	MaxPlaintext  = 4096
	maxCiphertext = 6144
)

// Client is the part of [kms.Client] that the provider uses.
type Client interface {
	Encrypt(context.Context, *kms.EncryptInput, ...func(*kms.Options)) (*kms.EncryptOutput, error)
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
	ReEncrypt(context.Context, *kms.ReEncryptInput, ...func(*kms.Options)) (*kms.ReEncryptOutput, error)
	DescribeKey(context.Context, *kms.DescribeKeyInput, ...func(*kms.Options)) (*kms.DescribeKeyOutput, error)
}

// Options of a [Provider]. The zero value is usual.
type Options struct {
	// AnyKey lets the ciphertext select the key that decrypts it, among all keys
	// that the role may use, as kms_encrypted does. By default only the configured
	// key decrypts. So after an alias is moved to another key, what was wrapped
	// under the old key does not open through the alias any more. Name keys by ARN,
	// or set AnyKey.
	AnyKey bool
	// GrantTokens are sent with every request.
	GrantTokens []string
	// Load changes the configuration of the client that [Open] makes, such as
	// config.WithSharedConfigProfile("staging"). It is applied last. With [New], whose
	// client is configured already, it is [kmsencrypted.ErrConfig].
	Load []func(*config.LoadOptions) error
}

// Provider wraps data keys under one key. It is immutable and safe for
// concurrent use.
type Provider struct {
	client  Client
	keyID   string
	region  string // empty if unknown
	session *session
	options Options
}

var keyIDShape = regexp.MustCompile(`^[A-Za-z0-9:/_-]+$`)

// New returns a provider for a key id, key ARN, alias name ("alias/…") or alias
// ARN. A malformed one, one of another region than the client's, and a nil client
// are [kmsencrypted.ErrConfig].
//
// New does not call the service; see [Provider.Probe]. Credentials and region are
// those of the client. If the service says that the credentials have expired or
// are not known any more, the provider discards those that the client caches and
// makes the request once more. Neither the client nor the provider has to be
// closed.
func New(client Client, keyID string, options Options) (*Provider, error) {
	if options.Load != nil {
		return nil, fmt.Errorf("aws: %w: Options.Load is for Open, not for New with a client of its own configuration", kmsencrypted.ErrConfig)
	}
	if !keyIDShape.MatchString(keyID) {
		return nil, fmt.Errorf("aws: %w: %q is not a key id, alias or ARN", kmsencrypted.ErrConfig, keyID)
	}
	if missing.Is(client) {
		return nil, fmt.Errorf("aws: %w: the client is nil", kmsencrypted.ErrConfig)
	}
	p := &Provider{client: client, keyID: keyID, region: regionOf(keyID), session: sessionOf(client), options: options}
	p.options.GrantTokens = slices.Clone(options.GrantTokens)
	if configured, ok := client.(interface{ Options() kms.Options }); ok {
		region := configured.Options().Region
		if p.region != "" && region != p.region {
			return nil, fmt.Errorf("aws: %w: the client is for region %s, the key is in %s", kmsencrypted.ErrConfig, region, p.region)
		}
		p.region = region
	}
	return p, nil
}

// regionOf returns the region of an ARN, or "".
func regionOf(keyID string) string {
	parsed, err := arn.Parse(keyID)
	if err != nil {
		return ""
	}
	return parsed.Region
}

// Check returns [kmsencrypted.ErrConfig] for a nil or zero Provider.
func (p *Provider) Check() error {
	if p == nil || p.client == nil {
		return fmt.Errorf("aws: %w: the provider was not made by New or Open", kmsencrypted.ErrConfig)
	}
	return nil
}

// Info names the key as configured. Its tag is "aws" and the region.
func (p *Provider) Info() kmsencrypted.KeyInfo {
	if p == nil {
		p = new(Provider)
	}
	info := kmsencrypted.KeyInfo{Provider: "aws", KeyID: p.keyID, Tag: "aws"}
	if p.region != "" {
		info.Tag += " " + p.region
	}
	return info
}

// Encrypt wraps 1 to 4096 bytes. It returns [kmsencrypted.ErrTooLarge] for more.
// The ciphertext is about 150 bytes longer and names its key.
func (p *Provider) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	context, err := ec.Map()
	if err != nil {
		return nil, p.failed("encrypt", err)
	}
	if len(plaintext) > MaxPlaintext {
		return nil, p.failed("encrypt", fmt.Errorf("%w: AWS KMS encrypts at most %d bytes", kmsencrypted.ErrTooLarge, MaxPlaintext))
	}
	out, err := call(ctx, p, p.client.Encrypt, &kms.EncryptInput{
		KeyId:             &p.keyID,
		Plaintext:         plaintext,
		EncryptionContext: context,
		GrantTokens:       p.options.GrantTokens,
	})
	if err != nil {
		return nil, p.answered(ctx, "encrypt", err)
	}
	return out.CiphertextBlob, nil
}

// Decrypt unwraps what Encrypt, GenerateDataKey or ReEncrypt returned for the
// configured key, under any version of it.
func (p *Provider) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	context, err := ec.Map()
	if err != nil {
		return nil, p.failed("decrypt", err)
	}
	if !possible(ciphertext) {
		return nil, p.failed("decrypt", kmsencrypted.ErrDecrypt)
	}
	out, err := call(ctx, p, p.client.Decrypt, &kms.DecryptInput{
		KeyId:             p.pinned(),
		CiphertextBlob:    ciphertext,
		EncryptionContext: context,
		GrantTokens:       p.options.GrantTokens,
	})
	if err != nil {
		return nil, p.answered(ctx, "decrypt", err)
	}
	noteVersion(ctx, out.KeyMaterialId)
	return out.Plaintext, nil
}

// countAttempts reports each attempt of the SDK to observers. It is added after
// the step that retries.
func countAttempts(o *kms.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("kmsencrypted:attempts",
			func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
				kmsencrypted.Attempted(ctx)
				return next.HandleFinalize(ctx, in)
			}), middleware.After)
	})
}

func noteVersion(ctx context.Context, keyMaterialID *string) {
	if keyMaterialID != nil {
		kmsencrypted.UsedKeyVersion(ctx, *keyMaterialID)
	}
}

// possible reports whether the service could accept a ciphertext, which saves a
// request for one that it would call invalid.
func possible(ciphertext []byte) bool {
	return len(ciphertext) >= 1 && len(ciphertext) <= maxCiphertext
}

// pinned returns the key that may decrypt; nil lets the ciphertext select it.
func (p *Provider) pinned() *string {
	if p.options.AnyKey {
		return nil
	}
	return &p.keyID
}

// Rewrap moves a ciphertext of source to the newest version of this key and to
// another context with ReEncrypt, through this provider's client. It does not
// use the role of source. It returns [errors.ErrUnsupported] unless source is a
// [Provider] of the same region.
func (p *Provider) Rewrap(ctx context.Context, from kmsencrypted.Wrapped, source kmsencrypted.Provider, to kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if !p.RewrapsFrom(source) {
		return nil, fmt.Errorf("aws: re-encryption from another key service or region: %w", errors.ErrUnsupported)
	}
	before, err := from.Context.Map()
	if err != nil {
		return nil, p.failed("re-encrypt", err)
	}
	after, err := to.Map()
	if err != nil {
		return nil, p.failed("re-encrypt", err)
	}
	if !possible(from.Ciphertext) {
		return nil, p.failed("re-encrypt", kmsencrypted.ErrDecrypt)
	}
	out, err := call(ctx, p, p.client.ReEncrypt, &kms.ReEncryptInput{
		CiphertextBlob:               from.Ciphertext,
		SourceKeyId:                  source.(*Provider).pinned(),
		SourceEncryptionContext:      before,
		DestinationKeyId:             &p.keyID,
		DestinationEncryptionContext: after,
		GrantTokens:                  p.options.GrantTokens,
	})
	if err != nil {
		return nil, p.answered(ctx, "re-encrypt", err)
	}
	noteVersion(ctx, out.DestinationKeyMaterialId)
	return out.CiphertextBlob, nil
}

// RewrapsFrom reports whether source is a key of the same region.
func (p *Provider) RewrapsFrom(source kmsencrypted.Provider) bool {
	old, ok := source.(*Provider)
	return ok && p.Check() == nil && old.Check() == nil && p.region != "" && old.region == p.region
}

// Probe asks the service whether the key exists, is enabled and is of the right
// kind. It returns [kmsencrypted.ErrKeyUnusable] if not. It does not check
// whether the role may encrypt or decrypt.
func (p *Provider) Probe(ctx context.Context) error {
	if err := p.Check(); err != nil {
		return err
	}
	out, err := call(ctx, p, p.client.DescribeKey, &kms.DescribeKeyInput{KeyId: &p.keyID, GrantTokens: p.options.GrantTokens})
	if err != nil {
		return p.answered(ctx, "probe", err)
	}
	switch k := out.KeyMetadata; {
	case k.KeyState != types.KeyStateEnabled:
		return p.failed("probe", fmt.Errorf("%w: its state is %s", kmsencrypted.ErrKeyUnusable, k.KeyState))
	case k.KeyUsage != types.KeyUsageTypeEncryptDecrypt || k.KeySpec != types.KeySpecSymmetricDefault:
		return p.failed("probe", fmt.Errorf("%w: it is a %s key for %s, not a symmetric one for encryption",
			kmsencrypted.ErrKeyUnusable, k.KeySpec, k.KeyUsage))
	}
	return nil
}

var (
	_ kmsencrypted.RewrapForeteller = (*Provider)(nil)
	_ kmsencrypted.Prober           = (*Provider)(nil)
	_ kmsencrypted.Checker          = (*Provider)(nil)
	_ Client                        = (*kms.Client)(nil)
)
