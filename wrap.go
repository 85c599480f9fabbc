package kmsencrypted

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
)

// Wrap wraps a data key under the current version and returns the text of its
// key column, such as "v2:AQ…". It makes one call to the key service, and
// before it one to unwrap a key from the cache again.
func (b *Box) Wrap(ctx context.Context, k DataKey, to Binding) (column string, err error) {
	w, err := b.wrapping(ctx, k, to, keycolumn.FormatKey)
	if err != nil {
		return "", err
	}
	return b.wrap(ctx, w)
}

func (b *Box) wrap(ctx context.Context, w *wrapping) (column string, err error) {
	wraps, err := b.encrypt(ctx, w)
	clear(w.raw)
	if err != nil {
		return "", err
	}
	return w.column(wraps)
}

// Unwrap opens the data key in a key column, which may be of any listed
// version and form. It makes one call to the key service; only a Ruby column
// that does not open is tried once more for each other way in which a Ruby
// process may have written its context. It makes none if the key is in the
// cache, and shares a call that is on its way for the same column and binding.
// The caller wipes the key, which nobody else holds.
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

// open takes a data key from the cache or unwraps it.
func (b *Box) open(ctx context.Context, u *unwrapping) (DataKey, error) {
	if cached, ok := b.cached(u); ok {
		return cached.Key, cached.Err
	}
	return b.fresh(ctx, u)
}

// fresh unwraps a data key whatever is in the cache.
func (b *Box) fresh(ctx context.Context, u *unwrapping) (DataKey, error) {
	if isInMemory(u.recipe.Provider) {
		f := flight{unwrapping: u}
		f.raw, f.Err = b.decrypt(ctx, u)
		b.settle(&f)
		return f.Key, f.Err
	}
	r := b.fetch(ctx, u)
	return r.Key, r.Err
}

// wrapping is a data key on its way into a column.
type wrapping struct {
	version int
	recipe  Version
	format  byte   // what the column will hold: a key or a secret
	raw     []byte // what the provider wraps; wiped afterwards
	context BoundContext

	commitment [keycolumn.CommitmentSize]byte // native only, as is the binding
	binding    []byte                         // canonical
}

// target is a column of the current version before anything is in it.
func (b *Box) target(to Binding, format byte) (*wrapping, error) {
	w := &wrapping{version: b.config.Current, format: format}
	w.recipe = b.config.Versions[w.version]
	var err error
	w.context, err = bind(to.Context, contextForm{version: w.version, escapes: railsDefault})
	if err == nil {
		w.recipe, err = b.chosen(w.recipe, w.version, to.Subject, w.context)
	}
	if err != nil {
		return nil, &Error{Op: string(OpWrap), Version: w.version, Err: err}
	}
	if w.recipe.Format == Native {
		if format == keycolumn.FormatKey && !w.recipe.OmitID && len(to.ID) == 0 {
			return nil, &Error{Op: string(OpWrap), Version: w.version, Err: ErrNoID}
		}
		w.binding = to.canonical(format, w.recipe, w.context)
	}
	return w, nil
}

// wrapping is a target for a data key, whose bytes it copies.
func (b *Box) wrapping(ctx context.Context, k DataKey, to Binding, format byte) (*wrapping, error) {
	w, err := b.target(to, format)
	if err != nil {
		return nil, err
	}
	return w, w.take(ctx, k)
}

// take copies the bytes of a key into the wrapping and commits to it.
func (w *wrapping) take(ctx context.Context, k DataKey) (err error) {
	if w.recipe.Format == Native {
		w.commitment, err = k.commit(w.binding)
	}
	if err == nil {
		w.raw, err = k.freshRaw(ctx)
	}
	if err != nil {
		return &Error{Op: string(OpWrap), Version: w.version, Err: err}
	}
	return nil
}

// encrypt calls the provider.
func (b *Box) encrypt(ctx context.Context, w *wrapping) (wraps []Wrap, err error) {
	provider := w.recipe.Provider
	err = b.observed(ctx, func() Event { return w.event() }, func(ctx context.Context) (err error) {
		if multi, ok := provider.(MultiWrapper); ok {
			wraps, err = multi.EncryptAll(ctx, w.raw, w.context)
			return err
		}
		ciphertext, err := provider.Encrypt(ctx, w.raw, w.context)
		wraps = []Wrap{{Tag: provider.Info().Tag, Ciphertext: ciphertext}}
		return err
	})
	if err != nil {
		return nil, located(OpWrap, provider, w.version, err)
	}
	return wraps, nil
}

