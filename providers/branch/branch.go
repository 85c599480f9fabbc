package branch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
)

// Options of a [Provider].
type Options struct {
	// Of returns the branch of a record from its encryption context. Nil means one branch,
	// "default", for all records.
	Of NameFunc
	// MaxAge is how long an opened branch key is used before the key service is asked
	// again. 0 means the [Limits].MaxAge of the store, which it must not exceed.
	MaxAge time.Duration
	// StaleFor is for how much longer it is used while the key service cannot be reached or
	// throttles, as long as its row in the key store is unchanged. An [Event] says so. It must not exceed the
	// [Limits].StaleFor of the store. 0 means not at all.
	StaleFor time.Duration
	// RefreshAhead is for how long before MaxAge a key in use is opened again in the background, so
	// that no request waits for the key service. It must be less than MaxAge. 0 means not at all. A branch
	// in use then costs a call every MaxAge-RefreshAhead.
	RefreshAhead time.Duration
	// NegativeAge is how long a refusal is remembered. 0 means not at all.
	NegativeAge time.Duration
	// MaxKeys limits the opened branch keys, at about 2 KiB each. The one that was not used for
	// the longest time is wiped. 0 means 10,000.
	MaxKeys int
	// NotBefore retires every version that was made earlier: it neither wraps nor unwraps
	// ([kmsencrypted.ErrVersionRetired]). Set it after a key has leaked, once the branch is
	// renewed and its records are rotated.
	NotBefore time.Time
	// NoCreate means that a branch without a key is an error ([ErrMissing]), instead of a reason to make
	// one. It suits every server that has no right to make keys.
	NoCreate bool
	// StoreTimeout limits one access to the key store. 0 means 5 seconds.
	StoreTimeout time.Duration
	// Receipts say what was erased. With them, a key store that was restored from a backup is
	// refused ([ErrRestored]) until [Provider.Replay]. All processes must have them before the first erasure; without
	// them, Open then returns [kmsencrypted.ErrConfig].
	Receipts Receipts
	// Observer receives what happens to branch keys, as opposed to records.
	Observer func(context.Context, Event)
}

func (o Options) withDefaults(limits Limits) Options {
	if o.Of == nil {
		o.Of = Single("default")
	}
	o.MaxAge = cmp.Or(o.MaxAge, limits.MaxAge)
	o.MaxKeys = cmp.Or(o.MaxKeys, 10_000)
	o.StoreTimeout = cmp.Or(o.StoreTimeout, 5*time.Second)
	return o
}

func (o Options) check(limits Limits) error {
	switch {
	case o.MaxAge < 0 || o.StaleFor < 0 || o.RefreshAhead < 0 || o.NegativeAge < 0 || o.MaxKeys < 0 || o.StoreTimeout < 0:
		return fmt.Errorf("branch: %w: negative limit in Options", kmsencrypted.ErrConfig)
	case o.MaxAge > limits.MaxAge:
		return fmt.Errorf("branch: %w: MaxAge is %v, and the key store permits %v", kmsencrypted.ErrConfig, o.MaxAge, limits.MaxAge)
	case o.StaleFor > limits.StaleFor:
		return fmt.Errorf("branch: %w: StaleFor is %v, and the key store permits %v", kmsencrypted.ErrConfig, o.StaleFor, limits.StaleFor)
	case o.RefreshAhead >= o.MaxAge:
		return fmt.Errorf("branch: %w: RefreshAhead is %v, and MaxAge is %v", kmsencrypted.ErrConfig, o.RefreshAhead, o.MaxAge)
	case o.MaxKeys == 1:
		return fmt.Errorf("branch: %w: MaxKeys is 1, and a branch under a parent needs both", kmsencrypted.ErrConfig)
	}
	return nil
}

// Provider wraps data keys under branch keys. It is safe for concurrent use.
type Provider struct {
	store   Store
	box     *kmsencrypted.Box
	id      ID
	info    kmsencrypted.KeyInfo
	options Options
	cache   *cache
	flights flights
	// refreshes has room for one element for each key that is opened ahead of time.
	refreshes chan struct{}
}

