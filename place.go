package kmsencrypted

// Place is where a data key is wrapped: the provider, and the encryption context
// with the rest of the binding. Places are compared with ==.
type Place struct {
	provider Provider
	branch   [2]string // of a provider with many keys
	binding  string
}

// SameProvider reports whether two places have the same key-encryption key: one
// provider and, if that has a key for each branch (package providers/branch), one branch.
func (p Place) SameProvider(other Place) bool {
	return p.provider == other.provider && p.branch == other.branch
}

// Provider returns the provider that [Version.ProviderFor] chose. It is nil where
// the version has one provider for all records.
func (p Place) Provider() Provider { return p.provider }

// Branch returns the key store and the branch of a provider that has a key for each
// branch (package providers/branch), otherwise empty names.
func (p Place) Branch() (store, branch string) { return p.branch[0], p.branch[1] }

// SameBinding reports whether two places bind a data key to the same record, context and
// settings of a version.
func (p Place) SameBinding(other Place) bool { return p.binding == other.binding }

// Place tells where a version wraps the data key of a binding. It asks the
// functions of the version for context and provider, and makes no call.
func (b *Box) Place(version int, to Binding) (Place, error) {
	recipe, err := b.Version(version)
	if err != nil {
		return Place{}, err
	}
	ec, err := bind(to.Context, contextForm{version: version, escapes: railsDefault})
	if err == nil {
		recipe, err = b.chosen(recipe, version, to.Subject, ec)
	}
	if err != nil {
		return Place{}, &Error{Op: string(OpWrap), Version: version, Err: err}
	}
	p := Place{binding: string(to.appendCanonical(nil, 0, recipe, ec))}
	if recipe.ProviderFor != nil { // otherwise it is the version's own, which may not be comparable
		p.provider = recipe.Provider
	}
	if many, ok := Ability[brancher](recipe.Provider); ok {
		p.branch[0], p.branch[1] = many.Branch(ec)
	}
	return p, nil
}
