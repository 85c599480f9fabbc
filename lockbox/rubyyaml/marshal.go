package rubyyaml

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/internal/unicode15"
)

// Marshal returns v as a YAML document that Ruby reads back as the same value. In
// addition to the values listed in the package doc, it accepts any integer,
// float, slice, map (in the order of its keys), and structs by their json tags as
// hashes with string keys. It returns [kmsencrypted.ErrConfig] for a value
// without a form in Ruby: a channel, text that is not UTF-8, a date outside the
// years 0 to 9999, or nesting deeper than 1000.
func Marshal(v any) ([]byte, error) { return marshal(v, true) }

func marshal(v any, times bool) ([]byte, error) {
	leaf := func(v any) (any, bool, error) {
		switch v.(type) {
		case time.Time, Date: // written by this package itself
			if !times {
				return nil, false, errTimes
			}
			return v, true, nil
		}
		return nil, false, nil
	}
	value, err := rubycompat.Reflection{MaxDepth: maxDepth, Leaf: leaf}.Value(v)
	if err != nil {
		return nil, configError(err)
	}
	w := &writer{out: []byte("---")}
	if composed(value) {
		w.out = append(w.out, '\n')
		err = w.block(value, 0)
	} else {
		err = w.inline(value)
	}
	if err != nil {
		return nil, configError(err)
	}
	return w.out, nil
}

var (
	errUTF8  = errors.New("text is not valid UTF-8")
	errYear  = errors.New("a date outside the years 0 to 9999")
	errTimes = errors.New("a date or time, which Rails does not permit by default: make it text, or set Codec.Times")
)

type writer struct{ out []byte }

// composed reports whether v is a list or a hash with entries. Empty ones are
// written like scalars.
func composed(v any) bool {
	switch v := v.(type) {
	case []any:
		return len(v) > 0
	case Hash:
		return len(v) > 0
	}
	return false
}

// block writes a composed value in column indent. Its first line continues the
// current line.
func (w *writer) block(v any, indent int) error {
	if list, ok := v.([]any); ok {
		for i, item := range list {
			if i > 0 {
				w.indent(indent)
			}
			w.out = append(w.out, '-')
			if composed(item) {
				w.out = append(w.out, ' ')
				if err := w.block(item, indent+2); err != nil {
					return err
				}
			} else if err := w.inline(item); err != nil {
				return err
			}
		}
		return nil
	}
	for i, p := range v.(Hash) {
		if i > 0 {
			w.indent(indent)
		}
		if err := w.entry(p, indent); err != nil {
			return err
		}
	}
	return nil
}

// maxSimpleKey is well below the 1024 characters that YAML allows for a key
// before its colon. Longer keys are marked by a question mark.
const maxSimpleKey = 128

func (w *writer) entry(p Pair, indent int) error {
	key, err := flow(nil, p.Key)
	if err != nil {
		return err
	}
	if p.Key == nil {
		key = append(key, "null"...)
	}
	if composed(p.Key) || len(key) > maxSimpleKey {
		w.out = append(append(append(w.out, "? "...), key...), '\n')
		w.indent(indent)
		w.out = append(w.out, ':')
	} else {
		w.out = append(append(w.out, key...), ':')
	}
	if !composed(p.Value) {
		return w.inline(p.Value)
	}
	w.out = append(w.out, '\n')
	if _, list := p.Value.([]any); !list { // a list is not indented below its key
		indent += 2
	}
	w.indent(indent)
	return w.block(p.Value, indent)
}

func (w *writer) indent(n int) {
	for range n {
		w.out = append(w.out, ' ')
	}
}

// inline writes the rest of a line: nothing for nil, otherwise the value.
func (w *writer) inline(v any) (err error) {
	if v != nil {
		if w.out, err = flow(append(w.out, ' '), v); err != nil {
			return err
		}
	}
	w.out = append(w.out, '\n')
	return nil
}

// flow appends a value on one line. At the top level nil is nothing, inside it is
// null.
func flow(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case []any:
		return flowList(dst, v)
	case Hash:
		return flowHash(dst, v)
	}
	return scalar(dst, v)
}