// Open returns a provider over a key store. The Box wraps the branch keys, and its versions have
// the key services. Open reads the key store once and calls no key service.
//
// The error is [kmsencrypted.ErrConfig] for a nil store, a Box that may not decrypt or has Ruby
// versions, and options that exceed the limits of the store. The provider has no Close method: the caller
// closes what the store was made from, after the last use of the provider.
func Open(ctx context.Context, store Store, box *kmsencrypted.Box, options Options) (*Provider, error) {
	if missing.Is(store) {
		return nil, fmt.Errorf("branch: %w: the store is nil", kmsencrypted.ErrConfig)
	}
	insecure, err := suits(box)
	if err != nil {
		return nil, err
	}
	options = options.withDefaults(Limits{})
	ctx, cancel := context.WithTimeout(ctx, options.StoreTimeout)
	defer cancel()
	state, _, err := store.Read(ctx, Name{})
	if err != nil {
		return nil, err
	}
	limits := state.Limits.withDefaults()
	options = options.withDefaults(limits)
	if err := options.check(limits); err != nil {
		return nil, err
	}
	if state.Epoch > 0 && missing.Is(options.Receipts) {
		return nil, fmt.Errorf("branch: %w: branches were erased from this key store: set Options.Receipts, so that a restored one is noticed", kmsencrypted.ErrConfig)
	}
	return &Provider{
		store: store, box: box, id: state.ID, options: options, cache: newCache(options.MaxKeys),
		flights: flights{under: make(map[Name]*flight)}, refreshes: make(chan struct{}, refreshesAtOnce),
		info: kmsencrypted.KeyInfo{
			Provider: "branch", KeyID: "branch:" + state.ID.String(), Tag: "branch " + state.ID.String()[:8], Insecure: insecure,
		},
	}, nil
}

// suits checks the Box that wraps branch keys.
func suits(box *kmsencrypted.Box) (insecure bool, err error) {
	versions := box.Versions()
	if versions == nil {
		return false, fmt.Errorf("branch: %w: the Box was not made by NewBox or Config.Box", kmsencrypted.ErrConfig)
	}
	for _, n := range versions {
		v, err := box.Version(n)
		switch {
		case err != nil:
			return false, err
		case v.Format != kmsencrypted.Native, v.RecordSeal, v.OmitID:
			return false, fmt.Errorf("branch: %w: version %d of the Box under the branches: want the native format without RecordSeal and OmitID", kmsencrypted.ErrConfig, n)
		case v.EncryptOnly:
			return false, fmt.Errorf("branch: %w: version %d of the Box under the branches is EncryptOnly, and who writes under a branch must open its key", kmsencrypted.ErrConfig, n)
		}
		insecure = insecure || v.Provider != nil && v.Provider.Info().Insecure
	}
	return insecure, nil
}

// Check returns [kmsencrypted.ErrConfig] for a nil or zero Provider.
func (p *Provider) Check() error {
	if p == nil || p.store == nil {
		return fmt.Errorf("branch: %w: the provider was not made by Open", kmsencrypted.ErrConfig)
	}
	return nil
}

// CheckVersion returns [kmsencrypted.ErrConfig] for a version that branch keys do not
// suit: in Ruby format, which no Ruby process could read, and EncryptOnly, because who can wrap
// under a branch key can unwrap.
func (p *Provider) CheckVersion(v kmsencrypted.Version) error {
	if err := p.Check(); err != nil {
		return err
	}
	switch {
	case v.Format != kmsencrypted.Native:
		return fmt.Errorf("branch: %w: branch keys are for native versions", kmsencrypted.ErrConfig)
	case v.EncryptOnly:
		return fmt.Errorf("branch: %w: who writes under a branch key can read under it; use the key service itself for an EncryptOnly version", kmsencrypted.ErrConfig)
	}
	return nil
}

// Box returns the Box that wraps the branch keys, or nil for a zero Provider.
func (p *Provider) Box() *kmsencrypted.Box {
	if p == nil {
		return nil
	}
	return p.box
}

// Bounds returns for how long this provider uses a key that is open: what [Options] and the
// key store say together.
func (p *Provider) Bounds() Limits {
	if p == nil {
		return Limits{}
	}
	return Limits{MaxAge: p.options.MaxAge, StaleFor: p.options.StaleFor}
}

