package kmsencrypted

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// Provider wraps and unwraps small values, usually 32-byte data keys, under a
// key-encryption key. The packages in providers/ implement it for AWS KMS, Google
// Cloud KMS, Vault and OpenBao, a local key file and the insecure test key.
// Package providers/providertest has the tests that an implementation must pass.
//
// A provider is safe for concurrent use and honours cancellation. It keeps no
// reference to the slices it is given and returns slices that nobody else uses.
// The caller wipes plaintexts. Its errors are those of this package, with the
// service's own error as the cause. They never hold a plaintext or a token.
//
// A provider's New takes a client, if the service needs one, and never calls the
// service. Its Open makes the client itself, and its comment says whether it calls
// the service. Both take options by value as their last argument, and zero options
// are usual. Who opens something closes it: the caller closes the client that New
// was given, and a provider whose Open made something to close has a method
// Close() error, which does nothing after New. A provider without that method has
// nothing to close. A decorator, such as a guard, does not close the providers
// inside it.
//
// A provider declares optional abilities by implementing further interfaces.
// Those that make calls must be implemented by the provider itself, so that no
// call bypasses a decorator: [BatchProvider], [Rewrapper], [BatchRewrapper],
// [Prober], [LegacyDecrypter], [MultiWrapper] and [InMemory]. [Ability] finds
// those that make no calls behind decorators too: [Unwrapper], [Checker],
// [RewrapForeteller], [WrapCounter], and two that only package providers/branch
// has, CheckVersion and Branch. Package providers/intercept makes
// decorators that keep them all.
type Provider interface {
	// Info returns the name of the key-encryption key. It does not call the service.
	Info() KeyInfo
	// Encrypt wraps plaintext under the context.
	Encrypt(ctx context.Context, plaintext []byte, ec BoundContext) (ciphertext []byte, err error)
	// Decrypt unwraps what Encrypt returned. Another context, another key and
	// changed bytes all return [ErrDecrypt].
	Decrypt(ctx context.Context, ciphertext []byte, ec BoundContext) (plaintext []byte, err error)
}

// KeyInfo names a key-encryption key for events, error texts and wraps. Nothing in it is secret.
type KeyInfo struct {
	Provider string // "aws", "gcp", "vault", "local", "insecure-test-key"
	KeyID    string // as configured
	// Tag is the short name that a native key column stores with the wrap, at
	// most 255 bytes, such as "aws eu-central-1". It helps to try the right
	// provider first and is never used to find a key to call.
	Tag string
	// Insecure means that anybody who sees the ciphertext can open it. A Box refuses
	// such a key together with real ones unless Config.AllowInsecure is set.
	Insecure bool
	// IgnoresContext means that the service does not check the context, as for a
	// Vault key that is not derived. Native versions have a binding of their own;
	// under a Ruby version nothing else would bind a column to its record.
	IgnoresContext bool
}

// Wrapped is a ciphertext with the context it was made under.
type Wrapped struct {
	Ciphertext []byte
	Context    BoundContext
}

// Result is the answer to one item of a batch: bytes or an error.
type Result struct {
	Bytes []byte
	Err   error
}

// Plain is a plaintext to wrap under a context. It prints as "[redacted]".
type Plain struct {
	redacted
	hidden  secret.Pointer[[]byte]
	Context BoundContext
}

// NewPlain returns an item of a batch. It does not copy the plaintext: the caller
// must keep it until the batch has returned, and then wipe it.
func NewPlain(plaintext []byte, ec BoundContext) Plain {
	return Plain{hidden: secret.Hide(plaintext), Context: ec}
}

// Plaintext returns the bytes themselves. A provider must neither change nor
// keep them. The zero value returns nil.
func (p Plain) Plaintext() []byte {
	if hidden := p.hidden.Get(); hidden != nil {
		return *hidden
	}
	return nil
}

// Rewrapping is a ciphertext to move to the newest version of a key, or to
// another context.
type Rewrapping struct {
	From Wrapped
	To   BoundContext
}

// Wrap is one of the wraps in a native key column: the [KeyInfo.Tag] of the
// provider that made it, and the ciphertext.
type Wrap = keycolumn.Wrap

// Optional abilities that must be implemented by the provider itself.

// BatchProvider handles many values in one request, as Vault does. Answers are in
// the order of the items, and one bad item does not fail the others. The returned
// error concerns the whole request.
type BatchProvider interface {
	Provider
	// BatchSize returns the maximum number of items in one request.
	BatchSize() int
	EncryptBatch(ctx context.Context, items []Plain) ([]Result, error)
	DecryptBatch(ctx context.Context, items []Wrapped) ([]Result, error)
}

// Rewrapper moves a ciphertext to the newest version of its own key, or to
// another context, inside the service: the plaintext does not leave it (AWS
// ReEncrypt, Vault rewrap). For a change that the service cannot make it returns
// [errors.ErrUnsupported], and the caller unwraps and wraps instead.
type Rewrapper interface {
	Provider
	Rewrap(ctx context.Context, from Wrapped, source Provider, to BoundContext) (ciphertext []byte, err error)
}

