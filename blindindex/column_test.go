package blindindex

import (
	"bytes"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func TestColumnInAndOutOfDatabase(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		column Column
		value  driver.Value
		bytes  []byte
	}{
		{Column{}, nil, nil},
		{BytesColumn(nil), nil, nil},
		{TextColumn(""), "", []byte{}},
		{TextColumn("abc="), "abc=", []byte("abc=")},
		{BytesColumn([]byte{}), []byte{}, []byte{}},
		{BytesColumn([]byte{0, 255}), []byte{0, 255}, []byte{0, 255}},
	} {
		value, err := c.column.Value()
		if err != nil || !reflect.DeepEqual(value, c.value) {
			t.Errorf("Value() = %#v, %v, want %#v", value, err, c.value)
		}
		if got := c.column.Bytes(); !reflect.DeepEqual(got, c.bytes) {
			t.Errorf("Bytes() = %#v, want %#v", got, c.bytes)
		}
		var back Column
		if err := back.Scan(c.value); err != nil || back != c.column {
			t.Errorf("Scan(%#v) = %q, %v, want %q", c.value, back.Text(), err, c.column.Text())
		}
	}
	var c Column
	if err := c.Scan(int64(1)); !errors.Is(err, kmsencrypted.ErrMalformed) {
		t.Errorf("Scan(1) = %v, want %v", err, kmsencrypted.ErrMalformed)
	}
}

func TestColumnEqual(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b Column
		want bool
	}{
		{Column{}, Column{}, true},
		{Column{}, TextColumn(""), false},
		{TextColumn("a"), BytesColumn([]byte("a")), true},
		{TextColumn("a"), TextColumn("b"), false},
	} {
		if got := c.a.Equal(c.b); got != c.want {
			t.Errorf("Equal(%q, %q) = %t, want %t", c.a.Text(), c.b.Text(), got, c.want)
		}
	}
}

// Neither a plaintext nor a column, nor the key of an index, is printed by
// anything that prints.
func TestRedacted(t *testing.T) {
	t.Parallel()
	const secret = "ada@example.org"
	x := fast(t, Options{Expression: Lower})
	values := map[string]any{
		"plaintext": Text(secret), "in struct": struct{ P Plaintext }{Text(secret)}, "unexported": struct{ p Plaintext }{Text(secret)},
		"column": TextColumn(secret), "column in struct": struct{ C Column }{TextColumn(secret)},
		"index": x, "index value": *x, "in lookup": Lookup{Columns: []Column{TextColumn(secret)}},
	}
	hidden := []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), string(testKey()),
		fmt.Sprintf("%x", testKey()), fmt.Sprint(testKey()), strings.Trim(fmt.Sprintf("%#v", testKey()), "[]byte{}")}
	for name, v := range values {
		for how, text := range printed(t, v) {
			for _, h := range hidden {
				if strings.Contains(text, h) {
					t.Errorf("%s under %s = %q, want it redacted", name, how, text)
				}
			}
		}
	}
	if got := fmt.Sprint(Text(secret)); got != redactedPlaintext {
		t.Errorf("Sprint(Text) = %q, want %q", got, redactedPlaintext)
	}
	if got := fmt.Sprint(TextColumn(secret)); got != redactedColumn {
		t.Errorf("Sprint(TextColumn) = %q, want %q", got, redactedColumn)
	}
}

func printed(t *testing.T, v any) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		texts[verb] = fmt.Sprintf(verb, v)
	}
	if text, err := json.Marshal(v); err == nil {
		texts["json"] = string(text)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "v", v)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "v", v)
	texts["slog"] = log.String()
	return texts
}
