package sqlstore

import (
	"database/sql/driver"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
)

// The engine and the ledger handle a primary key as text: a JSON list of its
// columns, each with a letter for its type before it. ["i42"], ["sde","i7"].

// idValues returns the columns of the primary key of a row as driver values.
func (s *Store[R]) idValues(row *R) ([]any, error) {
	values := make([]any, len(s.ids))
	for i, c := range s.ids {
		v, err := idValue(c.of(row))
		if err != nil {
			return nil, fmt.Errorf("sqlstore: primary key column %s.%s: %w", s.Table(), c.name, err)
		}
		if _, isBytes := v.([]byte); s.types[c.name].isText() && !isBytes {
			v = fmt.Sprint(v) // MariaDB and MySQL compare a text and a number as floating-point numbers
		}
		values[i] = v
	}
	return values, nil
}

func idValue(v reflect.Value) (any, error) {
	if v.CanUint() && v.Uint() > math.MaxInt64 {
		return v.Uint(), nil
	}
	value, err := driver.DefaultParameterConverter.ConvertValue(v.Interface())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", kmsencrypted.ErrConfig, err)
	}
	switch value.(type) {
	case int64, string, []byte:
		return value, nil
	}
	return nil, fmt.Errorf("%w: a %T is not supported", kmsencrypted.ErrConfig, value)
}

func encodeKey(values []any) string {
	if len(values) == 1 {
		if number, ok := values[0].(int64); ok { // most keys, without the detours of JSON
			return `["i` + strconv.FormatInt(number, 10) + `"]`
		}
	}
	texts := make([]string, len(values))
	for i, value := range values {
		switch v := value.(type) {
		case int64:
			texts[i] = "i" + strconv.FormatInt(v, 10)
		case uint64:
			texts[i] = "u" + strconv.FormatUint(v, 10)
		case []byte:
			texts[i] = "b" + base64.StdEncoding.EncodeToString(v)
		case string:
			texts[i] = "s" + v
			if !utf8.ValidString(v) { // JSON would change it
				texts[i] = "x" + base64.StdEncoding.EncodeToString([]byte(v))
			}
		}
	}
	text, _ := json.Marshal(texts) // marshalling strings cannot fail
	return string(text)
}

func decodeKey(text string) ([]any, error) {
	bad := fmt.Errorf("sqlstore: %w: a position in the ledger", kmsencrypted.ErrMalformed)
	var texts []string
	if err := json.Unmarshal([]byte(text), &texts); err != nil {
		return nil, bad
	}
	values := make([]any, len(texts))
	for i, t := range texts {
		if t == "" {
			return nil, bad
		}
		var err error
		switch rest := t[1:]; t[0] {
		case 'i':
			values[i], err = strconv.ParseInt(rest, 10, 64)
		case 'u':
			values[i], err = strconv.ParseUint(rest, 10, 64)
		case 'b':
			values[i], err = base64.StdEncoding.DecodeString(rest)
		case 'x':
			var raw []byte
			raw, err = base64.StdEncoding.DecodeString(rest)
			values[i] = string(raw)
		case 's':
			values[i] = rest
		default:
			err = bad
		}
		if err != nil {
			return nil, bad
		}
	}
	return values, nil
}

// recordName returns a primary key for people: "id=42".
func (s *Store[R]) recordName(id []any) string {
	var b strings.Builder
	for i, value := range id {
		if i > 0 {
			b.WriteByte(' ')
		}
		if raw, ok := value.([]byte); ok {
			value = fmt.Sprintf("%x", raw)
		}
		fmt.Fprintf(&b, "%s=%v", s.ids[i].name, value)
	}
	return b.String()
}
