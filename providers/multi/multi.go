// Package multi wraps each data key under several key-encryption keys at once:
// keys of several regions, of several key services, or a recovery key kept
// elsewhere. Any one of them opens the record.
//
//	both := multi.New([]kmsencrypted.Provider{frankfurt, ireland}, multi.Options{})
//	box, err := kmsencrypted.NewBox(both)
//
// Providers whose keys can be erased, those of package branch, are refused, even one alone: its version
// has that provider itself.
//
// It works only with native versions. Their commitment ensures that all wraps of
// a column open to the same data key, whichever provider answers.
//
// # Writing
//
// A write calls all providers concurrently and takes as long as the slowest. It
// needs the wraps of all of them, or of [Options].Quorum if the others are out of
// reach: throttled, unavailable or silent. A provider that refuses (permission
// denied, key disabled or deleted) fails the write whatever the quorum, because
// every column would silently lack its wrap from then on. [Provider.Missing]
// reports which wraps a column lacks. [kmsencrypted.Box.Rewrap] to the same
// version completes a column, a rotation of [rotation.Complete] a table.
//
// # Reading
//
// A read calls the providers in the given order, each only for wraps with its own
// tag. It continues with the next after an outage: [kmsencrypted.ErrUnavailable],
// [kmsencrypted.ErrThrottled], or no answer within [Options].CallTimeout. It also
// continues after [kmsencrypted.ErrKeyUnusable]: the other wraps exist for the
// case that a key is lost, and the loss is noticed because writes fail. To cut
// off all access, disable the keys of all providers.
//
// It does not continue after any other error. [kmsencrypted.ErrDenied] is a
// decision about this program, which another region must not bypass. After
// [kmsencrypted.ErrDecrypt], or a data key that does not match the commitment,
// another provider could only hide the problem.
//
// Put a guard (package guard) around each provider. Then a lasting outage is
// skipped at once, instead of after a CallTimeout for each record.
package multi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
)

// Options of a [Provider]. The zero value is usual.
type Options struct {
	// Quorum is the number of providers that must wrap a data key. 0 means all of
	// them.
	Quorum int
	// CallTimeout limits one call to one provider. 0 means 3 seconds.
	CallTimeout time.Duration
	// Tags are the tags of the providers' wraps, in the same order. They are needed
	// if [kmsencrypted.KeyInfo].Tag does not distinguish the providers, such as two
	// keys in one region. Columns contain the tags, so they must not change. Nil
	// means the providers' own tags.
	Tags []string
	// Observer receives each call to each provider, including failed ones after
	// which another provider answered. The Box's own observer sees one request.
	Observer kmsencrypted.Observer
}

const defaultCallTimeout = 3 * time.Second

// Provider wraps with several providers. It is immutable and safe for concurrent
// use.
type Provider struct {
	members []member
	options Options
	mistake error
}

// member is one of the providers.
type member struct {
	kmsencrypted.Provider
	tag string
}

// New returns a provider that wraps with all given providers, or a quorum, and
// reads with the first that answers. If the arguments are invalid, such as two
// providers with one tag, every call fails with [kmsencrypted.ErrConfig], and
// [kmsencrypted.Config.Box] reports it.
//
// New calls no service. The caller closes the given providers that have a Close
// method, after the last use of this one.
func New(providers []kmsencrypted.Provider, o Options) *Provider {
	p := &Provider{options: o}
	if o.Quorum == 0 {
		p.options.Quorum = len(providers)
	}
	if o.CallTimeout == 0 {
		p.options.CallTimeout = defaultCallTimeout
	}
	if p.mistake = o.check(providers); p.mistake != nil {
		return p
	}
	for i, provider := range providers {
		p.members = append(p.members, member{provider, o.tag(i, provider)})
	}
	return p
}

func (o Options) tag(i int, provider kmsencrypted.Provider) string {
	if o.Tags != nil {
		return o.Tags[i]
	}
	return provider.Info().Tag
}

// erasable is a provider whose keys are destroyed to erase what is under them.
type erasable interface {
	kmsencrypted.Provider
	Erasable() bool
}

