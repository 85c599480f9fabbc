package kmsencrypted

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
)

// Format is the form of a key column and of the columns sealed under its data key.
type Format uint8

const (
	// Native is this library's own format (spec/native.md): committed, and
	// bound to table, column and record. It is the default.
	Native Format = iota
	// Ruby is the format of kms_encrypted with Lockbox and attr_encrypted, for
	// rows that a Rails application reads and writes too.
	Ruby
)

func (f Format) String() string {
	switch f {
	case Native:
		return "native"
	case Ruby:
		return "ruby"
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// Version is a whole recipe: under which key, context and format the columns of
// one version number are written and read. It never changes once a column was
// written under it; to change anything, list a new version.
type Version struct {
	// Provider wraps and unwraps the data keys of the version, unless
	// ProviderFor chooses one by the record.
	Provider    Provider
	ProviderFor ProviderFunc
	// Context makes the encryption context of a record. Nil is the default of
	// kms_encrypted, {model_name, model_id}.
	Context ContextFunc
	Format  Format
	// RecordSeal: the key column of a record also authenticates which encrypted
	// columns it has, so that one that was set back or emptied is noticed.
	// Native only. Every update then rewrites the key column.
	RecordSeal bool
	// OmitID leaves the primary key out of the commitment, for models whose id
	// is not known when they are sealed. Native only. A whole row can then be
	// copied to another id unless the context names the id.
	OmitID bool
	// EncryptOnly says that this process may not decrypt under the version. It makes
	// no call to try, and a stored record of which every field is set gets a new
	// data key: see [field.Config.Complete]. Without it a stored record keeps its
	// data key. Unlike the rest of a version it may differ between processes.
	//
	// [field.Config.Complete]: https://pkg.go.dev/github.com/kmsencrypted/kmsencrypted/field#Config
	EncryptOnly bool
	// AllowIgnoredContext accepts a key whose service does not check the context
	// (a Vault key that is not derived) under the Ruby format, where nothing
	// else binds a column to its record.
	AllowIgnoredContext bool
}

// ContextFunc makes the encryption context of a record.
type ContextFunc func(Subject) (EncryptionContext, error)

// Subject is the record that an encryption context is made for.
type Subject struct {
	Model   string   // its name in the context, such as "User"
	ID      []string // primary key as text; empty while it is not known
	Key     string   // name of the key, "" for the model's only or first one
	Version int
	Record  any // pointer to the caller's struct
}

// ProviderFunc chooses the provider of a record, so that each tenant can have a
// key of its own. It gets the record and the encryption context; the subject of
// a secret outside any table ([Box.Encrypt]) has a Version only.
//
// Nothing in a key column says which key it is under, so the same record must
// get the same key for as long as the version is listed. A record moves to another
// tenant by columns that are tagged context in package field. The function is asked
// before each wrap and unwrap, by many goroutines, and must not call the Box; its
// errors end the call. It returns the same value for the same key each time: what
// goes to one provider is sent together, cached and merged, and two are one if
// they are equal by ==.
type ProviderFunc func(Subject, BoundContext) (Provider, error)

// Config describes a [Box]. The zero value of each field is its default;
// Current and Versions are required.
type Config struct {
	// Current is the version that is written. It must be listed.
	Current int
	// Versions lists what can be read. Deploy a new version twice: first
	// listed, so that every process can read it, then as Current.
	Versions map[int]Version
	// MinVersion retires every version below it, whatever Versions says. Keep
	// it raised once a rotation is done: whoever can write to the database
	// could otherwise bring a weaker version back.
	MinVersion int
	// AllowInsecure permits an insecure key beside real ones, to move off it.
	AllowInsecure bool
	// UpgradeContext reads columns without a version under an empty context, as
	// kms_encrypted's upgrade_context does: before 1.0 that was the default.
	UpgradeContext bool
	// Concurrency bounds the requests that one call for many records has in
	// flight. 0 is 32.
	Concurrency int
	// Cache keeps data keys that were unwrapped, for a while. Nil keeps none.
	Cache *CacheConfig
	// Observer is told of every request to a key service.
	Observer Observer
	// Logger receives warnings; nil is silent.
	Logger *slog.Logger
}

const defaultConcurrency = 32

// Box wraps and unwraps data keys, and small secrets outside any table, over
// all listed versions. It is immutable and safe for concurrent use.
type Box struct {
	config   Config
	inflight inflight
	cache    *cache // nil without one
	insecure sync.Once
	requests atomic.Int64 // on their way
}

// NewBox returns a Box with one version, 1, in native format under provider.
func NewBox(provider Provider) (*Box, error) {
	return Config{Current: 1, Versions: map[int]Version{1: {Provider: provider}}}.Box()
}

// Box checks the configuration and reports all its mistakes at once, as [ErrConfig].
func (c Config) Box() (*Box, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.Versions = maps.Clone(c.Versions)
	if c.Concurrency == 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, n := range slices.Sorted(maps.Keys(c.Versions)) {
		if p := c.Versions[n].Provider; p != nil && p.Info().Insecure {
			c.warnInsecure(n, p)
		}
	}
	b := &Box{config: c, inflight: inflight{flights: make(map[identity]*flight)}}
	if c.Cache != nil {
		b.cache = newCache(*c.Cache)
	}
	return b, nil
}

func (c Config) warnInsecure(version int, p Provider) {
	c.Logger.Warn("insecure key-encryption key in use: anyone who sees the ciphertexts can open them",
		"version", version, "key_id", p.Info().KeyID)
}

func (c Config) check() error {
	var mistakes []error
	mistake := func(format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("kmsencrypted: %w: %w", ErrConfig, fmt.Errorf(format, args...)))
	}
	if _, listed := c.Versions[c.Current]; !listed {
		mistake("current version %d is not listed", c.Current)
	}
	if c.Current < c.MinVersion {
		mistake("current version %d is below the minimum %d", c.Current, c.MinVersion)
	}
	if c.Concurrency < 0 {
		mistake("concurrency %d", c.Concurrency)
	}
	if c.Cache != nil {
		c.Cache.check(mistake)
	}
	insecure := 0
	for n, v := range c.Versions {
		if n < 0 {
			mistake("version %d is negative", n)
		}
		switch {
		case v.Provider == nil && v.ProviderFor == nil:
			mistake("version %d has no provider", n)
			continue
		case v.Provider != nil && v.ProviderFor != nil:
			mistake("version %d has both Provider and ProviderFor", n)
			continue
		}
		if v.Provider != nil {
			if err := v.checkProvider(); err != nil {
				mistakes = append(mistakes, fmt.Errorf("kmsencrypted: version %d: %w", n, err))
			} else if v.Provider.Info().Insecure {
				insecure++
			}
		}
		v.check(n, mistake)
	}
	if insecure > 0 && insecure < len(c.Versions) && !c.AllowInsecure {
		mistake("an insecure key beside real ones: whoever can write to the database could choose it; set AllowInsecure while you move off it")
	}
	return errors.Join(mistakes...)
}

func (v Version) check(n int, mistake func(string, ...any)) {
	switch {
	case v.Format > Ruby:
		mistake("version %d has unknown %v", n, v.Format)
	case v.Format == Ruby && (v.RecordSeal || v.OmitID):
		mistake("version %d: RecordSeal and OmitID belong to the native format", n)
	}
}

// checkProvider finds what makes the provider unfit for the version, as [ErrConfig].
func (v Version) checkProvider() error {
	if checker, ok := Ability[Checker](v.Provider); ok {
		if err := checker.Check(); err != nil {
			return err
		}
	}
	_, multi := v.Provider.(MultiWrapper)
	switch {
	case v.Format == Ruby && multi:
		return fmt.Errorf("%w: a Ruby key column holds one wrap, so it cannot be written by several providers", ErrConfig)
	case v.Format == Ruby && v.Provider.Info().IgnoresContext && !v.AllowIgnoredContext:
		return fmt.Errorf("%w: the key ignores the context, and nothing else binds a Ruby column to its record; use a derived key, or set AllowIgnoredContext", ErrConfig)
	}
	return nil
}

// chosen is the recipe with the provider that ProviderFor chooses, held to what
// a Provider is held to when a Box is made.
func (b *Box) chosen(v Version, n int, subject Subject, ec BoundContext) (Version, error) {
	if v.ProviderFor == nil {
		return v, nil
	}
	subject.Version = n
	var err error
	if v.Provider, err = v.ProviderFor(subject, ec); err != nil {
		return v, err
	}
	switch {
	case v.Provider == nil:
		return v, fmt.Errorf("%w: ProviderFor gives no provider", ErrConfig)
	case !reflect.ValueOf(v.Provider).Comparable():
		return v, fmt.Errorf("%w: ProviderFor gives a %T, which == cannot compare", ErrConfig, v.Provider)
	}
	if err := v.checkProvider(); err != nil {
		return v, err
	}
	if v.Provider.Info().Insecure {
		if !b.config.AllowInsecure {
			return v, fmt.Errorf("%w: ProviderFor gives an insecure key, and AllowInsecure is not set", ErrConfig)
		}
		b.insecure.Do(func() { b.config.warnInsecure(n, v.Provider) })
	}
	return v, nil
}

// route is what requests have in common that may be one.
type route struct {
	version  int
	provider Provider // only where ProviderFor chooses among several
}

func (v Version) route(n int) route {
	if v.ProviderFor == nil {
		return route{version: n}
	}
	return route{n, v.Provider}
}

// errNoBox: a zero Box has no provider and no versions.
var errNoBox = fmt.Errorf("kmsencrypted: %w: the Box was not made by NewBox or Config.Box", ErrConfig)

// usable returns [ErrConfig] for a nil or zero Box.
func (b *Box) usable() error {
	if b == nil || b.config.Versions == nil {
		return errNoBox
	}
	return nil
}

// Current is the version that the Box writes, 0 for a nil or zero Box.
func (b *Box) Current() int {
	if b.usable() != nil {
		return 0
	}
	return b.config.Current
}

// Version returns the recipe of a version. The error is [ErrVersionNotActive]
// or [ErrVersionRetired] with the number.
func (b *Box) Version(n int) (Version, error) {
	if err := b.usable(); err != nil {
		return Version{}, err
	}
	v, listed := b.config.Versions[n]
	switch {
	case n < b.config.MinVersion:
		return Version{}, &Error{Op: "read", Version: n, Err: ErrVersionRetired}
	case !listed:
		return Version{}, &Error{Op: "read", Version: n, Err: ErrVersionNotActive}
	}
	return v, nil
}

// Versions lists the numbers of all versions that can be read, in order. A nil or
// zero Box has none.
func (b *Box) Versions() []int {
	if b.usable() != nil {
		return nil
	}
	all := slices.Sorted(maps.Keys(b.config.Versions))
	return slices.DeleteFunc(all, func(n int) bool { return n < b.config.MinVersion })
}
