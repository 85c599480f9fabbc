package kmsencrypted

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// Provider wraps and unwraps small values, as a rule 32-byte data keys, under a
// key-encryption key. The packages below providers/ implement it for AWS KMS,
// Google Cloud KMS, Vault and OpenBao, a local key file and the insecure test
// key; providers/providertest holds the suite that an implementation has to pass.
//
// A provider is safe for concurrent use and honours cancellation. It keeps no
// reference to the slices it is given and hands out slices that nobody else
// uses; the caller wipes plaintexts. It returns one of this package's errors
// with the service's own as its cause, never a plaintext or a token.
//
// What a provider can do beyond this it declares by implementing
// [BatchProvider], [Rewrapper], [BatchRewrapper], [Prober], [LegacyDecrypter],
// [MultiWrapper] or [InMemory]. One with a method Check() error is asked for mistakes when a Box is made.
type Provider interface {
	// Info names the key-encryption key. It does not call the service.
	Info() KeyInfo
	// Encrypt wraps plaintext under the context.
	Encrypt(ctx context.Context, plaintext []byte, ec BoundContext) (ciphertext []byte, err error)
	// Decrypt unwraps what Encrypt returned. Another context, another key and
	// changed bytes are all [ErrDecrypt].
	Decrypt(ctx context.Context, ciphertext []byte, ec BoundContext) (plaintext []byte, err error)
}

// KeyInfo names a key-encryption key for events, error texts and wraps. Nothing in it is secret.
type KeyInfo struct {
	Provider string // "aws", "gcp", "vault", "local", "insecure-test-key"
	KeyID    string // as configured
	// Tag is the short name that a native key column carries beside the wrap,
	// at most 255 bytes, such as "aws eu-central-1". It helps to try the right
	// provider first and is never used to find a key to call.
	Tag string
	// Insecure: whoever sees the ciphertext can open it. A Box refuses such a
	// key beside real ones unless told otherwise.
	Insecure bool
	// IgnoresContext: the service does not check the context (a Vault key that
	// is not derived). Native versions carry a binding of their own; under a
	// Ruby version nothing would protect the record's name.
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

// BatchProvider handles many values in one request, as Vault does. Answers come
// in the order of the items, and one bad item does not spoil the others; the
// error returned beside them concerns the whole request.
type BatchProvider interface {
	Provider
	// BatchSize is how many items one request takes.
	BatchSize() int
	EncryptBatch(ctx context.Context, items []Plain) ([]Result, error)
	DecryptBatch(ctx context.Context, items []Wrapped) ([]Result, error)
}

// Plain is a plaintext to be wrapped under a context. It prints as "[redacted]".
type Plain struct {
	redacted
	hidden  secret.Pointer[[]byte]
	Context BoundContext
}

// NewPlain makes an item of a batch. It copies nothing: the plaintext stays the
// caller's, to wipe once the batch is answered.
func NewPlain(plaintext []byte, ec BoundContext) Plain {
	return Plain{hidden: secret.Hide(plaintext), Context: ec}
}

// Plaintext returns the bytes themselves, which a provider neither changes nor
// keeps. Those of the zero value are nil.
func (p Plain) Plaintext() []byte {
	if hidden := p.hidden.Get(); hidden != nil {
		return *hidden
	}
	return nil
}

// Rewrapper moves a ciphertext to the newest version of its own key, or to
// another context, inside the service: the plaintext stays there (AWS
// ReEncrypt, Vault rewrap). It returns [errors.ErrUnsupported] for a change that
// the service cannot make, and the caller unwraps and wraps instead.
type Rewrapper interface {
	Provider
	Rewrap(ctx context.Context, from Wrapped, source Provider, to BoundContext) (ciphertext []byte, err error)
}

// RewrapForeteller is a [Rewrapper] that says beforehand from which providers it
// moves ciphertexts whose context stays. It is asked without a call, when calls
// are planned and counted, and found by [Ability].
type RewrapForeteller interface {
	Rewrapper
	RewrapsFrom(source Provider) bool
}

// Rewrapping is a ciphertext on its way to the newest version of a key, or to
// another context.
type Rewrapping struct {
	From Wrapped
	To   BoundContext
}

// BatchRewrapper is a [BatchProvider] that moves many ciphertexts of one source
// in one request, at most BatchSize of them. Answers come in the order of the
// items; one that the service cannot move in this way has
// [errors.ErrUnsupported]. The error returned beside them concerns all: for
// [errors.ErrUnsupported] the caller moves them one by one.
type BatchRewrapper interface {
	BatchProvider
	Rewrapper
	RewrapBatch(ctx context.Context, items []Rewrapping, source Provider) ([]Result, error)
}

// Prober tells before the first record whether the key can be used.
type Prober interface {
	Provider
	// Probe asks the service about the key without changing anything.
	Probe(ctx context.Context) error
}

// LegacyDecrypter reads columns from before kms_encrypted 1.0 that name their
// own key, as those of Google Cloud KMS did ("$gc$…").
type LegacyDecrypter interface {
	Provider
	DecryptLegacy(ctx context.Context, column string, ec BoundContext) (plaintext []byte, err error)
}

// WrapCounter is a [MultiWrapper] that can tell whether a column has all wraps. It
// is asked without a call, and found by [Ability].
type WrapCounter interface {
	MultiWrapper
	// Wraps is how many wraps a data key gets.
	Wraps() int
	// Missing lists the tags of the wraps that a native key column lacks. What is
	// no such column is [ErrMalformed].
	Missing(column string) (tags []string, err error)
}

// Ability returns a provider as A, one of the optional interfaces of a provider. If
// p is no A itself, Ability looks at the providers behind it, as far as each has a
// method Unwrap that returns a Provider. Use it for questions that take no call,
// such as [WrapCounter] and [RewrapForeteller]; a call must go to p itself, because
// what stands in front of a provider may have to see it.
func Ability[A any](p Provider) (a A, ok bool) {
	for {
		if a, ok = p.(A); ok {
			return a, true
		}
		front, more := p.(interface{ Unwrap() Provider })
		if !more {
			return a, false
		}
		p = front.Unwrap()
	}
}

// Wrap is one of the wraps of a native key column: the [KeyInfo.Tag] of the
// provider that made it, and the ciphertext.
type Wrap = keycolumn.Wrap

// MultiWrapper wraps one value by several providers or regions at once, any of
// which can open it. It serves native versions only: their commitment makes all
// wraps of a column open to the same key.
type MultiWrapper interface {
	Provider
	// EncryptAll returns at least one wrap.
	EncryptAll(ctx context.Context, plaintext []byte, ec BoundContext) ([]Wrap, error)
	// DecryptAny tries the wraps by preference until one opens and check accepts
	// the plaintext. It goes on to the next after an outage, not after a refusal.
	DecryptAny(ctx context.Context, wraps []Wrap, ec BoundContext, check func(plaintext []byte) error) (plaintext []byte, err error)
}
