package rubycompat

import "testing"

// What Unicode 15 does not know is escaped under every release of Go.
func TestInspectDoesNotFollowTheCompiler(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, symbol, text string }{
		{"\u1c89", `:"\u1C89"`, `"\u1C89"`},             // a letter since Unicode 16
		{"\U00010d50", `:"\u{10D50}"`, `"\u{10D50}"`},   // a letter since Unicode 16
		{"\U00016ea0", `:"\u{16EA0}"`, `"\u{16EA0}"`},   // a letter since Unicode 17
		{"\u0378", `:"\u0378"`, `"\u0378"`},             // not assigned
		{"\u1c88", ":\u1c88", "\"\u1c88\""},             // a letter since Unicode 9
		{"\U0001e4d0", ":\U0001e4d0", "\"\U0001e4d0\""}, // a letter since Unicode 15
		{"\u200b", ":\u200b", "\"\u200b\""},             // a format character
		{"\ue000", ":\ue000", "\"\ue000\""},             // for private use
		{"\u2028", `:"\u2028"`, `"\u2028"`},             // a line separator
		{"\u0085", `:"\u0085"`, `"\u0085"`},             // a control character
	} {
		if got := InspectSymbol(c.name); got != c.symbol {
			t.Errorf("InspectSymbol(%+q) = %s, want %s", c.name, got, c.symbol)
		}
		if got := InspectString(c.name); got != c.text {
			t.Errorf("InspectString(%+q) = %s, want %s", c.name, got, c.text)
		}
	}
}
