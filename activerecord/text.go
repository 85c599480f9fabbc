package activerecord

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
	"github.com/kmsencrypted/kmsencrypted/internal/unicode15"
	"github.com/kmsencrypted/kmsencrypted/internal/zlib6"
)

// Text is the plaintext of a column with the name of its encoding. It prints as
// "[redacted]".
type Text struct {
	secret.Redacted
	hidden secret.Pointer[text]
}

type text struct {
	bytes    []byte
	encoding string
}

// The encodings that Rails writes most: text, numbers and dates, bytes.
const (
	EncodingUTF8   = "UTF-8"
	EncodingASCII  = "US-ASCII"
	EncodingBinary = "ASCII-8BIT"
)

// UTF8 returns the text of a string.
func UTF8(s string) Text { return NewText([]byte(s), EncodingUTF8) }

// NewText returns text in an encoding, by its name in Ruby. It keeps the slice.
func NewText(data []byte, encoding string) Text {
	return Text{hidden: secret.Hide(text{data, encoding})}
}

func (t Text) get() text {
	if v := t.hidden.Get(); v != nil {
		return *v
	}
	return text{encoding: EncodingUTF8}
}

// Bytes returns the bytes as they are. The caller must not change them, and may wipe
// them after the last use.
func (t Text) Bytes() []byte { return t.get().bytes }

// Encoding returns the name of the encoding, as it was written.
func (t Text) Encoding() string { return t.get().encoding }

// UTF8 returns the text as it is in UTF-8: that of UTF-8, US-ASCII, binary and ISO-8859-1.
// It returns [kmsencrypted.ErrType] for any other encoding; use Bytes then.
func (t Text) UTF8() ([]byte, error) {
	v := t.get()
	switch {
	case isUnlabelled(v.encoding), strings.EqualFold(v.encoding, EncodingASCII), isBinary(v.encoding):
		return v.bytes, nil
	case strings.EqualFold(v.encoding, "ISO-8859-1"):
		var out []byte
		for _, b := range v.bytes {
			out = utf8.AppendRune(out, rune(b))
		}
		return out, nil
	}
	return nil, fmt.Errorf("activerecord: %w: text in an encoding that is not converted", kmsencrypted.ErrType)
}

// isUnlabelled reports whether a message does not say the encoding: UTF-8, which is
// also Ruby's "locale" on the machines that we know.
func isUnlabelled(encoding string) bool {
	return strings.EqualFold(encoding, EncodingUTF8) || strings.EqualFold(encoding, "locale")
}

func isBinary(encoding string) bool {
	return strings.EqualFold(encoding, EncodingBinary) || strings.EqualFold(encoding, "BINARY")
}

// downcase is Ruby's: the lower case of each character, without special rules. Ruby's
// tables are those of Unicode 13 to 15, which differ in 40 rare letters.
func downcase(s string) string {
	const dottedI = 'İ' // the only one whose lower case is two characters
	s = strings.ReplaceAll(s, string(dottedI), "i̇")
	return strings.Map(unicode15.ToLower, s)
}

// compressAbove is the size in bytes above which text is compressed.
const compressAbove = 140

// Compressor replaces zlib, as compressor: does since Rails 8.0. Nothing in a message
// says which one wrote it.
type Compressor interface {
	Deflate(plaintext []byte) ([]byte, error)
	// Inflate must return [kmsencrypted.ErrTooLarge] instead of more than limit bytes.
	Inflate(deflated []byte, limit int) ([]byte, error)
}

// zlibCompressor is Rails' default. Deterministic values depend on its exact bytes.
type zlibCompressor struct{}

func (zlibCompressor) Deflate(plaintext []byte) ([]byte, error) {
	return zlib6.Append(nil, plaintext), nil
}

func (zlibCompressor) Inflate(deflated []byte, limit int) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(deflated))
	if err != nil {
		return nil, errors.New("no zlib stream")
	}
	var out bytes.Buffer
	switch n, err := io.Copy(&out, io.LimitReader(r, int64(limit)+1)); {
	case n > int64(limit):
		return nil, kmsencrypted.ErrTooLarge
	case err != nil:
		return nil, errors.New("a damaged zlib stream")
	}
	return out.Bytes(), nil
}
