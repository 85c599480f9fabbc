package kmsencrypted

import (
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/mac"
)

// Binding is what a wrapped data key belongs to. The key service binds the key only
// to the context. A native version binds it to all of this by its commitment,
// whatever the service checks.
type Binding struct {
	Table  string
	Column string   // the key column
	ID     []string // columns of the primary key as text; left out under [Version.OmitID]
	// Context is the encryption context, or a [VersionedContext] if it depends on the
	// version.
	Context EncryptionContext
	// Subject is passed to a [ProviderFunc]; the Box sets its version. It is not part
	// of the commitment.
	Subject Subject
	// Target is the version to write; 0 means the Box's current one. It is not part of
	// the commitment.
	Target int
}

// VersionedContext returns a context that depends on the version of the column,
// like a Ruby context method with a version argument. It must not call the Box.
type VersionedContext func(version int) (EncryptionContext, error)

func (f VersionedContext) bind(form contextForm) (BoundContext, error) {
	ec, err := f(form.version)
	if err != nil || ec == nil {
		return BoundContext{}, err
	}
	return ec.bind(form)
}

const bindingLabel = "kmsencrypted/1 binding"

// appendCanonical appends the binding as covered by the commitment (spec/native.md
// section 4).
func (b *Binding) appendCanonical(out []byte, format byte, recipe Version, context BoundContext) []byte {
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

// flags returns the properties of the version that the commitment covers, so that a
// column cannot be passed off as one of a weaker version.
func (v Version) flags() byte {
	if v.RecordSeal {
		return 1
	}
	return 0
}

// commit returns the commitment of k to a canonical binding: a MAC over the binding
// and the key tag, under a key derived from the data key. The tag adds its 64 bits
// to the 192 of the MAC key. So finding two data keys with one commitment takes a
// collision over 256 bits.
func (k DataKey) commit(binding []byte) ([keycolumn.CommitmentSize]byte, error) {
	keys, err := k.record()
	if err != nil {
		return [keycolumn.CommitmentSize]byte{}, err
	}
	return mac.SHA256(keys.commitment[:], binding, keys.tag[:]), nil
}
