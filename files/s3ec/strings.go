package s3ec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
)

// parseStrings reads a JSON object of strings, and of numbers where they are allowed.
// A name that appears twice is refused, because readers would differ about its value.
func parseStrings(text string, numbers bool) (map[string]string, error) {
	if !utf8.ValidString(text) {
		return nil, malformed("JSON is not UTF-8")
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, malformed("not a JSON object")
	}
	object := make(map[string]string)
	for decoder.More() {
		token, err := decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, malformed("not a JSON object")
		}
		if _, twice := object[name]; twice {
			return nil, malformed("JSON object with the same name twice")
		}
		value, err := decoder.Token()
		if err != nil {
			return nil, malformed("not a JSON object")
		}
		switch value := value.(type) {
		case string:
			object[name] = value
		case json.Number:
			if !numbers {
				return nil, malformed("JSON object with a value that is not a string")
			}
			object[name] = value.String()
		default:
			return nil, malformed("JSON object with a value that is not a string")
		}
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return nil, malformed("not a JSON object")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, malformed("something follows the JSON object")
	}
	return object, nil
}

// formatStrings writes a JSON object with sorted names. It is ASCII, because S3
// returns other characters of metadata in an encoding that not every client reads.
func formatStrings(object map[string]string) (string, error) {
	var out strings.Builder
	out.WriteByte('{')
	for i, name := range slices.Sorted(maps.Keys(object)) {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := appendASCII(&out, name); err != nil {
			return "", err
		}
		out.WriteByte(':')
		if err := appendASCII(&out, object[name]); err != nil {
			return "", err
		}
	}
	out.WriteByte('}')
	return out.String(), nil
}

func appendASCII(out *strings.Builder, text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("s3ec: %w: a name or value is not UTF-8", kmsencrypted.ErrContext)
	}
	var quoted bytes.Buffer
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		return err
	}
	for _, r := range strings.TrimSuffix(quoted.String(), "\n") {
		switch {
		case r < 0x7f:
			out.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(out, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(out, `\u%04x\u%04x`, high, low)
		}
	}
	return nil
}

// decodeHeader returns what a client stored in metadata that is not ASCII. S3 takes each
// byte of it for a character of its own and returns these characters as words of RFC 2047.
func decodeHeader(text string) string {
	if !strings.Contains(text, "=?") {
		return text
	}
	decoded, err := new(mime.WordDecoder).DecodeHeader(text)
	if err != nil {
		return text
	}
	octets := make([]byte, 0, len(decoded))
	for _, r := range decoded {
		if r > 0xff {
			return decoded
		}
		octets = append(octets, byte(r))
	}
	if !utf8.Valid(octets) {
		return decoded
	}
	return string(octets)
}

// decode64 decodes padded base64 in one line.
func decode64(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") { // which encoding/base64 skips
		return nil, malformed("base64 in several lines")
	}
	out, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, malformed("not base64")
	}
	return out, nil
}
