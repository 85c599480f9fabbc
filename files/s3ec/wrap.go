package s3ec

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// Key is a key-encryption key: [KMS], [AES] or [RSA]. It is safe for concurrent use and
// prints as "[redacted]".
type Key interface {
	// check returns an error if the key cannot be used. It makes no call.
	check() error
	// wraps returns the wrapping that the key makes.
	wraps() wrapping
	// describe returns the material description for a new object under the key, or for a
	// key of a key service the encryption context.
	describe(context map[string]string, content string) (map[string]string, error)
	// expects compares the description of an object with what the caller expects.
	expects(e *envelope, context map[string]string) error
	// opens reports whether the key can unwrap this kind of wrap.
	opens(w wrapping) bool
	wrap(ctx context.Context, dataKey []byte, content string, description map[string]string) ([]byte, error)
	unwrap(ctx context.Context, e *envelope) (dataKey []byte, err error)
}

// reservedEntry is the entry of the encryption context that binds the content algorithm.
const reservedEntry = "aws:x-amz-cek-alg"

// legacyEntry is the entry that V1 adds to the encryption context.
const legacyEntry = "kms_cmk_id"

// KMS returns a key of a key service, for the wrap "kms+context". AWS's own clients read
// only what a provider of package providers/aws wrapped. A provider that ignores the
// encryption context is [kmsencrypted.ErrConfig] in [New]: nothing else binds a data key
// to its algorithm.
func KMS(provider kmsencrypted.Provider) Key { return kmsKey{provider: provider} }

type kmsKey struct {
	secret.Redacted
	provider kmsencrypted.Provider
}

func (k kmsKey) check() error {
	if k.provider == nil {
		return configError("the provider is nil")
	}
	if checker, ok := kmsencrypted.Ability[kmsencrypted.Checker](k.provider); ok {
		if err := checker.Check(); err != nil {
			return err
		}
	}
	if k.provider.Info().IgnoresContext {
		return configError("the key of the provider ignores the encryption context, which V2 and V3 rely on")
	}
	return nil
}

func (kmsKey) wraps() wrapping { return wrapKMS }

func (kmsKey) opens(w wrapping) bool { return w == wrapKMS || w == wrapLegacyKMS }

func (kmsKey) describe(context map[string]string, content string) (map[string]string, error) {
	if _, taken := context[reservedEntry]; taken {
		return nil, fmt.Errorf("%w: %s is reserved", kmsencrypted.ErrContext, reservedEntry)
	}
	description := map[string]string{reservedEntry: content}
	maps.Copy(description, context)
	return description, nil
}

// expects always compares. A reader that expects no context must not open an object that
// has one: it would be an object of somebody else.
func (k kmsKey) expects(e *envelope, context map[string]string) error {
	if e.wrap == wrapLegacyKMS {
		stored := maps.Clone(e.description)
		delete(stored, legacyEntry)
		if !maps.Equal(stored, context) {
			return errContext
		}
		return nil
	}
	want, err := k.describe(context, e.content)
	if err == nil && !maps.Equal(e.description, want) {
		err = errContext
	}
	return err
}

func (k kmsKey) bind(description map[string]string) (kmsencrypted.BoundContext, error) {
	context := make(kmsencrypted.Context, len(description))
	for name, value := range description {
		context[name] = value
	}
	return kmsencrypted.Bind(context)
}

func (k kmsKey) wrap(ctx context.Context, dataKey []byte, _ string, description map[string]string) ([]byte, error) {
	bound, err := k.bind(description)
	if err != nil {
		return nil, err
	}
	return k.provider.Encrypt(ctx, dataKey, bound)
}

func (k kmsKey) unwrap(ctx context.Context, e *envelope) ([]byte, error) {
	bound, err := k.bind(e.description)
	if err != nil {
		return nil, err
	}
	return k.provider.Decrypt(ctx, e.wrapped, bound)
}

// raw is what keys that are in memory have in common. Their material description is
// public, is not authenticated, and only helps to choose a key.
type raw struct{ description map[string]string }

func (r raw) describe(context map[string]string, _ string) (map[string]string, error) {
	if len(context) > 0 {
		return nil, configError("only a key of a key service has an encryption context")
	}
	return r.description, nil
}

func (r raw) expects(_ *envelope, context map[string]string) error {
	_, err := r.describe(context, "")
	return err
}

// AES returns a static key of 32 bytes, for the wrap "AES/GCM" and the V1 wrap of AES in
// ECB mode; a key of 16 or 24 bytes is accepted as well, as Ruby does. AES copies the key.
// The description is stored with each object and may be nil. It is public, and may name
// the key. The error is [kmsencrypted.ErrConfig].
func AES(key []byte, description map[string]string) (Key, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, configError("a static key has 16, 24 or 32 bytes, not %d", len(key))
	}
	return aesKey{raw: raw{maps.Clone(description)}, block: secret.Hide(block)}, nil
}

// base64Prefix begins a static key in text form.
const base64Prefix = "base64:"

