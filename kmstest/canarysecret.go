package kmstest

import (
	"bytes"
	"database/sql/driver"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// secret is a plaintext in all forms to look for.
type secret struct {
	plain  []needle // in lower case
	base64 []needle
}

type needle struct {
	text []byte
	word bool // found only if no character on either side could continue it
}

// In random base64 a given text of 6 letters, in any case, begins at one character
// in 10^9, but a text of 4 letters at one in 10^6, which does happen in tests.
const shortText = 6

func newSecret(value any) (s secret, err error) {
	switch value := value.(type) {
	case time.Time:
		s.addTime(value)
		return s, nil
	case []byte:
		return s, s.addText(value)
	}
	switch v := reflect.ValueOf(value); {
	case v.Kind() == reflect.String:
		return s, s.addText([]byte(v.String()))
	case v.CanInt():
		s.addNumber(strconv.FormatInt(v.Int(), 10), uint64(v.Int()))
	case v.CanUint():
		s.addNumber(strconv.FormatUint(v.Uint(), 10), v.Uint())
	case v.CanFloat():
		for _, format := range []byte("fg") {
			for _, size := range []int{64, v.Type().Bits()} {
				s.addNumber(strconv.FormatFloat(v.Float(), format, -1, size), math.Float64bits(v.Float()))
			}
		}
	default:
		return s, fmt.Errorf("%T is neither text nor a number nor a time", value)
	}
	return s, nil
}

func (s *secret) addText(text []byte) error {
	if len(text) == 0 {
		return errors.New("empty text occurs everywhere")
	}
	short := len(text) < shortText
	s.add(text, short)
	if !utf8.Valid(text) {
		return nil
	}
	withoutHTML, err := json.Marshal(string(text))
	if err != nil {
		return err
	}
	var plainJSON bytes.Buffer
	encoder := json.NewEncoder(&plainJSON)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(string(text)); err != nil {
		return err
	}
	for _, escaped := range [][]byte{
		bytes.Trim(withoutHTML, `"`),
		bytes.Trim(plainJSON.Bytes(), "\"\n"),
		bytes.ReplaceAll(text, []byte(`'`), []byte(`''`)),
		bytes.ReplaceAll(text, []byte(`'`), []byte(`\'`)),
	} {
		if !bytes.Equal(escaped, text) {
			s.add(escaped, short)
		}
	}
	return nil
}

func (s *secret) addNumber(decimal string, bits uint64) {
	s.add([]byte(decimal), true)
	s.add(binary.BigEndian.AppendUint64(nil, bits), false)
	s.add(binary.LittleEndian.AppendUint64(nil, bits), false)
}

func (s *secret) addTime(t time.Time) {
	for _, t := range []time.Time{t, t.UTC()} {
		layouts := []string{"2006-01-02T15:04:05", time.DateTime}
		if t.Equal(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())) {
			layouts = []string{time.DateOnly}
		}
		for _, layout := range layouts {
			s.add([]byte(t.Format(layout)), false)
		}
	}
	for _, unix := range []int64{t.Unix(), t.UnixMilli(), t.UnixMicro(), t.UnixNano()} {
		// Near 1970 these are short numbers with other meanings.
		if decimal := strconv.FormatInt(unix, 10); len(decimal) >= shortText {
			s.addNumber(decimal, uint64(unix))
		}
	}
}

// add looks for text, its hexadecimal form and its base64 form.
func (s *secret) add(text []byte, word bool) {
	short := len(text) < shortText
	s.plain = append(s.plain,
		needle{lower(text), word},
		needle{hex.AppendEncode(nil, text), short})
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		if short {
			s.base64 = append(s.base64,
				needle{encoding.AppendEncode(nil, text), true},
				needle{encoding.WithPadding(base64.NoPadding).AppendEncode(nil, text), true})
			continue
		}
		// Inside a larger value, text begins at one of three places in a group of four
		// base64 characters. Leave out the characters it shares with its neighbours.
		for before, shared := range []int{0, 2, 3} {
			encoded := encoding.AppendEncode(nil, append(make([]byte, before), text...))
			s.base64 = append(s.base64, needle{encoded[shared : (before+len(text))*8/6], false})
		}
	}
}

// in reports whether text contains the secret in one of its forms.
func (s secret) in(text []byte) bool {
	return anyIn(s.plain, lower(text)) || anyIn(s.base64, withoutLineBreaks(text))
}

func anyIn(needles []needle, text []byte) bool {
	isText := utf8.Valid(text)
	for _, n := range needles {
		if n.word && isText && hasWord(text, n.text) || !n.word && bytes.Contains(text, n.text) {
			return true
		}
	}
	return false
}

func hasWord(text, word []byte) bool {
	for start := 0; ; start++ {
		i := bytes.Index(text[start:], word)
		if i < 0 {
			return false
		}
		start += i
		end := start + len(word)
		if (start == 0 || !continues(text[start-1])) && (end == len(text) || !continues(text[end])) {
			return true
		}
	}
}

// continues reports whether c is a character of words, numbers or base64.
func continues(c byte) bool {
	return c >= utf8.RuneSelf || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("+/=_-", c) >= 0
}

// lower changes ASCII letters only: other bytes need not be text.
func lower(text []byte) []byte {
	lowered := bytes.Clone(text)
	for i, c := range lowered {
		if 'A' <= c && c <= 'Z' {
			lowered[i] = c + 'a' - 'A'
		}
	}
	return lowered
}

func withoutLineBreaks(text []byte) []byte {
	if bytes.IndexByte(text, '\n') < 0 {
		return text
	}
	return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r"), nil), []byte("\n"), nil)
}

// argumentTexts returns the forms in which a driver may send an argument. Most
// arguments are a [driver.Value], but pgx accepts any Go value.
func argumentTexts(value any) [][]byte {
	v := reflect.ValueOf(value)
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil
	}
	switch value := value.(type) {
	case time.Time:
		return [][]byte{[]byte(value.Format(time.RFC3339Nano)), []byte(value.UTC().Format(time.RFC3339Nano))}
	case driver.Valuer:
		// The driver reports the error and sends nothing.
		if converted, err := value.Value(); err == nil {
			return argumentTexts(converted)
		}
		return nil
	}
	switch {
	case v.Kind() == reflect.Pointer:
		return argumentTexts(v.Elem().Interface())
	case v.Kind() == reflect.String:
		return [][]byte{[]byte(v.String())}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		return [][]byte{v.Bytes()}
	case v.CanFloat():
		return [][]byte{strconv.AppendFloat(nil, v.Float(), 'f', -1, 64)}
	}
	var texts [][]byte
	// Integers become their decimal text here. Slices, maps and structs, which pgx
	// sends as arrays and documents, become JSON.
	if document, err := json.Marshal(value); err == nil {
		texts = append(texts, document)
	}
	if stringer, ok := value.(fmt.Stringer); ok {
		texts = append(texts, []byte(stringer.String()))
	}
	return texts
}
