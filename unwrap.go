package kmsencrypted

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// The life of a key that is read: Unwrap chooses the recipe of the column's version
// (unwrapping), looks into the cache (cached, in cache.go), parses the column
// (parse), asks the provider or joins a request for the same column (fetch, in
// inflight.go), and compares what comes back with the commitment in the column (check).

// Unwrap opens the data key in a key column, of any listed version and form. The
// caller must wipe the key, which is a separate copy.
//
// Unwrap makes one call to the key service. It makes none if the key is in the
// cache, and shares a call that is in flight for the same column and binding. A
// Ruby column that does not open takes one more call for each other form in which
// a Ruby process may have written its context.
//
// The error is [ErrDecrypt], [ErrBinding], [ErrVersionNotActive],
// [ErrVersionRetired], [ErrMalformed], [ErrContext] or one of the key service.
func (b *Box) Unwrap(ctx context.Context, column string, from Binding) (DataKey, error) {
	u, err := b.unwrapping(column, from, keycolumn.FormatKey)
	if err != nil {
		return DataKey{}, err
	}
	return b.open(ctx, u)
}

// open returns a data key from the cache or unwraps it.
func (b *Box) open(ctx context.Context, u *unwrapping) (DataKey, error) {
	if cached, ok := b.cached(ctx, u); ok {
		return cached.Key, cached.Err
	}
	key, err := b.fresh(ctx, u)
	r := b.stale(u, KeyResult{Key: key, Err: err})
	return r.Key, r.Err
}

// fresh unwraps a data key even if it is in the cache.
func (b *Box) fresh(ctx context.Context, u *unwrapping) (DataKey, error) {
	if err := u.parse(); err != nil {
		return DataKey{}, err
	}
	if isInMemory(u.recipe.Provider) {
		r := b.direct(ctx, u)
		return r.Key, r.Err
	}
	r := b.fetch(ctx, u)
	return r.Key, r.Err
}

// again unwraps a column whose key came from the cache.
func (u *unwrapping) again(ctx context.Context) (DataKey, error) {
	anew := *u // a copy that collects the result
	return u.box.fresh(ctx, &anew)
}

// direct unwraps a data key by a call that is shared with nobody.
func (b *Box) direct(ctx context.Context, u *unwrapping) KeyResult {
	raw, err := b.decrypt(ctx, u)
	return b.settled(u, raw, err)
}

// settled makes the key from what the provider returned, and remembers the result.
func (b *Box) settled(u *unwrapping, raw []byte, err error) KeyResult {
	r := KeyResult{Err: err}
	if err == nil {
		r.Key, r.Err = u.key(raw)
	}
	b.remember(u, r)
	return r
}

// unwrapping is a column that is being read.
type unwrapping struct {
	box      *Box
	column   string
	id       string // memo of text
	version  int
	recipe   Version
	contexts []BoundContext  // the most likely first; several only under Ruby
	only     [1]BoundContext // backs contexts of a native column
	format   byte            // what a native column must hold: a key or a secret
	binding  []byte          // native only
	usual    [usualBinding]byte

	wraps      []Wrap                         // under Ruby one, without a tag
	legacy     bool                           // the wrap is a column from before 1.0 that names its own key
	commitment [keycolumn.CommitmentSize]byte // native only, as is the rest
	rest       []byte
	opened     DataKey // set by check
}

// usualBinding is the size in bytes up to which a binding needs no memory of its own.
const usualBinding = 224

// unwrapping selects the version of a column, with its provider and context. format is
// the expected content of a native column: a key or a secret.
func (b *Box) unwrapping(column string, from Binding, format byte) (*unwrapping, error) {
	version, body, versioned := keycolumn.SplitVersion(column)
	if !versioned {
		version = 1
	}
	recipe, err := b.Version(version)
	if err != nil {
		return nil, err
	}
	u := &unwrapping{box: b, column: column, version: version, recipe: recipe, format: format}
	switch {
	case recipe.EncryptOnly:
		err = fmt.Errorf("%w: the version is EncryptOnly in this process", ErrDenied)
	case !versioned && looksVersioned.MatchString(column):
		err = fmt.Errorf("%w: version with leading zeros or out of range", ErrMalformed)
	case recipe.Format == Ruby:
		err = b.rubyColumn(u, body, versioned, from)
	case !versioned:
		err = fmt.Errorf("%w: a column without a version is Ruby's, and version 1 is native", ErrMalformed)
	default:
		err = b.nativeColumn(u, from)
	}
	if err != nil {
		return nil, &Error{Op: string(OpUnwrap), Version: version, Err: err}
	}
	return u, nil
}

