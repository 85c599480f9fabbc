package attrencrypted

import (
	"bytes"
	"encoding/base64"

	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// Encoding is the encoding of bytes in a column: the format of Ruby's pack, or
// none.
type Encoding int

const (
	// Base64Lines, the default, is base64 with a newline after every 60 characters
	// and at the end (pack "m"). Decoding skips all other characters.
	Base64Lines Encoding = iota
	// Base64 is padded base64 without newlines (pack "m0"). Decoding is strict.
	Base64
	// Raw stores the bytes themselves, for binary columns.
	Raw
)

type encoding struct {
	encode func([]byte) []byte
	decode func([]byte) ([]byte, error)
}

var encodings = map[Encoding]encoding{
	Base64Lines: {
		func(b []byte) []byte { return []byte(rubycompat.Encode64(b)) },
		func(text []byte) ([]byte, error) { return rubycompat.Decode64(string(text)), nil },
	},
	Base64: {
		func(b []byte) []byte { return base64.StdEncoding.AppendEncode(nil, b) },
		decodeStrict,
	},
	Raw: {
		func(b []byte) []byte { return b },
		func(b []byte) ([]byte, error) { return b, nil },
	},
}

// decodeStrict refuses what Ruby's unpack "m0" refuses: newlines, which Go skips,
// missing padding, and spare bits that are not zero.
func decodeStrict(text []byte) ([]byte, error) {
	if bytes.ContainsAny(text, "\r\n") {
		return nil, malformed("base64 in lines, as encode m writes it, where m0 is in one")
	}
	data, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	if err != nil {
		return nil, malformed("not base64")
	}
	return data, nil
}