func flowList(dst []byte, list []any) (_ []byte, err error) {
	dst = append(dst, '[')
	for i, item := range list {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if dst, err = flowItem(dst, item); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func flowHash(dst []byte, h Hash) (_ []byte, err error) {
	dst = append(dst, '{')
	for i, p := range h {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, "? "...)
		if dst, err = flowItem(dst, p.Key); err != nil {
			return nil, err
		}
		if dst, err = flowItem(append(dst, " : "...), p.Value); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func flowItem(dst []byte, v any) ([]byte, error) {
	if v == nil {
		return append(dst, "null"...), nil
	}
	return flow(dst, v)
}

func scalar(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return dst, nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case *big.Int:
		return v.Append(dst, 10), nil
	case float64:
		return appendFloat(dst, v), nil
	case string:
		return appendString(dst, v)
	case Symbol:
		return appendSymbol(dst, v)
	case []byte:
		dst = append(dst, `!binary "`...)
		return append(append(dst, rubycompat.StrictEncode64(v)...), '"'), nil
	case time.Time:
		return appendTimestamp(dst, v)
	case Date:
		if v.Year < 0 || v.Year > 9999 {
			return nil, errYear
		}
		return append(dst, v.String()...), nil
	}
	return nil, fmt.Errorf("no YAML for a %T", v)
}

func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, ".nan"...)
	case math.IsInf(f, 1):
		return append(dst, ".inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-.inf"...)
	}
	return rubycompat.AppendFloat(dst, f)
}

func appendTimestamp(dst []byte, t time.Time) ([]byte, error) {
	layout := "2006-01-02 15:04:05.000000000 -07:00"
	if _, offset := t.Zone(); offset%60 != 0 || offset == 0 {
		t, layout = t.UTC(), "2006-01-02 15:04:05.000000000 Z"
	}
	if t.Year() < 0 || t.Year() > 9999 {
		return nil, errYear
	}
	return t.AppendFormat(dst, layout), nil
}

var (
	plainName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*[?!]?$`)
	yamlLetter = map[string]bool{"y": true, "n": true} // booleans in YAML 1.1, but not in Psych
)

// plainText reports whether the text begins with a letter and contains only words
// with single spaces in between, nothing that YAML could take for punctuation.
func plainText(text string) bool {
	for word := range strings.SplitSeq(text, " ") {
		if word == "" || strings.ContainsFunc(word, punctuation) {
			return false
		}
	}
	first, _ := utf8.DecodeRuneInString(text)
	return unicode15.IsLetter(first)
}

func punctuation(r rune) bool {
	return !unicode15.IsLetter(r) && !unicode15.IsDigit(r) && !strings.ContainsRune("_./'()+-", r)
}

func appendString(dst []byte, text string) ([]byte, error) {
	if !utf8.ValidString(text) {
		return nil, errUTF8
	}
	if text == "<<" { // as a key it would be a merge, even in quotes
		return append(dst, `!!str "<<"`...), nil
	}
	lower := strings.ToLower(text)
	_, word := words[lower]
	if !word && !yamlLetter[lower] && plainText(text) {
		return append(dst, text...), nil
	}
	return appendQuoted(dst, text), nil
}

func appendSymbol(dst []byte, s Symbol) ([]byte, error) {
	if !utf8.ValidString(string(s)) {
		return nil, errUTF8
	}
	if plainName.MatchString(string(s)) {
		return append(append(dst, ':'), s...), nil
	}
	return appendQuoted(append(dst, "!ruby/symbol "...), string(s)), nil
}

// appendQuoted appends text in double quotes, the style that can represent any
// text.
func appendQuoted(dst []byte, text string) []byte {
	dst = append(dst, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r < ' ' || r == 0x7f:
			dst = fmt.Appendf(dst, `\x%02X`, r)
		case r > 0xFFFF:
			dst = fmt.Appendf(dst, `\U%08X`, r)
		case r >= 0x80 && !unicode15.IsPrint(r):
			dst = fmt.Appendf(dst, `\u%04X`, r)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
