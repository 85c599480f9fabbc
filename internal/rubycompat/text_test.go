package rubycompat_test

import (
	"encoding/json"
	"math"
	"strconv"
	"testing"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// What Ruby 3.1 prints for these, with its default UTF-8 encoding.
func TestInspect(t *testing.T) {
	for name, want := range map[string]string{
		"a": ":a", "a!": ":a!", "a?": ":a?", "a=": ":a=", "A": ":A", "_a1": ":_a1", "é": ":é", "日本": ":日本",
		"a-b": `:"a-b"`, "a b": `:"a b"`, "": `:""`, "9a": `:"9a"`, "a?=": `:"a?="`, "a=b": `:"a=b"`, "@a=": `:"@a="`, "@1": `:"@1"`,
		"@a": ":@a", "@@x": ":@@x", "$a": ":$a", "$1": ":$1", "$12a": `:"$12a"`, "$-w": ":$-w", "$-": `:"$-"`, "$~": ":$~",
		"+": ":+", "!": ":!", "[]=": ":[]=", "<=>": ":<=>", "&&": `:"&&"`, "=": `:"="`, "!@": `:"!@"`, "[]?": `:"[]?"`,
		"\x01": `:"\x01"`, "\x1b": `:"\e"`, "é\x01": `:"é\u0001"`, "a#{": `:"a\#{"`, "a\u2028": `:"a\u2028"`, "\u0378x": `:"\u0378x"`, "a\u00a0": ":a\u00a0",
	} {
		if got := rubycompat.InspectSymbol(name); got != want {
			t.Errorf("InspectSymbol(%q) = %s, want %s", name, got, want)
		}
	}
	for text, want := range map[string]string{
		"a": `"a"`, "a\"\\": `"a\"\\"`, "\x01": `"\u0001"`, "\x7f": `"\u007F"`, "\u0080": `"\u0080"`, "a#{b": `"a\#{b"`, "a#b": `"a#b"`,
		"\a\b\t\n\v\f\r\x1b": `"\a\b\t\n\v\f\r\e"`, "😀": `"😀"`, "\U0010FFFF": `"\u{10FFFF}"`, "\u200b\u00ad\ue000": "\"\u200b\u00ad\ue000\"", "\ufffe": `"\uFFFE"`,
	} {
		if got := rubycompat.InspectString(text); got != want {
			t.Errorf("InspectString(%q) = %s, want %s", text, got, want)
		}
	}
}

// What Ruby 3.1's Float#to_s gives.
func TestAppendFloat(t *testing.T) {
	for f, want := range map[float64]string{
		1: "1.0", 0: "0.0", -1.5: "-1.5", math.Nextafter(0.3, 1): "0.30000000000000004", 1e14: "100000000000000.0", 1e15: "1.0e+15", 1e16: "1.0e+16", 1e22: "1.0e+22", 1e100: "1.0e+100",
		1e-4: "0.0001", 1e-5: "1.0e-05", 1.5e-7: "1.5e-07", 999999999999999.9: "999999999999999.9", 1234567890123456.8: "1234567890123456.8",
		1234567890123456: "1.234567890123456e+15", 123456789012345: "123456789012345.0", math.Inf(-1): "-Infinity",
	} {
		if got := string(rubycompat.AppendFloat(nil, f)); got != want {
			t.Errorf("AppendFloat(%g) = %s, want %s", f, got, want)
		}
	}
	if got := string(rubycompat.AppendFloat(nil, math.Copysign(0, -1))); got != "-0.0" {
		t.Errorf("AppendFloat(-0) = %s, want -0.0", got)
	}
}

func FuzzAppendFloat(f *testing.F) {
	for _, seed := range []float64{0, 1, -1.5, 1e15, 1e16, 1e-5, math.MaxFloat64, math.SmallestNonzeroFloat64} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, v float64) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return
		}
		text := string(rubycompat.AppendFloat(nil, v))
		if got, err := strconv.ParseFloat(text, 64); err != nil || got != v {
			t.Errorf("AppendFloat(%g) = %s, which reads as %g, %v", v, text, got, err)
		}
	})
}

func FuzzAppendJSONString(f *testing.F) {
	for _, seed := range []string{"", "a", `"\`, "<b>&\u2028\u2029", "\x00\x1f\b\f\n\r\t", "日本😀", "\xff\xfe"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, escapes := range rubycompat.JSONEscapes {
			quoted, err := rubycompat.AppendJSONString(nil, text, escapes)
			if (err == nil) != utf8.ValidString(text) {
				t.Fatalf("AppendJSONString(%q) error = %v", text, err)
			}
			if err != nil {
				return
			}
			var back string
			if err := json.Unmarshal(quoted, &back); err != nil || back != text {
				t.Errorf("AppendJSONString(%q) = %s, which reads as %q, %v", text, quoted, back, err)
			}
		}
	})
}
