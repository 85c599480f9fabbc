package rubyyaml

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// Aliases let a short text represent a very large value. The number of parts may be
// at most aliasAllowance, plus aliasFactor for every byte.
const (
	aliasAllowance = 1 << 16
	aliasFactor    = 16
)

var (
	errSyntax = errors.New("not YAML")
	errAlias  = errors.New("a value that contains itself, or too many aliases")
)

// Unmarshal parses the first document of data, like Ruby's YAML.safe_load with
// symbols, dates, times and aliases, and stores it in *into. A *any receives one of
// the Go values listed in the package doc. Other types follow the rules of
// encoding/json, with symbols and integer keys as text. Text without a document is
// nil.
//
// Unmarshal returns [kmsencrypted.ErrMalformed] for data that is not YAML, contains
// an object of another class ([ClassError]) or does not fit *into. Values that are
// aliases of each other may share memory.
func Unmarshal(data []byte, into any) error { return unmarshal(data, into, true) }

func unmarshal(data []byte, into any, times bool) error {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return malformed(errSyntax)
	}
	d := &decoder{text: data, times: times, limit: aliasAllowance + aliasFactor*len(data), anchors: make(map[*yaml.Node]*anchor)}
	value, err := d.value(&document, 0)
	if err != nil {
		return malformed(err)
	}
	if err := rubycompat.Assign(into, value); err != nil {
		return malformed(err)
	}
	return nil
}

type decoder struct {
	text    []byte
	times   bool     // whether dates and times are permitted
	lines   []string // of text, split when first needed
	anchors map[*yaml.Node]*anchor
	parts   int // number of values read so far, including those behind aliases
	limit   int
}

// anchor is a value that aliases refer to.
type anchor struct {
	value    any
	parts    int
	complete bool
}

func (d *decoder) value(n *yaml.Node, depth int) (any, error) {
	if d.parts++; d.parts > d.limit {
		return nil, errAlias
	}
	if depth > maxDepth {
		return nil, rubycompat.ErrDepth
	}
	switch {
	case n.Kind == yaml.AliasNode:
		return d.alias(n.Alias)
	case n.Anchor == "":
		return d.plain(n, depth)
	}
	a := new(anchor)
	d.anchors[n] = a
	before := d.parts
	value, err := d.plain(n, depth)
	*a = anchor{value, d.parts - before + 1, true}
	return value, err
}

func (d *decoder) alias(of *yaml.Node) (any, error) {
	a := d.anchors[of]
	if a == nil || !a.complete {
		return nil, errAlias
	}
	if d.parts += a.parts; d.parts > d.limit {
		return nil, errAlias
	}
	return a.value, nil
}

func (d *decoder) plain(n *yaml.Node, depth int) (any, error) {
	switch n.Kind {
	case yaml.DocumentNode:
		return d.value(n.Content[0], depth)
	case yaml.ScalarNode:
		return d.scalar(n)
	case yaml.SequenceNode:
		return d.sequence(n, depth)
	case yaml.MappingNode:
		return d.mapping(n, depth)
	}
	return nil, nil // no document
}

// tag returns the tag of a node if the text has one.
func tag(n *yaml.Node) string {
	if n.Style&yaml.TaggedStyle == 0 {
		return ""
	}
	return n.Tag
}

// foreign returns the error for a tag that names a class. Like Psych it ignores
// unknown tags.
func foreign(tag string) error {
	for _, prefix := range []string{"!ruby/", "!map:", "!seq:", "!str:", "!struct:"} {
		if rest, ok := strings.CutPrefix(tag, prefix); ok {
			if _, class, ok := strings.Cut(rest, ":"); ok && prefix == "!ruby/" {
				rest = class
			}
			return &ClassError{Class: rest}
		}
	}
	switch tag {
	case "!set", "!!set", "!omap", "!!omap":
		return &ClassError{Class: strings.TrimLeft(tag, "!")}
	}
	return nil
}