func (w *wrapping) route() route { return w.recipe.route(w.version) }

func (w *wrapping) event() Event {
	return Event{Op: OpWrap, Key: w.recipe.Provider.Info(), Version: w.version, Context: w.context, Count: 1}
}

// column is the text for what the provider returned.
func (w *wrapping) column(wraps []Wrap) (string, error) {
	if w.recipe.Format == Ruby {
		return keycolumn.JoinVersion(w.version, wraps[0].Ciphertext), nil
	}
	return w.native(wraps, nil)
}

// usualColumn is what finds room on the stack.
const usualColumn = 384

// native is the text of a native column. rest follows the wraps.
func (w *wrapping) native(wraps []Wrap, rest []byte) (string, error) {
	n := keycolumn.Native{Format: w.format, Commitment: w.commitment, Wraps: wraps, Rest: rest}
	body, err := n.Append(make([]byte, 0, usualColumn))
	if err != nil {
		return "", &Error{Op: string(OpWrap), Version: w.version, Err: ErrTooLarge, Cause: err}
	}
	return keycolumn.JoinVersion(w.version, body), nil
}

// unwrapping is a column on its way to a data key or to the bytes in it.
type unwrapping struct {
	column   string
	id       string // memo of text
	version  int
	recipe   Version
	wraps    []Wrap          // under Ruby one, without a tag
	contexts []BoundContext  // the likeliest first; more than one under Ruby only
	only     [1]BoundContext // where the one of a native column lies
	legacy   bool            // the wrap is a column from before 1.0 that names its own key

	commitment [keycolumn.CommitmentSize]byte // native only, as is the rest
	binding    []byte
	rest       []byte
	opened     DataKey // set by check
}

// check accepts what a provider returned if it is what the column is committed
// to, and keeps the key it makes. Under Ruby nothing can be checked.
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

// key makes the data key of what a provider returned, and wipes that. The error
// is [ErrBinding] or [ErrMalformed].
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

func (u *unwrapping) route() route { return u.recipe.route(u.version) }

// identity is equal for unwrappings that are the same request with the same
// checks: the same text under the same context and binding, on the same route.
type identity struct {
	route route
	text  string
}

func (u *unwrapping) identity() identity { return identity{u.route(), u.text()} }

// text is what identity says of column, context and binding. The context counts
// as it is bound and as it is sent: before kms_encrypted 1.0 the order of pairs
// and the types of values made a difference.
func (u *unwrapping) text() string {
	if u.id == "" {
		id := make([]byte, 0, len(u.column)+2*len(u.contexts[0].text)+len(u.binding)+64)
		id = canon.AppendString(id, u.column)
		id = u.contexts[0].appendCanonical(id)
		id = canon.AppendString(id, u.contexts[0].text)
		u.id = string(append(id, u.binding...))
	}
	return u.id
}

// firstThatOpens tries every wrap under every context, the likeliest first,
// until one does not fail by [ErrDecrypt].
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

// decrypt calls the provider and returns what it unwrapped, not yet checked
// unless there are several.
func (b *Box) decrypt(ctx context.Context, u *unwrapping) (raw []byte, err error) {
	if multi, ok := u.recipe.Provider.(MultiWrapper); ok {
		err = b.observed(ctx, u.event(u.contexts[0]), func(ctx context.Context) (err error) {
			raw, err = multi.DecryptAny(ctx, u.wraps, u.contexts[0], u.check)
			return err
		})
	} else {
		err = u.firstThatOpens(func(w Wrapped) error {
			return b.observed(ctx, u.event(w.Context), func(ctx context.Context) (err error) {
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

// candidates are the wraps that this provider may have made: those with its
// tag, or all of them where none has it (a column that several providers wrote,
// read by one whose name has changed).
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

// located adds key and version to an error of a provider.
func located(op Op, provider Provider, version int, err error) error {
	info := provider.Info()
	e := &Error{Op: string(op), Provider: info.Provider, KeyID: info.KeyID, Version: version, Err: err}
	if known, ok := errors.AsType[*Error](err); ok {
		e.Err, e.Cause = known.Err, known.Cause
	}
	return e
}
