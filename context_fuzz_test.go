package kmsencrypted_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// The order of the names is part of what a data key is bound to. It does not
// follow the Unicode tables of the Go release: U+1C89 is a letter to Go 1.27 and
// unassigned to Go 1.26.
func TestContextOrderDoesNotFollowTheCompiler(t *testing.T) {
	t.Parallel()
	bound, err := kmsencrypted.Bind(kmsencrypted.Context{"\u1c89": "2", "zz": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(bound.Bytes()), "{\"\u1c89\":\"2\",\"zz\":\"1\"}"; got != want {
		t.Errorf("Bind = %+q, want %+q", got, want)
	}
}

// Whatever a context holds, it is refused or its JSON says the same pairs, in an
// order that the caller's order does not change.
func FuzzContext(f *testing.F) {
	f.Add("model_name", "User", "model_id", int64(7), false, false)
	f.Add("a", "<&>\u2028", "a!", int64(-1), false, false)
	f.Add("a b", "\x00\x1f\"\\", "a", int64(0), true, true)
	f.Add("purpose", "x", "purpose", int64(1), true, false)
	f.Add("é-😀", "", "#{x}", int64(1)<<62, false, true)
	f.Add("\xff", "\xfe", "", int64(3), false, false)
	f.Fuzz(func(t *testing.T, name, text, other string, number int64, nameIsString, otherIsString bool) {
		c := kmsencrypted.OrderedContext{
			{Name: name, Value: text, StringName: nameIsString}, {Name: other, Value: number, StringName: otherIsString},
		}
		bound, err := kmsencrypted.Bind(c)
		if err != nil {
			if !errors.Is(err, kmsencrypted.ErrContext) {
				t.Fatalf("Bind = %v, want ErrContext", err)
			}
			return
		}
		var read map[string]string
		if err := json.Unmarshal(bound.Bytes(), &read); err != nil {
			t.Fatalf("%q is no JSON of texts: %v", bound.Bytes(), err)
		}
		if name == other { // a symbol and a string: a hash of Ruby keeps one of them
			return
		}
		pairs, err := bound.Map()
		if err != nil || !maps.Equal(pairs, read) {
			t.Errorf("Map = %q, %v, the JSON says %q", pairs, err, read)
		}
		turned, err := kmsencrypted.Bind(kmsencrypted.OrderedContext{c[1], c[0]})
		if err != nil || !bytes.Equal(turned.Bytes(), bound.Bytes()) {
			t.Errorf("%q in another order is %q, %v", bound.Bytes(), turned.Bytes(), err)
		}
	})
}
