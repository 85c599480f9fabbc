package activerecord

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/strict64"
)

// message is what a column holds: a ciphertext and what belongs to it.
//
//	{"p":"<base64>","h":{"iv":"<base64>","at":"<base64>","e":…,"k":{…},"i":…,"c":true}}
type message struct {
	payload []byte // nil if it is null
	headers []header
}

// header is iv, at (the tag), e (the encoding), k (the data key of an envelope), i (the
// reference to the key), c (compressed), or unknown. Its value is []byte, *message,
// bool, json.Number or nil.
type header struct {
	name  string
	value any
}

// get returns the value of a header, nil if there is none.
func (m *message) get(name string) any {
	for _, h := range m.headers {
		if h.name == name {
			return h.value
		}
	}
	return nil
}

// isSet reports whether a header counts as set in Ruby: anything but false and null.
func (m *message) isSet(name string) bool {
	v := m.get(name)
	return v != nil && v != false
}

func (m *message) add(name string, value any) { m.headers = append(m.headers, header{name, value}) }

// errNotMessage is returned for a column that is no message.
var errNotMessage = fmt.Errorf("activerecord: %w", kmsencrypted.ErrNotCiphertext)

// serializer is the form of messages in a column.
type serializer interface {
	append(dst []byte, m *message) []byte
	// parse returns errNotMessage for anything that is not a message.
	parse(column []byte) (*message, error)
	// resembles reports whether a column begins like a message, so that it is not
	// plaintext but damaged if it is none.
	resembles(column []byte) bool
}

// jsonSerializer is Rails' MessageSerializer.
type jsonSerializer struct{}

func (jsonSerializer) append(dst []byte, m *message) []byte {
	dst = append(dst, `{"p":"`...)
	dst = strict64.AppendEncode(dst, m.payload)
	dst = append(dst, `","h":{`...)
	for i, h := range m.headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(dst, h.name...)
		dst = append(dst, `":`...)
		switch v := h.value.(type) {
		case []byte:
			dst = append(dst, '"')
			dst = strict64.AppendEncode(dst, v)
			dst = append(dst, '"')
		case *message:
			dst = jsonSerializer{}.append(dst, v)
		case bool:
			dst = fmt.Append(dst, v)
		}
	}
	return append(dst, "}}"...)
}

func (jsonSerializer) resembles(column []byte) bool {
	start := strings.Join(strings.Fields(string(column[:min(len(column), 64)])), "")
	return strings.HasPrefix(start, `{"p":"`) || strings.HasPrefix(start, `{"h":{`)
}

// maxDepth is the depth of nesting that Ruby's JSON reads.
const maxDepth = 100

func (jsonSerializer) parse(column []byte) (*message, error) {
	if !utf8.Valid(column) {
		return nil, errNotMessage
	}
	d := json.NewDecoder(bytes.NewReader(column))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil, errNotMessage
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errNotMessage
	}
	object, ok := v.(map[string]any)
	if !ok || !wellFormed(object, 1) {
		return nil, errNotMessage
	}
	return messageOf(object, 1, decodeBase64)
}

// wellFormed reports whether Ruby's JSON reads what Go's does: names without half a
// surrogate, which Go has replaced, and not too deep.
func wellFormed(v any, depth int) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if strings.ContainsRune(name, utf8.RuneError) || !wellFormed(value, depth+1) {
				return false
			}
		}
		return depth <= maxDepth
	case []any:
		for _, value := range v {
			if !wellFormed(value, depth+1) {
				return false
			}
		}
		return depth <= maxDepth
	}
	return true
}

// messageOf returns the message in an object with p and h. A header may be a message
// with plain headers, level 2.
func messageOf(object map[string]any, level int, decode func(any) ([]byte, bool)) (*message, error) {
	payload, ok := object["p"]
	if !ok {
		return nil, errNotMessage
	}
	m := new(message)
	if payload != nil {
		if m.payload, ok = decode(payload); !ok {
			return nil, errNotMessage
		}
	}
	headers, ok := object["h"].(map[string]any)
	if !ok && object["h"] != nil {
		return nil, errNotMessage
	}
	for name, value := range headers {
		switch v := value.(type) {
		case nil, bool, json.Number:
		case map[string]any:
			if level > 1 {
				return nil, errNotMessage
			}
			nested, err := messageOf(v, level+1, decode)
			if err != nil {
				return nil, err
			}
			value = nested
		default:
			decoded, ok := decode(v)
			if !ok {
				return nil, errNotMessage
			}
			value = decoded
		}
		m.add(name, value)
	}
	slices.SortFunc(m.headers, func(a, b header) int {
		return cmp.Or(cmp.Compare(a.place(), b.place()), cmp.Compare(a.name, b.name))
	})
	return m, nil
}

// place orders headers as Rails writes them, unknown ones last.
func (h header) place() int {
	if i := slices.Index([]string{"iv", "at", "e", "k", "i", "c"}, h.name); i >= 0 {
		return i
	}
	return math.MaxInt
}

func decodeBase64(v any) ([]byte, bool) {
	text, ok := v.(string)
	if !ok {
		return nil, false
	}
	return strict64.AppendDecode([]byte{}, text)
}
