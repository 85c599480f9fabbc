package kmsencrypted

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// EncryptionContext is what the key service binds to a wrapped key and writes to
// its audit log: public name-value pairs. A ciphertext opens only under the
// context it was made with. It is a [Context], a [ModelContext], an
// [OrderedContext], a [TextContext] or a [VersionedContext]. Nil means no context,
// which differs from an empty one.
type EncryptionContext interface {
	// bind checks the context and converts it to the form for providers.
	bind(form contextForm) (BoundContext, error)
}

// Context is an encryption context whose names are Ruby symbols, as in nearly all
// Ruby code. Values are strings or integers of any size and type. A nil Context
// means no context.
type Context map[string]any

// OrderedContext is a context whose order or kind of names matters: Ruby strings
// as names, and columns from before kms_encrypted 1.0, which keep the order of the
// hash. A nil OrderedContext means no context.
type OrderedContext []Pair

// Pair is one name and value of an [OrderedContext].
type Pair struct {
	Name  string
	Value any
	// StringName means that the name is a Ruby string, not a symbol. It changes the
	// order, not the text.
	StringName bool
}

// ModelContext is the default context of kms_encrypted for records of a model:
// {model_name, model_id}.
type ModelContext struct {
	Name string // of the model, such as "User"
	ID   string // primary key as text
	// Number means that the id is an integer. It matters only for columns from before
	// kms_encrypted 1.0.
	Number bool
}

// TextContext is sent unchanged to Google Cloud KMS, Vault and the local
// providers. AWS KMS accepts only pairs and refuses it.
type TextContext string

// contextForm is one of the forms in which the same context may have been written.
type contextForm struct {
	version int // of the column, for a [VersionedContext]
	// legacy means that columns without a version keep the order of the pairs and the
	// types of the values (formats of kms_encrypted before 1.0).
	legacy  bool
	escapes rubycompat.Escapes
}

// boundPair is a pair with its value as text.
type boundPair struct {
	name, text string
	stringName bool
	textless   bool // a legacy value that only JSON can represent
}

// BoundContext is an encryption context in the form for a [Provider]: checked, and
// in the order and bytes that Ruby sends. The zero value is no context. It is
// immutable and safe for concurrent use.
type BoundContext struct {
	kind  contextKind
	pairs []boundPair // in the caller's order
	text  string      // sent as bytes: JSON of the pairs, or the text itself
}

type contextKind byte

const (
	contextAbsent contextKind = iota
	contextPairs
	contextText
)

// Bind checks an encryption context and converts it to the form for a [Provider],
// as the [Box] does before each call. It returns [ErrContext] for an invalid
// context.
func Bind(ec EncryptionContext) (BoundContext, error) {
	return bind(ec, contextForm{escapes: railsDefault})
}

// railsDefault is how a Rails application writes the JSON of a context by default.
var railsDefault = rubycompat.JSONEscapes[0]

func bind(ec EncryptionContext, form contextForm) (BoundContext, error) {
	if ec == nil {
		return BoundContext{}, nil
	}
	return ec.bind(form)
}

// Absent reports whether there is no context at all.
func (c BoundContext) Absent() bool { return c.kind == contextAbsent }

// Bytes returns the context as additional authenticated data: compact JSON as Ruby
// writes it. It returns an empty slice if there is no context.
func (c BoundContext) Bytes() []byte { return []byte(c.text) }

// String returns the context as text for logs, as a key service writes it to its
// audit log.
func (c BoundContext) String() string { return c.text }

// Value returns the value of a pair as text, and false if there is none with this
// name.
func (c BoundContext) Value(name string) (value string, ok bool) {
	for _, p := range c.pairs {
		if p.name == name && !p.textless {
			value, ok = p.text, true // Ruby's hash keeps the last of a symbol and a string
		}
	}
	return value, ok
}

// Map returns the context for AWS KMS, or nil if there is no context. It returns
// [ErrContext] for a text context.
func (c BoundContext) Map() (map[string]string, error) {
	switch c.kind {
	case contextAbsent:
		return nil, nil
	case contextText:
		return nil, fmt.Errorf("%w: this key service takes pairs, not text", ErrContext)
	}
	m := make(map[string]string, len(c.pairs))
	for _, p := range c.pairs {
		if p.textless {
			return nil, fmt.Errorf("%w: value of %q must be a string or integer", ErrContext, p.name)
		}
		m[p.name] = p.text
	}
	return m, nil
}