// ParseAES is like [AES] for a key in text form: 32 bytes, or "base64:" and the base64 of
// 32 bytes. Every other length is [kmsencrypted.ErrConfig], because text that is nearly a
// key is usually a mistake.
func ParseAES(text string, description map[string]string) (Key, error) {
	key := []byte(text)
	if encoded, ok := strings.CutPrefix(text, base64Prefix); ok {
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, configError("the static key is not base64")
		}
		key = decoded
	}
	defer clear(key)
	if len(key) != keySize {
		return nil, configError("a static key has %d bytes, not %d", keySize, len(key))
	}
	return AES(key, description)
}

type aesKey struct {
	secret.Redacted
	raw
	block secret.Pointer[cipher.Block]
}

func (k aesKey) check() error    { return nil }
func (k aesKey) wraps() wrapping { return wrapAES }

func (k aesKey) opens(w wrapping) bool { return w == wrapAES || w == wrapLegacyAES }

func (k aesKey) wrap(_ context.Context, dataKey []byte, content string, _ map[string]string) ([]byte, error) {
	gcm, err := cipher.NewGCM(*k.block.Get())
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, ivSize, ivSize+keySize+tagSize)
	rand.Read(nonce)
	return gcm.Seal(nonce, nonce, dataKey, []byte(content)), nil
}

func (k aesKey) unwrap(_ context.Context, e *envelope) ([]byte, error) {
	if e.wrap == wrapLegacyAES {
		return unwrapECB(*k.block.Get(), e.wrapped)
	}
	if len(e.wrapped) != ivSize+keySize+tagSize {
		return nil, malformed("wrapped key of %d bytes", len(e.wrapped))
	}
	gcm, err := cipher.NewGCM(*k.block.Get())
	if err != nil {
		return nil, err
	}
	dataKey, err := gcm.Open(nil, e.wrapped[:ivSize], e.wrapped[ivSize:], []byte(e.content))
	if err != nil {
		return nil, errDecrypt
	}
	return dataKey, nil
}

// RSA returns a key for the wrap "RSA-OAEP-SHA1" and the V1 wrap PKCS #1 v1.5. With a
// public key alone objects can only be written; private may be nil. The description is as
// in [AES]. The error is [kmsencrypted.ErrConfig].
func RSA(public *rsa.PublicKey, private *rsa.PrivateKey, description map[string]string) (Key, error) {
	switch {
	case public == nil && private == nil:
		return nil, configError("there is no RSA key")
	case public == nil:
		public = &private.PublicKey
	case private != nil && !private.PublicKey.Equal(public):
		return nil, configError("the RSA keys are not a pair")
	}
	if public.Size() < 2048/8 {
		return nil, configError("an RSA key of %d bits is too short", 8*public.Size())
	}
	return rsaKey{raw: raw{maps.Clone(description)}, public: public, private: secret.Hide(private)}, nil
}

// ParseRSA is like [RSA] for the PEM of a private or public key, in PKCS #1, PKCS #8 or
// PKIX form.
func ParseRSA(text []byte, description map[string]string) (Key, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, configError("not the PEM of one RSA key")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	clear(block.Bytes)
	if err == nil {
		switch key := key.(type) {
		case *rsa.PrivateKey:
			return RSA(nil, key, description)
		case *rsa.PublicKey:
			return RSA(key, nil, description)
		}
	}
	return nil, configError("not the PEM of an RSA key") // the parser's text may quote the key
}

type rsaKey struct {
	secret.Redacted
	raw
	public  *rsa.PublicKey
	private secret.Pointer[*rsa.PrivateKey]
}

func (k rsaKey) check() error    { return nil }
func (k rsaKey) wraps() wrapping { return wrapRSA }

func (k rsaKey) opens(w wrapping) bool { return w == wrapRSA || w == wrapLegacyRSA }

// wrap encrypts the length of the key, the key and the name of the content algorithm.
func (k rsaKey) wrap(_ context.Context, dataKey []byte, content string, _ map[string]string) ([]byte, error) {
	plaintext := slices.Concat([]byte{byte(len(dataKey))}, dataKey, []byte(content))
	defer clear(plaintext)
	return rsa.EncryptOAEP(sha1.New(), rand.Reader, k.public, plaintext, nil)
}

func (k rsaKey) unwrap(_ context.Context, e *envelope) ([]byte, error) {
	private := *k.private.Get()
	if private == nil {
		return nil, fmt.Errorf("%w: there is only the public RSA key", kmsencrypted.ErrKeyUnusable)
	}
	if e.wrap == wrapLegacyRSA {
		return unwrapPKCS1(private, e.wrapped)
	}
	plaintext, err := rsa.DecryptOAEP(sha1.New(), nil, private, e.wrapped, nil)
	if err != nil {
		return nil, errDecrypt
	}
	defer clear(plaintext)
	if len(plaintext) < 1+keySize || plaintext[0] != keySize ||
		subtle.ConstantTimeCompare(plaintext[1+keySize:], []byte(e.content)) != 1 {
		return nil, errDecrypt
	}
	return slices.Clone(plaintext[1 : 1+keySize]), nil
}
