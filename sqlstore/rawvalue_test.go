package sqlstore

import "testing"

// An empty text that the database has in the place of NULL is not what was sent, nor is
// NULL in the place of an empty text.
func TestRawValue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sent, stored any
		same         bool
	}{
		{nil, nil, true}, {nil, "", false}, {nil, []byte{}, false}, {nil, "a", false},
		{"", "", true}, {"a", "a", true}, {"a", []byte("a"), true}, {"a", "ab", false}, {"a", nil, false},
		{[]byte("a"), "a", true}, {[]byte("a"), []byte("b"), false}, {"7", int64(7), true},
	} {
		var r rawValue
		for _, before := range []any{nil, "before"} {
			if err := r.Scan(before); err != nil {
				t.Fatal(err)
			}
			if err := r.Scan(test.stored); err != nil {
				t.Fatal(err)
			}
			if got := isStored(test.sent, r.bytes); got != test.same {
				t.Errorf("isStored(%q, %q) after %v = %t, want %t", test.sent, test.stored, before, got, test.same)
			}
		}
	}
}