func (o Options) check(providers []kmsencrypted.Provider) error {
	var mistakes []error
	mistake := func(format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("multi: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...)))
	}
	if len(providers) == 0 || len(providers) > keycolumn.MaxWraps {
		mistake("%d providers, want 1 to %d", len(providers), keycolumn.MaxWraps)
	}
	if o.Quorum < 0 || o.Quorum > len(providers) {
		mistake("quorum %d of %d providers", o.Quorum, len(providers))
	}
	if o.CallTimeout < 0 {
		mistake("call timeout %v", o.CallTimeout)
	}
	for _, p := range providers {
		if e, ok := kmsencrypted.Ability[erasable](p); ok && e.Erasable() {
			mistake("the keys of %s can be erased, and other wraps would outlive them", e.Info().Provider)
		}
	}
	if o.Tags != nil && len(o.Tags) != len(providers) {
		mistake("%d tags for %d providers", len(o.Tags), len(providers))
		return errors.Join(mistakes...)
	}
	insecure := 0
	tags := make(map[string]bool)
	for i, provider := range providers {
		if provider == nil {
			mistake("provider %d is nil", i)
			continue
		}
		if _, nested := provider.(kmsencrypted.MultiWrapper); nested {
			mistake("provider %d has several wraps itself", i)
		}
		if checker, ok := kmsencrypted.Ability[kmsencrypted.Checker](provider); ok {
			if err := checker.Check(); err != nil {
				mistakes = append(mistakes, err)
				continue
			}
		}
		tag := o.tag(i, provider)
		if tags[tag] {
			mistake("two providers with the tag %q; tell them apart by Options.Tags", tag)
		}
		tags[tag] = true
		if len(tag) > keycolumn.MaxTag {
			mistake("tag of provider %d has %d bytes, more than %d", i, len(tag), keycolumn.MaxTag)
		}
		if provider.Info().Insecure {
			insecure++
		}
	}
	if insecure > 0 && insecure < len(providers) {
		mistake("an insecure key together with real ones opens every column")
	}
	return errors.Join(mistakes...)
}

// Check returns the errors in the arguments of [New]. It also returns an error for
// a nil or zero Provider.
func (p *Provider) Check() error {
	if p == nil || p.mistake == nil && len(p.members) == 0 {
		return fmt.Errorf("multi: %w: the provider was not made by New and has no members", kmsencrypted.ErrConfig)
	}
	return p.mistake
}

// Wraps is how many wraps a data key gets: one call to a key service each.
func (p *Provider) Wraps() int {
	if p == nil {
		return 0
	}
	return len(p.members)
}

// Info returns the names of all keys. It is insecure if all of them are, and
// ignores the context if any of them does.
func (p *Provider) Info() kmsencrypted.KeyInfo {
	info := kmsencrypted.KeyInfo{Provider: "multi", Tag: "multi"}
	if p == nil {
		return info
	}
	ids := make([]string, len(p.members))
	for i, m := range p.members {
		of := m.Info()
		ids[i] = of.KeyID
		info.Insecure = info.Insecure || of.Insecure
		info.IgnoresContext = info.IgnoresContext || of.IgnoresContext
	}
	info.KeyID = strings.Join(ids, " + ")
	return info
}

// EncryptAll wraps plaintext with all providers concurrently.
func (p *Provider) EncryptAll(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]kmsencrypted.Wrap, error) {
	if err := p.Check(); err != nil {
		return nil, p.failed(kmsencrypted.OpWrap, err, nil)
	}
	wraps := make([]kmsencrypted.Wrap, len(p.members))
	errs := p.each(func(i int, m member) error {
		ciphertext, err := p.ask(ctx, m, kmsencrypted.OpWrap, ec, func(ctx context.Context) ([]byte, error) {
			return m.Encrypt(ctx, plaintext, ec)
		})
		wraps[i] = kmsencrypted.Wrap{Tag: m.tag, Ciphertext: ciphertext}
		return err
	})
	made := 0
	for i, err := range errs {
		switch {
		case err == nil:
			wraps[made] = wraps[i]
			made++
		case ctx.Err() != nil:
			return nil, p.failed(kmsencrypted.OpWrap, ctx.Err(), nil)
		case !kmsencrypted.Retryable(err):
			return nil, p.failed(kmsencrypted.OpWrap, kind(err), errors.Join(errs...))
		}
	}
	if made < p.options.Quorum {
		all := errors.Join(errs...)
		return nil, p.failed(kmsencrypted.OpWrap, kind(all), all)
	}
	return wraps[:made], nil
}

// DecryptAny unwraps with the first provider that answers, if check accepts the
// answer. If no wrap of a column has the tag of a provider, all providers try it,
// because names may have changed.
func (p *Provider) DecryptAny(ctx context.Context, wraps []kmsencrypted.Wrap, ec kmsencrypted.BoundContext, check func(plaintext []byte) error) ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, p.failed(kmsencrypted.OpUnwrap, err, nil)
	}
	var passed []error
	for _, try := range p.tries(wraps) {
		plaintext, err := p.ask(ctx, try.member, kmsencrypted.OpUnwrap, ec, func(ctx context.Context) ([]byte, error) {
			return try.Decrypt(ctx, try.wrap.Ciphertext, ec)
		})
		if err == nil {
			if err := check(plaintext); err != nil {
				clear(plaintext)
				return nil, p.failed(kmsencrypted.OpUnwrap, err, errors.Join(passed...))
			}
			return plaintext, nil
		}
		passed = append(passed, err)
		switch {
		case ctx.Err() != nil:
			return nil, p.failed(kmsencrypted.OpUnwrap, ctx.Err(), errors.Join(passed...))
		case kmsencrypted.Retryable(err), errors.Is(err, kmsencrypted.ErrKeyUnusable):
		case try.isGuess && errors.Is(err, kmsencrypted.ErrDecrypt):
		default:
			return nil, p.failed(kmsencrypted.OpUnwrap, kind(err), errors.Join(passed...))
		}
	}
	if passed == nil {
		return nil, p.failed(kmsencrypted.OpUnwrap, kmsencrypted.ErrDecrypt, nil)
	}
	all := errors.Join(passed...)
	return nil, p.failed(kmsencrypted.OpUnwrap, kind(all), all)
}

