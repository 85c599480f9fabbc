package kmsencrypted

import (
	"fmt"
	"slices"
)

// ContextWith returns an encryption context with additional pairs. It binds
// something that belongs to a record, such as a file, to the record's context and
// to itself. Binding the result returns [ErrContext] if a name appears twice or ec
// has no pairs.
func ContextWith(ec EncryptionContext, more ...Pair) EncryptionContext {
	return extendedContext{ec, more}
}

type extendedContext struct {
	EncryptionContext
	more OrderedContext
}

func (c extendedContext) bind(form contextForm) (BoundContext, error) {
	bound, err := bind(c.EncryptionContext, form)
	if err != nil {
		return bound, err
	}
	if bound.kind == contextText || form.legacy {
		return BoundContext{}, fmt.Errorf("%w: only pairs can be added to", ErrContext)
	}
	more, err := c.more.bind(form)
	if err != nil {
		return more, err
	}
	for _, p := range more.pairs {
		if slices.ContainsFunc(bound.pairs, func(o boundPair) bool { return o.name == p.name }) {
			return BoundContext{}, fmt.Errorf("%w: name %q appears twice", ErrContext, p.name)
		}
	}
	all := BoundContext{kind: contextPairs, pairs: slices.Concat(bound.pairs, more.pairs)}
	all.text, err = pairsJSON(collapsed(sortedAsRuby(all.pairs)), form)
	return all, err
}