// looksVersioned matches "v01:…": Ruby reads that as version 1, fails to remove
// the prefix and decodes garbage.
var looksVersioned = regexp.MustCompile(`^v\d+:`)

func (b *Box) nativeColumn(u *unwrapping, from Binding) error {
	ec, err := bind(from.Context, contextForm{version: u.version, escapes: railsDefault})
	if err != nil {
		return err
	}
	u.only[0] = ec
	u.contexts = u.only[:]
	if u.recipe, err = b.chosen(u.recipe, u.version, from.Subject, ec); err != nil {
		return err
	}
	u.binding = from.appendCanonical(u.usual[:0], u.format, u.recipe, ec)
	return nil
}

// parse reads the wraps and the commitment in a native column. A key from the cache
// does without.
func (u *unwrapping) parse() error {
	if u.recipe.Format == Ruby || u.wraps != nil {
		return nil
	}
	_, body, _ := keycolumn.SplitVersion(u.column)
	n, err := keycolumn.ParseText(body)
	seal := 0
	if u.recipe.RecordSeal {
		seal = keycolumn.SealSize
	}
	if err != nil || n.Format != u.format || u.format == keycolumn.FormatKey && len(n.Rest) != seal {
		return &Error{Op: string(OpUnwrap), Version: u.version, Err: ErrMalformed}
	}
	u.commitment, u.rest, u.wraps = n.Commitment, n.Rest, n.Wraps
	return nil
}

func (b *Box) rubyColumn(u *unwrapping, body string, versioned bool, from Binding) (err error) {
	if u.contexts, err = b.rubyContexts(from.Context, u.version, !versioned); err != nil {
		return err
	}
	if u.recipe, err = b.chosen(u.recipe, u.version, from.Subject, u.contexts[0]); err != nil {
		return err
	}
	if !versioned {
		u.legacyColumn()
		return nil
	}
	u.wraps = []Wrap{{Ciphertext: rubycompat.Decode64(body)}}
	return nil
}

// rubyContexts returns the forms in which a Ruby process may have written the
// context, the default of Rails first. They differ only if the context has a
// character that is escaped.
func (b *Box) rubyContexts(ec EncryptionContext, version int, legacy bool) ([]BoundContext, error) {
	if legacy && b.config.UpgradeContext {
		ec = Context{}
	}
	var forms []BoundContext
	for _, escapes := range rubycompat.JSONEscapes {
		bound, err := bind(ec, contextForm{version: version, legacy: legacy, escapes: escapes})
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(forms, func(f BoundContext) bool { return f.text == bound.text }) {
			forms = append(forms, bound)
		}
		if !strings.Contains(forms[0].text, `\u`) {
			break
		}
	}
	return forms, nil
}

// legacyColumn parses the forms that kms_encrypted wrote before 1.0.
func (u *unwrapping) legacyColumn() {
	switch {
	case strings.HasPrefix(u.column, "$gc$"):
		if _, ok := u.recipe.Provider.(LegacyDecrypter); ok {
			u.legacy, u.wraps = true, []Wrap{{Ciphertext: []byte(u.column)}}
		}
	case strings.HasPrefix(u.column, "vault:"):
		u.wraps = []Wrap{{Ciphertext: []byte(u.column)}}
	default:
		u.wraps = []Wrap{{Ciphertext: rubycompat.Decode64(u.column)}}
	}
}

// decrypt calls the provider and returns what it unwrapped. Only a MultiWrapper
// has already checked it.
func (b *Box) decrypt(ctx context.Context, u *unwrapping) (raw []byte, err error) {
	if multi, ok := u.recipe.Provider.(MultiWrapper); ok {
		err = b.observed(ctx, u.recipe.Provider, u.event(u.contexts[0]), func(ctx context.Context) (err error) {
			raw, err = multi.DecryptAny(ctx, u.wraps, u.contexts[0], u.check)
			return err
		})
	} else {
		err = u.firstThatOpens(func(w Wrapped) error {
			return b.observed(ctx, u.recipe.Provider, u.event(w.Context), func(ctx context.Context) (err error) {
				raw, err = u.decryptOne(ctx, w)
				return err
			})
		})
	}
	if err != nil {
		clear(raw)
		return nil, located(OpUnwrap, u.recipe.Provider, u.version, err)
	}
	return raw, nil
}