// Info returns the identity of the key store.
func (p *Provider) Info() kmsencrypted.KeyInfo {
	if p == nil {
		return kmsencrypted.KeyInfo{Provider: "branch"}
	}
	return p.info
}

// InMemory marks the provider as fast: it calls the key service once for a branch and MaxAge,
// however many records of it are read at once.
func (p *Provider) InMemory() {}

// Branch returns the identity of the key store and the name of the branch, as
// [Name.String], or empty names for a context that names no branch.
func (p *Provider) Branch(ec kmsencrypted.BoundContext) (store, branch string) {
	name, err := p.name(ec)
	if err != nil {
		return "", ""
	}
	return p.id.String(), name.String()
}

func (p *Provider) name(ec kmsencrypted.BoundContext) (Name, error) {
	if err := p.Check(); err != nil {
		return Name{}, err
	}
	name, err := p.options.Of(ec)
	if err == nil {
		err = name.check()
	}
	return name, err
}

// Encrypt wraps plaintext under the current key of the branch that the context names. It makes
// the first key of a branch unless [Options].NoCreate is set.
func (p *Provider) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	name, err := p.name(ec)
	if err != nil {
		return nil, p.failed(kmsencrypted.OpWrap, err, nil)
	}
	var ciphertext []byte
	err = p.with(ctx, name, 0, func(k *key) (err error) {
		kmsencrypted.UsedKeyVersion(ctx, k.label)
		ciphertext, err = k.seal(plaintext, false, ec)
		return err
	})
	if err != nil {
		return nil, p.opError(kmsencrypted.OpWrap, name, err)
	}
	return ciphertext, nil
}

// Decrypt unwraps what Encrypt returned.
func (p *Provider) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	name, err := p.name(ec)
	if err != nil {
		return nil, p.failed(kmsencrypted.OpUnwrap, err, nil)
	}
	version, ok := versionOf(ciphertext)
	if !ok {
		return nil, p.failed(kmsencrypted.OpUnwrap, kmsencrypted.ErrDecrypt, nil)
	}
	var plaintext []byte
	err = p.with(ctx, name, version, func(k *key) (err error) {
		kmsencrypted.UsedKeyVersion(ctx, k.label)
		plaintext, err = k.open(ciphertext, false, ec)
		return err
	})
	if err != nil {
		return nil, p.opError(kmsencrypted.OpUnwrap, name, err)
	}
	return plaintext, nil
}

// Rewrap moves a ciphertext of the same provider to the current key of a branch, without a call to the key
// service for each record.
func (p *Provider) Rewrap(ctx context.Context, from kmsencrypted.Wrapped, source kmsencrypted.Provider, to kmsencrypted.BoundContext) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if !p.RewrapsFrom(source) {
		return nil, errors.ErrUnsupported
	}
	plaintext, err := p.Decrypt(ctx, from.Ciphertext, from.Context)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	return p.Encrypt(ctx, plaintext, to)
}

// RewrapsFrom reports whether source is this provider.
func (p *Provider) RewrapsFrom(source kmsencrypted.Provider) bool {
	same, ok := source.(*Provider)
	return ok && p != nil && same == p
}

// Probe reads the key store, and probes the key service of the Box's current version if that can be probed.
func (p *Provider) Probe(ctx context.Context) error {
	const op = "probe"
	if err := p.Check(); err != nil {
		return p.failed(op, err, nil)
	}
	if _, _, err := p.read(ctx, Name{}); err != nil {
		return p.failed(op, err, nil)
	}
	v, err := p.box.Version(p.box.Current())
	if prober, ok := v.Provider.(kmsencrypted.Prober); ok && err == nil {
		err = prober.Probe(ctx)
	}
	if known, ok := errors.AsType[*kmsencrypted.Error](err); ok {
		return p.failed(op, known.Err, known.Cause)
	}
	return err
}

var (
	_ kmsencrypted.InMemory         = (*Provider)(nil)
	_ kmsencrypted.Checker          = (*Provider)(nil)
	_ kmsencrypted.Prober           = (*Provider)(nil)
	_ kmsencrypted.RewrapForeteller = (*Provider)(nil)
)
