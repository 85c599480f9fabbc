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
	// Native is this library's own format (spec/native.md), with a commitment to table,
	// column and record. It is the default.
	Native Format = iota
	// Ruby is the format of kms_encrypted with Lockbox and attr_encrypted, for rows
	// that a Rails application also reads and writes.
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

// Version describes how the columns of one version number are written and read: key,
// context and format. It must not change once a column was written under it. To
// change anything, list a new version.
type Version struct {
	// Provider wraps and unwraps the data keys of the version, unless ProviderFor
	// selects one by record.
	Provider    Provider
	ProviderFor ProviderFunc
	// Context returns the encryption context of a record. Nil means the default of
	// kms_encrypted, {model_name, model_id}.
	Context ContextFunc
	Format  Format
	// RecordSeal makes the key column of a record also authenticate which encrypted
	// columns the record has, so that a column that was reverted or emptied is
	// detected. It is only for Native. Every update then rewrites the key column.
	RecordSeal bool
	// OmitID leaves the primary key out of the commitment, for models that are sealed
	// before the id is known. It is only for Native. A whole row can then be copied to
	// another id unless the context contains the id.
	OmitID bool
	// EncryptOnly means that this process may not decrypt under the version. It makes
	// no attempt to, and a stored record gets a new data key if every field is set: see
	// [field.Config.Complete]. Without EncryptOnly a stored record keeps its data key.
	// Unlike the other fields it may differ between processes.
	//
	// [field.Config.Complete]: https://pkg.go.dev/github.com/kmsencrypted/kmsencrypted/field#Config
	EncryptOnly bool
	// AllowIgnoredContext accepts a key whose service does not check the context
	// (a Vault key that is not derived) under the Ruby format, where nothing
	// else binds a column to its record.
	AllowIgnoredContext bool
}

// ContextFunc returns the encryption context of a record. It is called by many goroutines,
// also for the records and keys of one call at once, and must not change the record.
type ContextFunc func(Subject) (EncryptionContext, error)

// Subject is the record for which an encryption context is made.
type Subject struct {
	Model   string   // its name in the context, such as "User"
	ID      []string // primary key as text; empty if unknown
	Key     string   // name of the key, "" for the model's only or first one
	Version int
	Record  any // pointer to the caller's struct
}

// ProviderFunc selects the provider of a record, so that each tenant can have a key
// of its own. It receives the record and the encryption context. The subject of a
// secret outside any table ([Box.Encrypt]) has only a Version.
//
// A key column does not say which key wrapped it. So the function must return the
// same key for the same record as long as the version is listed. To move a record to
// another tenant, tag the columns concerned as context in package field. The
// function is called before each wrap and unwrap, by many goroutines, and must not
// call the Box. If it fails, the call fails. It must return the same value for the
// same key each time, compared by ==, because requests to one provider are batched,
// cached and merged.
type ProviderFunc func(Subject, BoundContext) (Provider, error)

// Config describes a [Box]. The zero value of each field is its default. Current and
// Versions are required.
type Config struct {
	// Current is the version to write. It must be listed.
	Current int
	// Versions lists the versions that can be read. Deploy a new version twice: first
	// listed, so that every process can read it, then as Current.
	Versions map[int]Version
	// MinVersion retires every version below it, even if it is in Versions. Keep it
	// raised after a rotation. Otherwise somebody who can write to the database could
	// bring back a weaker version.
	MinVersion int
	// AllowInsecure permits an insecure key together with real ones, to move off it.
	AllowInsecure bool
	// UpgradeContext reads columns without a version under an empty context, as
	// kms_encrypted's upgrade_context does: before 1.0 that was the default.
	UpgradeContext bool
	// Concurrency limits the concurrent requests of one call for many records. 0 means
	// 32.
	Concurrency int
	// Cache keeps unwrapped data keys for a while. Nil means no cache.
	Cache *CacheConfig
	// Observer receives every request to a key service.
	Observer Observer
	// Logger receives warnings. Nil logs nothing.
	Logger *slog.Logger
}

const defaultConcurrency = 32

// Box wraps and unwraps data keys, and small secrets outside any table, for all
// listed versions. It is immutable and safe for concurrent use.
type Box struct {
	config   Config
	inflight inflight
	cache    *cache // nil if there is no cache
	insecure sync.Once
	requests atomic.Int64 // in flight
}

// NewBox returns a Box with a single version, 1, in native format under provider.
func NewBox(provider Provider) (*Box, error) {
	return Config{Current: 1, Versions: map[int]Version{1: {Provider: provider}}}.Box()
}

// Box checks the configuration and returns a Box. It returns all errors at once, as
// [ErrConfig].
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

// checkProvider returns [ErrConfig] if the provider does not suit the version.
func (v Version) checkProvider() error {
	if checker, ok := Ability[Checker](v.Provider); ok {
		if err := checker.Check(); err != nil {
			return err
		}
	}
	if checker, ok := Ability[versionChecker](v.Provider); ok {
		if err := checker.CheckVersion(v); err != nil {
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

// chosen returns the version with the provider that ProviderFor selects, after the
// same checks as for a Provider when a Box is made.
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
		return v, fmt.Errorf("%w: ProviderFor returned no provider", ErrConfig)
	case !reflect.ValueOf(v.Provider).Comparable():
		return v, fmt.Errorf("%w: ProviderFor returned a %T, which == cannot compare", ErrConfig, v.Provider)
	}
	if err := v.checkProvider(); err != nil {
		return v, err
	}
	if v.Provider.Info().Insecure {
		if !b.config.AllowInsecure {
			return v, fmt.Errorf("%w: ProviderFor returned an insecure key, and AllowInsecure is not set", ErrConfig)
		}
		b.insecure.Do(func() { b.config.warnInsecure(n, v.Provider) })
	}
	return v, nil
}

// route is what requests must share to be batched or merged.
type route struct {
	version  int
	provider Provider // set only if ProviderFor selects among several
}

func (v Version) route(n int) route {
	if v.ProviderFor == nil {
		return route{version: n}
	}
	return route{n, v.Provider}
}

// errNoBox reports a zero Box, which has no provider and no versions.
var errNoBox = fmt.Errorf("kmsencrypted: %w: the Box was not made by NewBox or Config.Box", ErrConfig)

// usable returns [ErrConfig] for a nil or zero Box.
func (b *Box) usable() error {
	if b == nil || b.config.Versions == nil {
		return errNoBox
	}
	return nil
}

// Current returns the version that the Box writes, or 0 for a nil or zero Box.
func (b *Box) Current() int {
	if b.usable() != nil {
		return 0
	}
	return b.config.Current
}

// Version returns a listed version. The error is [ErrVersionNotActive] or
// [ErrVersionRetired] with the number.
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

// Versions returns the numbers of all versions that can be read, in order. It
// returns none for a nil or zero Box.
func (b *Box) Versions() []int {
	if b.usable() != nil {
		return nil
	}
	all := slices.Sorted(maps.Keys(b.config.Versions))
	return slices.DeleteFunc(all, func(n int) bool { return n < b.config.MinVersion })
}
