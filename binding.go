package kmsencrypted

import (
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/mac"
)

// Binding is what a wrapped data key belongs to. The key service binds it to
// the context alone; a native version binds it to all of this by its
// commitment, whatever the service checks.
type Binding struct {
	Table  string
	Column string   // the key column
	ID     []string // the primary key's columns as text; left out under [Version.OmitID]
	// Context is the encryption context, or a [VersionedContext] where it
	// depends on the version.
	Context EncryptionContext
	// Subject is what a [ProviderFunc] is asked about; the Box fills in its
	// version. It is not part of the commitment.
	Subject Subject
}

// VersionedContext is a context that depends on the version of the column, as a
// Ruby context method with a version argument. It must not call the Box.
type VersionedContext func(version int) (EncryptionContext, error)

func (f VersionedContext) bind(form contextForm) (BoundContext, error) {
	ec, err := f(form.version)
	if err != nil || ec == nil {
		return BoundContext{}, err
	}
	return ec.bind(form)
}

const bindingLabel = "kmsencrypted/1 binding"

// canonical is the binding as the commitment covers it (spec/native.md section 4).
func (b Binding) canonical(format byte, recipe Version, context BoundContext) []byte {
	out := make([]byte, 0, 256)
	out = canon.AppendString(out, bindingLabel)
	out = append(out, format, recipe.flags())
	out = canon.AppendString(out, b.Table)
	out = canon.AppendString(out, b.Column)
	ids := b.ID
	if recipe.OmitID {
		ids = nil
	}
	out = canon.AppendCount(out, len(ids))
	for _, id := range ids {
		out = canon.AppendString(out, id)
	}
	return context.appendCanonical(out)
}

// flags are what the commitment says of the recipe, so that a column cannot be
// passed off as one of a version with a weaker one.
func (v Version) flags() byte {
	if v.RecordSeal {
		return 1
	}
	return 0
}

// commit computes the commitment of k to a canonical binding: a MAC under a key
// that only the data key gives, over the binding and the key tag. The tag adds
// its 64 bits to the 192 of the MAC key, so that finding two data keys with one
// commitment takes a collision over 256 bits.
func (k DataKey) commit(binding []byte) ([keycolumn.CommitmentSize]byte, error) {
	keys, err := k.record()
	if err != nil {
		return [keycolumn.CommitmentSize]byte{}, err
	}
	return mac.SHA256(keys.commitment[:], binding, keys.tag[:]), nil
}
