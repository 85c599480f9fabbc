package kmsencrypted

import (
	"fmt"

	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
)

// Commitment returns the commitment in a native key column: 32 bytes, which are public. Two columns
// with the same one hold the same data key, so a process that may not decrypt can tell by
// it whether a record is the one that it was. A rewrap keeps it, unless the new version
// binds more or less than the old one. Commitment returns zeros for a column under a Ruby
// version, which has none. It makes no call.
func (b *Box) Commitment(column string) (commitment [32]byte, err error) {
	version, body, versioned := keycolumn.SplitVersion(column)
	if !versioned {
		version = 1
	}
	recipe, err := b.Version(version)
	if err != nil || recipe.Format == Ruby {
		return commitment, err
	}
	n, err := keycolumn.ParseText(body)
	if err == nil && (!versioned || n.Format != keycolumn.FormatKey) {
		err = ErrMalformed
	}
	if err != nil {
		return commitment, &Error{Op: "read", Version: version, Err: fmt.Errorf("%w: a key column", ErrMalformed)}
	}
	return n.Commitment, nil
}

// Committed reports whether a key column of this data key and binding has a commitment
// under any version of the Box that can be read. It makes no call.
func (b *Box) Committed(commitment [32]byte, k DataKey, to Binding) (bool, error) {
	if err := b.usable(); err != nil {
		return false, err
	}
	for _, n := range b.Versions() {
		recipe, err := b.Version(n)
		if err != nil {
			return false, err
		}
		if recipe.Format == Ruby {
			continue
		}
		ec, err := bind(to.Context, contextForm{version: n, escapes: railsDefault})
		if err != nil {
			return false, &Error{Op: "read", Version: n, Err: err}
		}
		is, err := k.commit(to.appendCanonical(nil, keycolumn.FormatKey, recipe, ec))
		if err != nil || is == commitment {
			return err == nil, err
		}
	}
	return false, nil
}