// firstThatOpens tries every wrap under every context, the most likely first,
// until one does not fail with [ErrDecrypt].
func (u *unwrapping) firstThatOpens(try func(Wrapped) error) error {
	err := ErrDecrypt
	for _, ec := range u.contexts {
		for _, wrap := range u.candidates() {
			err = try(Wrapped{Ciphertext: wrap.Ciphertext, Context: ec})
			if !errors.Is(err, ErrDecrypt) {
				return err
			}
		}
	}
	return err
}

// candidates returns the wraps that this provider may have made: those with its
// tag, or all of them if none has it (a column that several providers wrote, read
// by one whose name has changed).
func (u *unwrapping) candidates() []Wrap {
	if len(u.wraps) < 2 {
		return u.wraps
	}
	tag := u.recipe.Provider.Info().Tag
	var own []Wrap
	for _, w := range u.wraps {
		if w.Tag == tag {
			own = append(own, w)
		}
	}
	if own == nil {
		return u.wraps
	}
	return own
}

func (u *unwrapping) decryptOne(ctx context.Context, w Wrapped) ([]byte, error) {
	if u.legacy {
		return u.recipe.Provider.(LegacyDecrypter).DecryptLegacy(ctx, string(w.Ciphertext), w.Context)
	}
	return u.recipe.Provider.Decrypt(ctx, w.Ciphertext, w.Context)
}

func (u *unwrapping) event(ec BoundContext) func() Event {
	return func() Event {
		return Event{Op: OpUnwrap, Key: u.recipe.Provider.Info(), Version: u.version, Context: ec, Count: 1}
	}
}

// key returns the data key made from what a provider returned, and wipes that. The
// error is [ErrBinding] or [ErrMalformed].
func (u *unwrapping) key(raw []byte) (k DataKey, err error) {
	defer clear(raw)
	switch {
	case u.recipe.Format == Native && u.opened.IsZero():
		err = u.check(raw)
	case u.recipe.Format == Ruby && len(raw) != DataKeySize:
		err = fmt.Errorf("%w: data key of %d bytes, want %d", ErrMalformed, len(raw), DataKeySize)
	}
	switch {
	case err != nil:
		return DataKey{}, located(OpUnwrap, u.recipe.Provider, u.version, err)
	case u.recipe.Format == Ruby:
		return copyDataKey(raw), nil
	}
	return u.opened, nil
}

// check accepts what a provider returned if the column commits to it, and keeps
// the key. A Ruby column has no commitment to check.
func (u *unwrapping) check(raw []byte) error {
	if u.recipe.Format == Ruby {
		return nil
	}
	if len(raw) != DataKeySize {
		return ErrBinding
	}
	k := copyDataKey(raw)
	commitment, err := k.commit(u.binding)
	if err == nil && subtle.ConstantTimeCompare(commitment[:], u.commitment[:]) != 1 {
		err = ErrBinding
	}
	if err != nil {
		k.Wipe()
		return err
	}
	u.opened = k
	return nil
}

func (u *unwrapping) route() route { return u.recipe.route(u.version) }

// identity is equal for unwrappings that make the same request and the same
// checks: the same text under the same context and binding, on the same route.
type identity struct {
	route route
	text  string
}

func (u *unwrapping) identity() identity { return identity{u.route(), u.text()} }

// usualIdentity is the capacity in bytes that keeps a typical identity on the stack.
const usualIdentity = 1024

// text returns the part of the identity for column, context and binding.
func (u *unwrapping) text() string {
	if u.id == "" {
		u.id = string(u.appendText(make([]byte, 0, usualIdentity)))
	}
	return u.id
}

// appendText appends the column and the context, both as bound and as sent: before
// kms_encrypted 1.0 the order of pairs and the types of values made a difference. A
// binding has the context that is bound.
func (u *unwrapping) appendText(dst []byte) []byte {
	dst = canon.AppendString(dst, u.column)
	dst = canon.AppendString(dst, u.contexts[0].text)
	if u.recipe.Format == Native {
		return append(dst, u.binding...)
	}
	return u.contexts[0].appendCanonical(dst)
}

// ColumnVersion returns the version of a key column. A column without a version is
// from before kms_encrypted 1.0 and counts as version 1.
func ColumnVersion(column string) int {
	if version, _, ok := keycolumn.SplitVersion(column); ok {
		return version
	}
	return 1
}