func (d *decoder) scalar(n *yaml.Node) (any, error) {
	value, err := d.anyScalar(n)
	if d.times {
		return value, err
	}
	switch value.(type) {
	case time.Time:
		return nil, &ClassError{Class: "Time"}
	case Date:
		return nil, &ClassError{Class: "Date"}
	}
	return value, err
}

func (d *decoder) anyScalar(n *yaml.Node) (any, error) {
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	switch t := tag(n); t {
	case "":
		if n.Style&quoted != 0 && !d.nonSpecific(n) {
			return n.Value, nil
		}
		return scan(n.Value)
	case "!binary", "!!binary":
		return rubycompat.Decode64(n.Value), nil
	case "!!str", "!str", "!ruby/string":
		return n.Value, nil
	case "!ruby/symbol", "!ruby/sym":
		return Symbol(n.Value), nil
	case "!!float", "!float":
		return toFloat(n.Value)
	default:
		if err := foreign(t); err != nil {
			return nil, err
		}
		return scan(n.Value)
	}
}

func toFloat(text string) (any, error) {
	value, err := scan(text)
	if err != nil {
		return nil, err
	}
	switch v := value.(type) {
	case float64:
		return v, nil
	case int64:
		return float64(v), nil
	}
	return nil, errNumber
}

// nonSpecific reports whether a quoted scalar has the tag "!", which makes it read
// like a plain one. Psych writes symbols in this way if they need quotes. The
// parser does not report this tag, so look it up in the text.
func (d *decoder) nonSpecific(n *yaml.Node) bool {
	if d.lines == nil {
		d.lines = strings.Split(lineBreaks.Replace(string(d.text)), "\n")
	}
	if n.Line < 1 || n.Line > len(d.lines) {
		return false
	}
	line := d.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRuneInString(line)
		line = line[size:]
	}
	return strings.HasPrefix(line, "!")
}

var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

func (d *decoder) sequence(n *yaml.Node, depth int) (any, error) {
	if err := foreign(tag(n)); err != nil {
		return nil, err
	}
	list := make([]any, len(n.Content))
	for i, item := range n.Content {
		var err error
		if list[i], err = d.value(item, depth+1); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (d *decoder) mapping(n *yaml.Node, depth int) (any, error) {
	if err := foreign(tag(n)); err != nil {
		return nil, err
	}
	h := newOrdered(len(n.Content) / 2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, err := d.value(n.Content[i], depth+1)
		if err != nil {
			return nil, err
		}
		value, err := d.value(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if key == "<<" && tag(n.Content[i]) != "!!str" && d.merge(h, value) {
			continue
		}
		h.set(key, value)
	}
	return h.hash, nil
}

// merge adds the entries of a hash, or of a list of hashes of which the first wins.
// It returns false for anything else.
func (d *decoder) merge(h *ordered, value any) bool {
	switch v := value.(type) {
	case Hash:
		d.parts += len(v)
		h.add(v)
		return true
	case []any:
		merged := newOrdered(len(v))
		for i := len(v) - 1; i >= 0; i-- {
			part, ok := v[i].(Hash)
			if !ok {
				return false
			}
			d.parts += len(part)
			merged.add(part)
		}
		h.add(merged.hash)
		return true
	}
	return false
}

// ordered is a hash under construction. The last of equal keys counts, in the place
// of the first. Keys that Go cannot compare are all kept.
type ordered struct {
	hash   Hash
	places map[any]int
}

func newOrdered(n int) *ordered {
	return &ordered{hash: make(Hash, 0, n), places: make(map[any]int, n)}
}

func (o *ordered) add(h Hash) {
	for _, p := range h {
		o.set(p.Key, p.Value)
	}
}

func (o *ordered) set(key, value any) {
	switch key.(type) {
	case nil, bool, int64, float64, string, Symbol, Date:
		if at, seen := o.places[key]; seen {
			o.hash[at].Value = value
			return
		}
		o.places[key] = len(o.hash)
	}
	o.hash = append(o.hash, Pair{Key: key, Value: value})
}
