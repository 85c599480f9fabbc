package kmsencrypted

import (
	"fmt"
	"slices"
)

// ContextWith is an encryption context with more pairs: what belongs to a record,
// such as a file, is bound to the record's own context and to itself. A name that
// is there already, and a context that has no pairs, is [ErrContext].
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
			return BoundContext{}, fmt.Errorf("%w: %q is in it twice", ErrContext, p.name)
		}
	}
	all := BoundContext{kind: contextPairs, pairs: slices.Concat(bound.pairs, more.pairs)}
	all.text, err = pairsJSON(collapsed(sortedAsRuby(all.pairs)), form)
	return all, err
}