// BatchRewrapper is a [BatchProvider] that moves many ciphertexts of one source
// in one request, at most BatchSize of them. Answers are in the order of the
// items. An item that the service cannot move this way returns
// [errors.ErrUnsupported]. The error returned with the answers concerns all
// items: after [errors.ErrUnsupported] the caller moves them one by one.
type BatchRewrapper interface {
	BatchProvider
	Rewrapper
	RewrapBatch(ctx context.Context, items []Rewrapping, source Provider) ([]Result, error)
}

// Prober checks whether the key can be used, before the first record.
type Prober interface {
	Provider
	// Probe asks the service about the key and changes nothing.
	Probe(ctx context.Context) error
}

// LegacyDecrypter reads columns from before kms_encrypted 1.0 that name their
// own key, as those of Google Cloud KMS did ("$gc$…").
type LegacyDecrypter interface {
	Provider
	DecryptLegacy(ctx context.Context, column string, ec BoundContext) (plaintext []byte, err error)
}

// MultiWrapper wraps one value with several providers or regions at once, any of
// which can open it. It works only with native versions: their commitment ensures
// that all wraps of a column open to the same key.
type MultiWrapper interface {
	Provider
	// EncryptAll returns at least one wrap.
	EncryptAll(ctx context.Context, plaintext []byte, ec BoundContext) ([]Wrap, error)
	// DecryptAny tries the wraps in order of preference until one opens and check
	// accepts the plaintext. It tries the next one after an outage, not after a
	// refusal.
	DecryptAny(ctx context.Context, wraps []Wrap, ec BoundContext, check func(plaintext []byte) error) (plaintext []byte, err error)
}

// InMemory marks providers whose calls never leave the process, such as that of a
// key file. Their calls take microseconds, so sharing one between callers would
// cost more than it saves. A provider that forwards to another must not implement it, because it may wait,
// unless it forwards few of its calls, shares them, and honours their contexts, as that
// of package providers/branch does.
type InMemory interface {
	Provider
	InMemory()
}

func isInMemory(p Provider) bool {
	_, ok := p.(InMemory)
	return ok
}

// batching returns the provider's batches and the number of values in one
// request: nil and 1 if it supports no batches. Several providers at once support
// none.
func batching(provider Provider) (BatchProvider, int) {
	if _, multi := provider.(MultiWrapper); multi {
		return nil, 1
	}
	if batch, ok := provider.(BatchProvider); ok {
		return batch, max(batch.BatchSize(), 1)
	}
	return nil, 1
}

// staysInMemory reports whether no call of a provider waits for anything. With branch
// keys some do.
func staysInMemory(p Provider) bool { return isInMemory(p) && !isBranching(p) }

// inMemoryUnit is how many values one goroutine passes to such a provider: handing over
// a single one takes longer than the call.
const inMemoryUnit = 16

// Optional abilities that make no call, which [Ability] also finds behind
// decorators.

// Unwrapper is a provider that decorates another one, such as a guard.
type Unwrapper interface {
	Provider
	// Unwrap returns the decorated provider.
	Unwrap() Provider
}

// Checker is a provider that may have an invalid configuration. [Config.Box]
// calls Check and returns its error, which should be [ErrConfig].
type Checker interface {
	Provider
	// Check does not call the service.
	Check() error
}

// versionChecker is a provider that suits only some versions. [Config.Box] returns
// the error of CheckVersion, which should be [ErrConfig].
type versionChecker interface {
	Provider
	CheckVersion(Version) error
}

// brancher is a provider that wraps under one of many keys, by the encryption context.
type brancher interface {
	Provider
	// Branch returns the names of the key store and of the key in it, and empty ones
	// for a context without a key.
	Branch(BoundContext) (store, branch string)
}

func isBranching(p Provider) bool {
	_, ok := p.(brancher)
	return ok
}

// RewrapForeteller is a [Rewrapper] that reports in advance from which providers
// it can move ciphertexts whose context does not change. Rotations use it to
// count calls in a plan.
type RewrapForeteller interface {
	Rewrapper
	RewrapsFrom(source Provider) bool
}

// WrapCounter is a [MultiWrapper] that can report whether a column has all wraps.
type WrapCounter interface {
	MultiWrapper
	// Wraps returns the number of wraps of a data key.
	Wraps() int
	// Missing returns the tags of the wraps that a native key column lacks. It
	// returns [ErrMalformed] for other text.
	Missing(column string) (tags []string, err error)
}

// Ability returns an ability that makes no call to the service: of p or of the
// providers that it decorates ([Unwrapper]), the outermost first. Use a type
// assertion for an ability that calls the service, so that the call does not
// bypass a decorator.
func Ability[A Provider](p Provider) (a A, ok bool) {
	for p != nil {
		if a, ok = p.(A); ok {
			return a, true
		}
		decorator, more := p.(Unwrapper)
		if !more {
			break
		}
		p = decorator.Unwrap()
	}
	return a, false
}
