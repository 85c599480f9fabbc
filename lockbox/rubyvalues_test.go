package lockbox_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// What Ruby refuses to read is not read as something near it.
func TestTypeRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ typ, plaintext string }{
		{"json", `"\ud83d"`}, {"json", `["\ude00\ud83d"]`}, {"json", `{"\\\ud83dx":1}`}, {"json", `"\ud83d\u0041"`},
		{"hash", "--- false\n"}, {"array", "--- false\n"},
		{"hash", "---\na: 2020-01-01\n"}, {"array", "---\n- 2020-01-01 00:00:00\n"},
	} {
		if null, err := typeOf(t, c.typ).Parse([]byte(c.plaintext), new(any)); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("%s: Parse(%q) = null %v, %v, want ErrMalformed", c.typ, c.plaintext, null, err)
		}
	}
	for plaintext, want := range map[string]string{`"\ud83d\ude00"`: "😀", `"\\ud83d"`: `\ud83d`, `"\u0041\n\\"`: "A\n\\"} {
		var got string
		if _, err := typeOf(t, "json").Parse([]byte(plaintext), &got); err != nil || got != want {
			t.Errorf("json: Parse(%s) = %q, %v, want %q", plaintext, got, err, want)
		}
	}
}

// A decimal in JSON is Ruby's text of it, and null where JSON has no number.
func TestDecimalInJSON(t *testing.T) {
	t.Parallel()
	in := []any{lockbox.Decimal("1.50"), lockbox.Decimal("1e3"), lockbox.Decimal("-0"), lockbox.Decimal("NaN"), lockbox.Decimal("-Infinity")}
	const want = `["1.5","1000.0","-0.0",null,null]`
	if got, _, err := typeOf(t, "json").Append(nil, in); err != nil || string(got) != want {
		t.Errorf("Append(%v) = %s, %v, want %s", in, got, err, want)
	}
	if got, _, err := typeOf(t, "json").Append(nil, []any{lockbox.Decimal("secret")}); !errors.Is(err, kmsencrypted.ErrConfig) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Append(no decimal) = %s, %v, want ErrConfig without the value", got, err)
	}
}