// try is a wrap and a provider that may open it.
type try struct {
	member
	wrap    kmsencrypted.Wrap
	isGuess bool // no tag says that this provider made it
}

func (p *Provider) tries(wraps []kmsencrypted.Wrap) (tries []try) {
	collect := func(isGuess bool) {
		for _, m := range p.members {
			for _, w := range wraps {
				if isGuess || w.Tag == m.tag {
					tries = append(tries, try{m, w, isGuess})
				}
			}
		}
	}
	collect(false)
	if tries == nil {
		collect(true)
	}
	return tries
}

// Missing returns the tags of the providers that have no wrap in a native key
// column. [kmsencrypted.Box.Rewrap] returns a column with all of them. Missing
// returns [kmsencrypted.ErrMalformed] for anything but a native column.
func (p *Provider) Missing(column string) (tags []string, err error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	_, body, versioned := keycolumn.SplitVersion(column)
	native, err := keycolumn.ParseText(body)
	if !versioned || err != nil {
		return nil, fmt.Errorf("multi: %w", kmsencrypted.ErrMalformed)
	}
	for _, m := range p.members {
		if !slices.ContainsFunc(native.Wraps, func(w keycolumn.Wrap) bool { return w.Tag == m.tag }) {
			tags = append(tags, m.tag)
		}
	}
	return tags, nil
}

// Probe calls all providers that have a Probe method and joins their errors.
func (p *Provider) Probe(ctx context.Context) error {
	const op = "probe"
	if err := p.Check(); err != nil {
		return p.failed(op, err, nil)
	}
	errs := p.each(func(_ int, m member) error {
		prober, ok := m.Provider.(kmsencrypted.Prober)
		if !ok {
			return nil
		}
		_, err := p.ask(ctx, m, op, kmsencrypted.BoundContext{}, func(ctx context.Context) ([]byte, error) {
			return nil, prober.Probe(ctx)
		})
		return err
	})
	err := errors.Join(errs...)
	switch {
	case ctx.Err() != nil:
		return p.failed(op, ctx.Err(), nil)
	case err != nil:
		return p.failed(op, kind(err), err)
	}
	return nil
}

// each calls f for all members concurrently.
func (p *Provider) each(f func(i int, m member) error) []error {
	errs := make([]error, len(p.members))
	var running sync.WaitGroup
	for i, m := range p.members {
		running.Go(func() { errs[i] = f(i, m) })
	}
	running.Wait()
	return errs
}

// ask makes one call within its time limit and reports it to the observer.
func (p *Provider) ask(ctx context.Context, m member, op kmsencrypted.Op, ec kmsencrypted.BoundContext, request func(context.Context) ([]byte, error)) (answer []byte, err error) {
	limited, cancel := context.WithTimeout(ctx, p.options.CallTimeout)
	defer cancel()
	info := m.Info()
	event := func() kmsencrypted.Event {
		key := info
		key.Tag = m.tag
		return kmsencrypted.Event{Op: op, Key: key, Context: ec, Count: 1}
	}
	err = p.options.Observer.Observe(limited, event, func(limited context.Context) (err error) {
		answer, err = request(limited)
		if errors.Is(err, context.DeadlineExceeded) && limited.Err() != nil && ctx.Err() == nil {
			err = &kmsencrypted.Error{Op: string(op), Provider: info.Provider, KeyID: info.KeyID,
				Err: kmsencrypted.ErrUnavailable, Cause: fmt.Errorf("no answer within %v", p.options.CallTimeout)}
		}
		return err
	})
	return answer, err
}

// kind returns the kind of an error or of several joined errors: a retryable one
// if there is any.
func kind(err error) error {
	for _, sentinel := range []error{
		kmsencrypted.ErrUnavailable, kmsencrypted.ErrThrottled, kmsencrypted.ErrKeyUnusable,
	} {
		if errors.Is(err, sentinel) {
			return sentinel
		}
	}
	if one, ok := errors.AsType[*kmsencrypted.Error](err); ok {
		return one.Err
	}
	return err
}

func (p *Provider) failed(op kmsencrypted.Op, err, cause error) error {
	info := p.Info()
	return &kmsencrypted.Error{Op: string(op), Provider: info.Provider, KeyID: info.KeyID, Err: err, Cause: cause}
}

var (
	_ kmsencrypted.WrapCounter = (*Provider)(nil)
	_ kmsencrypted.Prober      = (*Provider)(nil)
)
