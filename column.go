package kmsencrypted

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// ColumnVersion returns the version of a key column. Columns without one are
// from before kms_encrypted 1.0 and count as version 1.
func ColumnVersion(column string) int {
	if version, _, ok := keycolumn.SplitVersion(column); ok {
		return version
	}
	return 1
}

// looksVersioned finds "v01:…": Ruby takes it for version 1, fails to remove the
// prefix and decodes rubbish.
var looksVersioned = regexp.MustCompile(`^v\d+:`)

// unwrapping reads a column under its version's recipe. format says what the
// caller expects of a native column: a key or a secret.
func (b *Box) unwrapping(column string, from Binding, format byte) (*unwrapping, error) {
	version, body, versioned := keycolumn.SplitVersion(column)
	if !versioned {
		version = 1
	}
	fail := func(err error) (*unwrapping, error) {
		return nil, &Error{Op: string(OpUnwrap), Version: version, Err: err}
	}
	recipe, err := b.Version(version)
	if err != nil {
		return nil, err
	}
	if !versioned && looksVersioned.MatchString(column) {
		return fail(fmt.Errorf("%w: version with leading zeros or out of range", ErrMalformed))
	}
	u := &unwrapping{column: column, version: version, recipe: recipe}
	if recipe.Format == Ruby {
		if u.contexts, err = b.rubyContexts(from.Context, version, !versioned); err != nil {
			return fail(err)
		}
		if u.recipe, err = b.chosen(recipe, version, from.Subject, u.contexts[0]); err != nil {
			return fail(err)
		}
		if versioned {
			u.wraps = []Wrap{{Ciphertext: rubycompat.Decode64(body)}}
		} else {
			b.legacyColumn(u, column)
		}
		return u, nil
	}
	if !versioned {
		return fail(fmt.Errorf("%w: a column without a version is Ruby's, and version 1 is native", ErrMalformed))
	}
	ec, err := bind(from.Context, contextForm{version: version, escapes: railsDefault})
	if err != nil {
		return fail(err)
	}
	u.only[0] = ec
	u.contexts = u.only[:]
	if u.recipe, err = b.chosen(recipe, version, from.Subject, ec); err != nil {
		return fail(err)
	}
	if err := u.nativeBody(body, format); err != nil {
		return fail(err)
	}
	u.binding = from.canonical(format, recipe, ec)
	return u, nil
}

func (u *unwrapping) nativeBody(body string, format byte) error {
	n, err := keycolumn.ParseText(body)
	if err != nil || n.Format != format {
		return ErrMalformed
	}
	if format == keycolumn.FormatKey {
		want := 0
		if u.recipe.RecordSeal {
			want = keycolumn.SealSize
		}
		if len(n.Rest) != want {
			return ErrMalformed
		}
	}
	u.commitment, u.rest, u.wraps = n.Commitment, n.Rest, n.Wraps
	return nil
}

// legacyColumn reads the forms that kms_encrypted wrote before 1.0.
func (b *Box) legacyColumn(u *unwrapping, column string) {
	switch {
	case strings.HasPrefix(column, "$gc$"):
		if _, ok := u.recipe.Provider.(LegacyDecrypter); ok {
			u.legacy, u.wraps = true, []Wrap{{Ciphertext: []byte(column)}}
		}
	case strings.HasPrefix(column, "vault:"):
		u.wraps = []Wrap{{Ciphertext: []byte(column)}}
	default:
		u.wraps = []Wrap{{Ciphertext: rubycompat.Decode64(column)}}
	}
}

// rubyContexts returns the forms in which a Ruby process may have written the
// context, the default of Rails first. They differ only where that escapes a
// character.
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
