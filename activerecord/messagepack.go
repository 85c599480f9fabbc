package activerecord

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// messagePack is Rails' MessagePackMessageSerializer, for binary columns. Names of
// headers are Ruby symbols, an extension type. Values are bytes, not base64.
//
//	cc 80             signature
//	82                map of 2
//	a1 'p' c4 n …     payload
//	a1 'h' 8n         headers
//	   d5 00 'iv' c4 0c …    a name of two letters; one letter is d4 00 'e'
type messagePack struct{}

const signature = "\xcc\x80"

// The extension type of a symbol.
const symbolType = 0

func (messagePack) resembles(column []byte) bool { return strings.HasPrefix(string(column), signature) }

func (messagePack) append(dst []byte, m *message) []byte {
	return appendPacked(append(dst, signature...), m)
}

func appendPacked(dst []byte, m *message) []byte {
	dst = append(dst, "\x82\xa1p"...)
	dst = appendBin(dst, m.payload)
	dst = append(dst, "\xa1h"...)
	dst = append(dst, 0x80|byte(len(m.headers)))
	for _, h := range m.headers {
		dst = append(dst, 0xd3+byte(len(h.name)), symbolType) // fixext 1 and 2
		dst = append(dst, h.name...)
		switch v := h.value.(type) {
		case []byte:
			if h.name == "e" || h.name == "i" {
				dst = append(dst, 0xa0|byte(len(v)))
				dst = append(dst, v...)
				continue
			}
			dst = appendBin(dst, v)
		case *message:
			dst = appendPacked(dst, v)
		case bool:
			dst = append(dst, 0xc3)
		}
	}
	return dst
}

func appendBin(dst, data []byte) []byte {
	switch n := len(data); {
	case n <= math.MaxUint8:
		dst = append(dst, 0xc4, byte(n))
	case n <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0xc5), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xc6), uint32(n))
	}
	return append(dst, data...)
}

func (messagePack) parse(column []byte) (*message, error) {
	rest, ok := strings.CutPrefix(string(column), signature)
	if !ok {
		return nil, errNotMessage
	}
	u := &unpacker{rest: rest}
	v, err := u.value(1)
	if err != nil || u.rest != "" {
		return nil, errNotMessage
	}
	object, ok := v.(map[string]any)
	if !ok || !named(object) {
		return nil, errNotMessage
	}
	strip(object)
	return messageOf(object, 1, func(v any) ([]byte, bool) {
		text, ok := v.(string)
		return []byte(text), ok
	})
}

// symbol is a Ruby symbol.
type symbol string

// symbolPrefix marks names that are symbols while a map is checked. It is no UTF-8.
const symbolPrefix = "\xff"

// named reports whether the maps have the names that Rails accepts: those of a message
// are strings, those of headers strings or symbols, and none occurs twice.
func named(object map[string]any) bool {
	for _, name := range []string{"p", "h"} {
		if _, ok := object[symbolPrefix+name]; ok {
			return false
		}
	}
	headers, _ := object["h"].(map[string]any)
	for name, value := range headers {
		if _, twice := headers[symbolPrefix+name]; twice {
			return false
		}
		if nested, ok := value.(map[string]any); ok && !named(nested) {
			return false
		}
	}
	return true
}

// strip turns the names of headers that are symbols to strings.
func strip(object map[string]any) {
	headers, _ := object["h"].(map[string]any)
	for name, value := range headers {
		if nested, ok := value.(map[string]any); ok {
			strip(nested)
		}
		if plain, ok := strings.CutPrefix(name, symbolPrefix); ok {
			delete(headers, name)
			headers[plain] = value
		}
	}
}

// unpacker reads MessagePack.
type unpacker struct{ rest string }

var errUnpack = errors.New("not MessagePack")

// cut returns the next n bytes.
func (u *unpacker) cut(n int) (string, error) {
	if n < 0 || n > len(u.rest) {
		return "", errUnpack
	}
	cut := u.rest[:n]
	u.rest = u.rest[n:]
	return cut, nil
}

// number returns a big endian number of n bytes.
func (u *unpacker) number(n int) (v uint64, err error) {
	bytes, err := u.cut(n)
	for i := range len(bytes) {
		v = v<<8 | uint64(bytes[i])
	}
	return v, err
}

// value returns the next value: nil, bool, json.Number, string (also for bytes), symbol,
// []any or map[string]any.
func (u *unpacker) value(depth int) (any, error) {
	first, err := u.number(1)
	if err != nil || depth > maxDepth {
		return nil, errUnpack
	}
	switch c := byte(first); {
	case c <= 0x7f, c >= 0xe0:
		return json.Number(strconv.Itoa(int(int8(c)))), nil
	case c <= 0x8f:
		return u.mapOf(int(c&0x0f), depth)
	case c <= 0x9f:
		return u.listOf(int(c&0x0f), depth)
	case c <= 0xbf:
		return u.cut(int(c & 0x1f))
	case c == 0xc0:
		return nil, nil
	case c == 0xc2, c == 0xc3:
		return c == 0xc3, nil
	case c >= 0xc4 && c <= 0xc6: // bin
		return u.sized(1<<(c-0xc4), u.cut)
	case c >= 0xd9 && c <= 0xdb: // str
		return u.sized(1<<(c-0xd9), u.cut)
	case c == 0xca, c == 0xcb: // float
		_, err := u.cut(4 << (c - 0xca))
		return json.Number("0.5"), err
	case c >= 0xcc && c <= 0xcf, c >= 0xd0 && c <= 0xd3: // integers
		n, err := u.number(1 << (c & 3))
		return json.Number(fmt.Sprint(n)), err
	case c >= 0xd4 && c <= 0xd8: // ext of a fixed size
		return u.symbol(1 << (c - 0xd4))
	case c >= 0xc7 && c <= 0xc9:
		n, err := u.number(1 << (c - 0xc7))
		if err != nil {
			return nil, err
		}
		return u.symbol(int(min(n, math.MaxInt32)))
	case c == 0xdc, c == 0xdd, c == 0xde, c == 0xdf:
		n, err := u.number(2 << (c & 1))
		if err != nil || n > uint64(len(u.rest)) {
			return nil, errUnpack
		}
		if c <= 0xdd {
			return u.listOf(int(n), depth)
		}
		return u.mapOf(int(n), depth)
	}
	return nil, errUnpack
}

// sized reads a size of n bytes, and then what read reads of that size.
func (u *unpacker) sized(n int, read func(int) (string, error)) (any, error) {
	size, err := u.number(n)
	if err != nil || size > uint64(len(u.rest)) {
		return nil, errUnpack
	}
	return read(int(size))
}

// symbol returns a symbol. Rails refuses other extensions, and symbols too, as values.
func (u *unpacker) symbol(size int) (any, error) {
	kind, err := u.cut(1)
	if err != nil || kind[0] != symbolType {
		return nil, errUnpack
	}
	name, err := u.cut(size)
	return symbol(name), err
}

func (u *unpacker) listOf(n, depth int) (any, error) {
	var list []any
	for range n {
		v, err := u.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// mapOf reads a map. Of a name that occurs twice the last counts.
func (u *unpacker) mapOf(n, depth int) (any, error) {
	m := make(map[string]any)
	for range n {
		k, err := u.value(depth + 1)
		if err != nil {
			return nil, err
		}
		var name string
		switch k := k.(type) {
		case string:
			name = k
		case symbol:
			name = symbolPrefix + string(k)
		}
		if _, isSymbol := k.(symbol); !isSymbol && !utf8.ValidString(name) || name == "" {
			return nil, errUnpack
		}
		if m[name], err = u.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return m, nil
}
