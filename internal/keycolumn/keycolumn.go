// Package keycolumn reads and writes the column that holds a wrapped data key:
// the text "v2:…" of kms_encrypted around it, and the native bytes inside
// (spec/native.md section 3). It has no keys and checks no authenticity.
package keycolumn

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/strict64"
)

// Sizes in bytes.
const (
	CommitmentSize = 32
	SealSize       = 32
	MaxTag         = math.MaxUint8
	MaxWraps       = 16 // each may cost a call to a key service
	MaxWrap        = math.MaxUint16
)

// The first byte after "vN:" in native form.
const (
	FormatKey    byte = 0x01 // a data key
	FormatSecret byte = 0x02 // a small secret sealed under a data key of its own
)

// ErrMalformed reports bytes without the native layout.
var ErrMalformed = errors.New("key column is not in native form")

// SplitVersion splits "v2:body" into 2 and body. Columns written before
// kms_encrypted 1.0 have no version: then ok is false and body is the whole text.
// "v01:" is not a version, because Ruby reads it as version 1 and then fails to
// remove it.
func SplitVersion(text string) (version int, body string, ok bool) {
	digits, body, found := strings.Cut(text, ":")
	if !found || len(digits) < 2 || digits[0] != 'v' {
		return 0, text, false
	}
	digits = digits[1:]
	version, err := strconv.Atoi(digits)
	if err != nil || strconv.Itoa(version) != digits || version < 0 {
		return 0, text, false
	}
	return version, body, true
}

// usualText is the capacity that keeps a column of a few wraps on the stack.
const usualText = 512

// JoinVersion returns the text of a column: "v", version, ":", strict base64 of
// body.
func JoinVersion(version int, body []byte) string {
	text := append(make([]byte, 0, usualText), 'v')
	text = strconv.AppendInt(text, int64(version), 10)
	text = append(text, ':')
	return string(strict64.AppendEncode(text, body))
}

// Wrap is one wrapped copy of the data key, with the tag of the provider that
// made it.
type Wrap struct {
	Tag        string
	Ciphertext []byte
}

// Native is the content after "vN:" under a native version:
//
//	format 1 | commitment 32 | count 1 | wraps | rest
//	wrap: tag length 1 | tag | ciphertext length 2 | ciphertext
//
// The rest of a data key's column is empty or the record seal. For a secret it is
// the sealed value.
type Native struct {
	Format     byte
	Commitment [CommitmentSize]byte
	Wraps      []Wrap
	Rest       []byte
}

// Append appends the native bytes of n to dst.
func (n *Native) Append(dst []byte) ([]byte, error) {
	if len(n.Wraps) == 0 || len(n.Wraps) > MaxWraps {
		return nil, errors.New("a key column holds 1 to 16 wraps")
	}
	dst = append(dst, n.Format)
	dst = append(dst, n.Commitment[:]...)
	dst = append(dst, byte(len(n.Wraps)))
	for _, w := range n.Wraps {
		if len(w.Tag) > MaxTag || len(w.Ciphertext) > MaxWrap {
			return nil, errors.New("a wrap takes 255 bytes of tag and 65535 of ciphertext")
		}
		dst = append(dst, byte(len(w.Tag)))
		dst = append(dst, w.Tag...)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(w.Ciphertext)))
		dst = append(dst, w.Ciphertext...)
	}
	return append(dst, n.Rest...), nil
}

// Parse parses native bytes. The result refers to data.
func Parse(data []byte) (Native, error) {
	const head = 1 + CommitmentSize + 1
	if len(data) < head || data[0] != FormatKey && data[0] != FormatSecret {
		return Native{}, ErrMalformed
	}
	n := Native{Format: data[0], Commitment: [CommitmentSize]byte(data[1:])}
	count, rest := int(data[head-1]), data[head:]
	if count == 0 || count > MaxWraps {
		return Native{}, ErrMalformed
	}
	n.Wraps = make([]Wrap, count)
	for i := range n.Wraps {
		tag, after, ok := cut(rest, 1)
		if !ok {
			return Native{}, ErrMalformed
		}
		ciphertext, after, ok := cut(after, 2)
		if !ok {
			return Native{}, ErrMalformed
		}
		n.Wraps[i] = Wrap{Tag: string(tag), Ciphertext: ciphertext}
		rest = after
	}
	n.Rest = rest
	return n, nil
}

// cut splits off an item that is preceded by its length in lengthBytes bytes.
func cut(data []byte, lengthBytes int) (item, rest []byte, ok bool) {
	if len(data) < lengthBytes {
		return nil, nil, false
	}
	size := 0
	for _, b := range data[:lengthBytes] {
		size = size<<8 | int(b)
	}
	data = data[lengthBytes:]
	if len(data) < size {
		return nil, nil, false
	}
	return data[:size:size], data[size:], true
}

// ParseText parses the body of a native column. Unlike Ruby's columns it must be
// strict base64, so that one value has one text.
func ParseText(body string) (Native, error) {
	data, ok := strict64.AppendDecode(nil, body)
	if !ok {
		return Native{}, ErrMalformed
	}
	return Parse(data)
}
