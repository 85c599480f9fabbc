// Package rubycompat writes and reads text exactly as the Ruby gems do: their
// Base64, the JSON of a context and the order in which they sort it.
package rubycompat

import (
	"encoding/base64"
	"strings"
)

// lineLength is the line length of Ruby's pack("m").
const lineLength = 60

// StrictEncode64 is Ruby's strict_encode64 and pack("m0"): standard alphabet,
// padded, no newline.
func StrictEncode64(src []byte) string { return base64.StdEncoding.EncodeToString(src) }

// Encode64 is Ruby's encode64 and pack("m"): a newline after every 60
// characters and at the end. Empty input gives empty output.
func Encode64(src []byte) string {
	text := base64.StdEncoding.EncodeToString(src)
	var b strings.Builder
	b.Grow(len(text) + len(text)/lineLength + 1)
	for len(text) > lineLength {
		b.WriteString(text[:lineLength])
		b.WriteByte('\n')
		text = text[lineLength:]
	}
	if text != "" {
		b.WriteString(text)
		b.WriteByte('\n')
	}
	return b.String()
}

// Decode64 is Ruby's decode64 and unpack1("m"). It never fails: bytes outside
// the alphabet are skipped, '=' ends the input at a valid place and is skipped
// elsewhere, an incomplete last group gives the bytes it holds, and spare bits
// are ignored.
func Decode64(text string) []byte { return AppendDecode64(make([]byte, 0, len(text)/4*3+2), text) }

// AppendDecode64 appends the result of [Decode64] to dst.
func AppendDecode64(dst []byte, text string) []byte {
	var group [4]byte
	n := 0
	for i := range len(text) {
		c := text[i]
		if c == '=' && n >= 2 {
			break
		}
		v := sextet[c]
		if v == invalid {
			continue
		}
		group[n] = v
		if n++; n == 4 {
			dst = append(dst, group[0]<<2|group[1]>>4, group[1]<<4|group[2]>>2, group[2]<<6|group[3])
			n = 0
		}
	}
	if n >= 2 {
		dst = append(dst, group[0]<<2|group[1]>>4)
	}
	if n == 3 {
		dst = append(dst, group[1]<<4|group[2]>>2)
	}
	return dst
}

const (
	alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	invalid  = 0xFF
)

// sextet maps a character to its six bits, or to invalid.
var sextet = func() (table [256]byte) {
	for i := range table {
		table[i] = invalid
	}
	for i := range len(alphabet) {
		table[alphabet[i]] = byte(i)
	}
	return table
}()