// appendCanonical appends the context as part of a [Binding]: its kind, then its
// pairs sorted by name, or its text. It does not depend on the Ruby encoding that
// a provider receives.
func (c BoundContext) appendCanonical(dst []byte) []byte {
	dst = append(dst, byte(c.kind))
	if c.kind == contextText {
		return canon.AppendString(dst, c.text)
	}
	byName := func(a, b boundPair) int { return strings.Compare(a.name, b.name) }
	sorted := c.pairs
	if !slices.IsSortedFunc(sorted, byName) {
		sorted = slices.Clone(sorted)
		slices.SortStableFunc(sorted, byName)
	}
	dst = canon.AppendCount(dst, len(sorted))
	for _, p := range sorted {
		dst = canon.AppendString(canon.AppendString(dst, p.name), p.text)
	}
	return dst
}

func (c TextContext) bind(form contextForm) (BoundContext, error) {
	text := string(c)
	if form.legacy {
		quoted, err := rubycompat.AppendJSONString(nil, text, form.escapes)
		if err != nil {
			return BoundContext{}, fmt.Errorf("%w: %w", ErrContext, err)
		}
		text = string(quoted)
	}
	return BoundContext{kind: contextText, text: text}, nil
}

func (c ModelContext) bind(form contextForm) (BoundContext, error) {
	const name, id = "model_name", "model_id"
	bound := BoundContext{kind: contextPairs, pairs: []boundPair{{name: id, text: c.ID}, {name: name, text: c.Name}}}
	var err error
	if form.legacy {
		ordered := OrderedContext{{Name: name, Value: c.Name}, {Name: id, Value: c.ID}}
		if c.Number {
			ordered[1].Value = json.Number(c.ID)
		}
		bound.text, err = legacyJSON(ordered, form)
	} else {
		bound.text, err = pairsJSON(bound.pairs, form)
	}
	return bound, err
}

func (c Context) bind(form contextForm) (BoundContext, error) {
	if c == nil {
		return BoundContext{}, nil
	}
	pairs := make(OrderedContext, 0, len(c))
	for _, name := range slices.Sorted(maps.Keys(c)) {
		pairs = append(pairs, Pair{Name: name, Value: c[name]})
	}
	return pairs.bind(form)
}

func (c OrderedContext) bind(form contextForm) (BoundContext, error) {
	if c == nil {
		return BoundContext{}, nil
	}
	bound := BoundContext{kind: contextPairs, pairs: make([]boundPair, len(c))}
	for i, p := range c {
		text, ok := textOf(p.Value)
		if !ok && !form.legacy {
			return BoundContext{}, fmt.Errorf("%w: value of %q must be a string or integer, not %T", ErrContext, p.Name, p.Value)
		}
		if slices.ContainsFunc(c[:i], func(o Pair) bool { return o.Name == p.Name && o.StringName == p.StringName }) {
			return BoundContext{}, fmt.Errorf("%w: name %q appears twice", ErrContext, p.Name)
		}
		bound.pairs[i] = boundPair{name: p.Name, text: text, stringName: p.StringName, textless: !ok}
	}
	var err error
	if form.legacy {
		bound.text, err = legacyJSON(c, form)
	} else {
		bound.text, err = pairsJSON(collapsed(sortedAsRuby(bound.pairs)), form)
	}
	return bound, err
}

// sortedAsRuby returns the pairs in the order of Ruby's inspect of each. The name
// decides, together with what follows it: so :a! comes before :a, and "a b" before
// "a".
func sortedAsRuby(pairs []boundPair) []boundPair {
	compare := func(a, b boundPair) int {
		if a.identifier() && b.identifier() { // true for most contexts
			return strings.Compare(a.name, b.name)
		}
		return strings.Compare(a.inspect(), b.inspect())
	}
	if slices.IsSortedFunc(pairs, compare) {
		return pairs
	}
	sorted := slices.Clone(pairs)
	slices.SortStableFunc(sorted, compare)
	return sorted
}

// collapsed drops equal names as a Ruby hash does: it keeps the place of the first
// and the value of the last. Only a symbol and a string can be equal.
func collapsed(pairs []boundPair) []boundPair {
	if !slices.ContainsFunc(pairs, func(p boundPair) bool { return p.stringName }) {
		return pairs
	}
	var kept []boundPair
	for _, p := range pairs {
		if i := slices.IndexFunc(kept, func(k boundPair) bool { return k.name == p.name }); i >= 0 {
			kept[i] = p
		} else {
			kept = append(kept, p)
		}
	}
	return kept
}

// identifier reports whether the name is a symbol that sorts by its bytes.
func (p boundPair) identifier() bool {
	for i := range len(p.name) {
		c := p.name[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return p.name != "" && !p.stringName
}

func (p boundPair) inspect() string {
	if p.stringName {
		return rubycompat.InspectString(p.name) + ", "
	}
	return rubycompat.InspectSymbol(p.name) + ", "
}
