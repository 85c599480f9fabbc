package azure

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/keywrap"
)

// Algorithm is the name of an algorithm of the service.
type Algorithm string

const (
	// RSAOAEP256 is RSA-OAEP with SHA-256, for RSA keys of vaults and of Managed
	// HSMs.
	RSAOAEP256 Algorithm = "RSA-OAEP-256"
	// AES256KW is the AES key wrap of RFC 3394, for AES keys of Managed HSMs. It
	// binds no context. [AES256GCM] does, and the same keys have it.
	AES256KW Algorithm = "A256KW"
	// AES256GCM is AES-256-GCM with the context as additional authenticated data,
	// for AES keys of Managed HSMs.
	AES256GCM Algorithm = "A256GCM"
)

// algorithm is how a provider wraps.
type algorithm struct {
	name         Algorithm
	code         byte // in ciphertexts
	bindsContext bool
	keyTypes     []azkeys.KeyType
	operations   []azkeys.KeyOperation
	wrap         func(context.Context, *Provider, []byte, kmsencrypted.BoundContext) (azkeys.KeyOperationResult, error)
	unwrap       func(context.Context, *Provider, wrapped, kmsencrypted.BoundContext) ([]byte, error)
}

var (
	rsaTypes = []azkeys.KeyType{azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM}
	aesTypes = []azkeys.KeyType{azkeys.KeyTypeOct, azkeys.KeyTypeOctHSM}

	wrapping   = []azkeys.KeyOperation{azkeys.KeyOperationWrapKey, azkeys.KeyOperationUnwrapKey}
	encrypting = []azkeys.KeyOperation{azkeys.KeyOperationEncrypt, azkeys.KeyOperationDecrypt}
)

func algorithmNamed(name Algorithm) (algorithm, bool) {
	if name == "" {
		name = RSAOAEP256
	}
	for _, a := range []algorithm{
		{RSAOAEP256, 1, false, rsaTypes, wrapping, wrapKey, unwrapKey},
		{AES256KW, 2, false, aesTypes, wrapping, wrapPadded, unwrapPadded},
		{AES256GCM, 3, true, aesTypes, encrypting, encrypt, decrypt},
	} {
		if a.name == name {
			return a, true
		}
	}
	return algorithm{}, false
}

func (a algorithm) parameters(value []byte) azkeys.KeyOperationParameters {
	return azkeys.KeyOperationParameters{Algorithm: new(azkeys.EncryptionAlgorithm(a.name)), Value: value}
}

func wrapKey(ctx context.Context, p *Provider, plaintext []byte, _ kmsencrypted.BoundContext) (azkeys.KeyOperationResult, error) {
	out, err := p.client.WrapKey(ctx, p.name, "", p.algorithm.parameters(plaintext), nil)
	return out.KeyOperationResult, err
}

func unwrapKey(ctx context.Context, p *Provider, w wrapped, _ kmsencrypted.BoundContext) ([]byte, error) {
	out, err := p.client.UnwrapKey(ctx, p.name, w.version, p.algorithm.parameters(w.body), nil)
	return out.Result, err
}

func wrapPadded(ctx context.Context, p *Provider, plaintext []byte, ec kmsencrypted.BoundContext) (azkeys.KeyOperationResult, error) {
	padded := keywrap.Pad(plaintext)
	defer clear(padded)
	return wrapKey(ctx, p, padded, ec)
}

func unwrapPadded(ctx context.Context, p *Provider, w wrapped, ec kmsencrypted.BoundContext) ([]byte, error) {
	padded, err := unwrapKey(ctx, p, w, ec)
	if err != nil {
		return nil, err
	}
	plaintext, ok := keywrap.Unpad(padded)
	if !ok {
		return nil, fmt.Errorf("%w: the padding is wrong", errNotWrapped)
	}
	return plaintext, nil
}

func encrypt(ctx context.Context, p *Provider, plaintext []byte, ec kmsencrypted.BoundContext) (azkeys.KeyOperationResult, error) {
	parameters := p.algorithm.parameters(plaintext)
	parameters.AdditionalAuthenticatedData = associatedData(ec)
	out, err := p.client.Encrypt(ctx, p.name, "", parameters, nil)
	return out.KeyOperationResult, err
}

func decrypt(ctx context.Context, p *Provider, w wrapped, ec kmsencrypted.BoundContext) ([]byte, error) {
	if len(w.body) < ivSize+tagSize {
		return nil, errNotWrapped
	}
	parameters := p.algorithm.parameters(w.body[ivSize : len(w.body)-tagSize])
	parameters.IV = w.body[:ivSize]
	parameters.AuthenticationTag = w.body[len(w.body)-tagSize:]
	parameters.AdditionalAuthenticatedData = associatedData(ec)
	out, err := p.client.Decrypt(ctx, p.name, w.version, parameters, nil)
	return out.Result, err
}

// associatedData distinguishes an absent context from an empty one.
func associatedData(ec kmsencrypted.BoundContext) []byte {
	if ec.Absent() {
		return []byte{0}
	}
	return append([]byte{1}, ec.Bytes()...)
}

// unusable returns why a key cannot be used, or "".
func (a algorithm) unusable(key azkeys.KeyBundle) string {
	if key.Key == nil || key.Key.Kty == nil {
		return "the answer does not say what kind of key it is"
	}
	if !slices.Contains(a.keyTypes, *key.Key.Kty) {
		return fmt.Sprintf("it is a key of type %s, which has no %s", *key.Key.Kty, a.name)
	}
	for _, operation := range a.operations {
		may := func(o *azkeys.KeyOperation) bool { return o != nil && *o == operation }
		if len(key.Key.KeyOps) > 0 && !slices.ContainsFunc(key.Key.KeyOps, may) {
			return fmt.Sprintf("its operations do not include %s", operation)
		}
	}
	now := time.Now()
	switch attributes := key.Attributes; {
	case attributes == nil:
	case attributes.Enabled != nil && !*attributes.Enabled:
		return "it is disabled"
	case attributes.NotBefore != nil && now.Before(*attributes.NotBefore):
		return fmt.Sprintf("it may not be used before %v", attributes.NotBefore.UTC())
	case attributes.Expires != nil && now.After(*attributes.Expires):
		return fmt.Sprintf("it expired at %v", attributes.Expires.UTC())
	}
	return ""
}
