package kmsencrypted

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
)

// Wrap wraps a data key under the current version and returns the text of its
// key column, such as "v2:AQ…". It makes one call to the key service.
func (b *Box) Wrap(ctx context.Context, k DataKey, to Binding) (column string, err error) {
	w, err := b.wrapping(k, to)
	if err != nil {
		return "", err
	}
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
// process may have written its context. The caller wipes the key.
//
// The error is [ErrDecrypt], [ErrBinding], [ErrVersionNotActive],
// [ErrVersionRetired], [ErrMalformed], [ErrContext] or one of the key service.
func (b *Box) Unwrap(ctx context.Context, column string, from Binding) (DataKey, error) {
	u, err := b.unwrapping(column, from, keycolumn.FormatKey)
	if err != nil {
		return DataKey{}, err
	}
	raw, err := b.decrypt(ctx, u)
	if err != nil {
		return DataKey{}, err
	}
	return u.key(raw)
}

// Rewrap moves a key column to the current version: another key, key service or
// context, the same data key. Columns and files sealed under the key stay valid.
// Where source and current version differ in [Format] it returns [ErrNeedsRekey].
// A record seal is dropped; whoever keeps one writes it again.
func (b *Box) Rewrap(ctx context.Context, column string, binding Binding) (rewrapped string, err error) {
	version := ColumnVersion(column)
	recipe, err := b.Version(version)
	if err != nil {
		return "", err
	}
	if recipe.Format != b.config.Versions[b.config.Current].Format {
		return "", &Error{Op: string(OpRewrap), Version: version, Err: ErrNeedsRekey}
	}
	k, err := b.Unwrap(ctx, column, binding)
	if err != nil {
		return "", err
	}
	defer k.Wipe()
	return b.Wrap(ctx, k, binding)
}

// wrapping is a data key on its way into a column.
type wrapping struct {
	version int
	recipe  Version
	format  byte // what the column will hold: a key or a secret
	key     DataKey
	raw     []byte // what the provider wraps; wiped afterwards
	context BoundContext
	binding []byte // canonical; nil under Ruby
}

func (b *Box) wrapping(k DataKey, to Binding) (*wrapping, error) {
	raw, err := k.Raw()
	if err != nil {
		return nil, &Error{Op: string(OpWrap), Err: err}
	}
	return b.wrappingBytes(k, raw, to, keycolumn.FormatKey)
}

func (b *Box) wrappingBytes(k DataKey, raw []byte, to Binding, format byte) (*wrapping, error) {
	w := &wrapping{version: b.config.Current, format: format, key: k, raw: raw}
	w.recipe = b.config.Versions[w.version]
	var err error
	w.context, err = bind(to.Context, contextForm{version: w.version, escapes: railsDefault})
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

// encrypt calls the provider.
func (b *Box) encrypt(ctx context.Context, w *wrapping) (wraps []Wrap, err error) {
	provider := w.recipe.Provider
	err = b.observed(ctx, func() Event { return w.event() }, func() (err error) {
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

func (w *wrapping) event() Event {
	return Event{Op: OpWrap, Key: w.recipe.Provider.Info(), Version: w.version, Context: w.context, Count: 1}
}

// column is the text for what the provider returned.
func (w *wrapping) column(wraps []Wrap) (string, error) {
	if w.recipe.Format == Ruby {
		return keycolumn.JoinVersion(w.version, wraps[0].Ciphertext), nil
	}
	body, err := w.native(wraps, nil)
	if err != nil {
		return "", err
	}
	return keycolumn.JoinVersion(w.version, body), nil
}

// native is the body of a native column. rest follows the wraps.
func (w *wrapping) native(wraps []Wrap, rest []byte) ([]byte, error) {
	commitment, err := w.key.commit(w.binding)
	if err != nil {
		return nil, err
	}
	n := keycolumn.Native{Format: w.format, Commitment: commitment, Wraps: wraps, Rest: rest}
	body, err := n.Append(make([]byte, 0, 256+len(rest)))
	if err != nil {
		return nil, &Error{Op: string(OpWrap), Version: w.version, Err: ErrTooLarge, Cause: err}
	}
	return body, nil
}

// unwrapping is a column on its way to a data key or to the bytes in it.
type unwrapping struct {
	version  int
	recipe   Version
	wraps    []Wrap         // under Ruby one, without a tag
	contexts []BoundContext // the likeliest first; more than one under Ruby only
	legacy   string         // a column from before 1.0 that names its own key

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

// key makes the data key of what decrypt returned, and wipes that.
func (u *unwrapping) key(raw []byte) (DataKey, error) {
	defer clear(raw)
	switch {
	case !u.opened.IsZero():
		return u.opened, nil
	case len(raw) != DataKeySize:
		err := fmt.Errorf("%w: data key of %d bytes, want %d", ErrMalformed, len(raw), DataKeySize)
		return DataKey{}, located(OpUnwrap, u.recipe.Provider, u.version, err)
	}
	return copyDataKey(raw), nil
}

// decrypt calls the provider and returns what it unwrapped, checked.
func (b *Box) decrypt(ctx context.Context, u *unwrapping) (raw []byte, err error) {
	for _, ec := range u.contexts {
		raw, err = b.decryptUnder(ctx, u, ec)
		if !errors.Is(err, ErrDecrypt) {
			break
		}
	}
	if err != nil {
		clear(raw)
		return nil, located(OpUnwrap, u.recipe.Provider, u.version, err)
	}
	return raw, nil
}

// decryptUnder tries each wrap that the provider may have made.
func (b *Box) decryptUnder(ctx context.Context, u *unwrapping, ec BoundContext) (raw []byte, err error) {
	event := func() Event {
		return Event{Op: OpUnwrap, Key: u.recipe.Provider.Info(), Version: u.version, Context: ec, Count: 1}
	}
	provider := u.recipe.Provider
	if multi, ok := provider.(MultiWrapper); ok {
		err = b.observed(ctx, event, func() error {
			raw, err = multi.DecryptAny(ctx, u.wraps, ec, u.check)
			return err
		})
		return raw, err
	}
	if legacy, ok := provider.(LegacyDecrypter); ok && u.legacy != "" {
		err = b.observed(ctx, event, func() error {
			raw, err = legacy.DecryptLegacy(ctx, u.legacy, ec)
			return err
		})
		return raw, err
	}
	err = ErrDecrypt
	for _, wrap := range u.candidates() {
		err = b.observed(ctx, event, func() error {
			raw, err = provider.Decrypt(ctx, wrap.Ciphertext, ec)
			return err
		})
		if err == nil {
			return raw, u.check(raw)
		}
		if !errors.Is(err, ErrDecrypt) {
			break
		}
	}
	return nil, err
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
