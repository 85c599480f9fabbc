package blindindex

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	x := fast(t, Options{Expression: Chain(Presence, Lower)})
	ada, bob := compute(t, x, "ada"), compute(t, x, "bob")
	for _, c := range []struct {
		values []any
		want   Lookup
	}{
		{nil, Lookup{Name: "email_bidx"}},
		{[]any{"ada"}, Lookup{"email_bidx", []Column{ada}, false}},
		{[]any{"ada", "bob", "ADA"}, Lookup{"email_bidx", []Column{ada, bob}, false}},
		{[]any{nil}, Lookup{"email_bidx", nil, true}},
		{[]any{" ", "bob", nil}, Lookup{"email_bidx", []Column{bob}, true}},
	} {
		got, err := x.Lookup(c.values...)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("Lookup(%v) = %d columns, NULL %t, %v, want %d, NULL %t", c.values, len(got.Columns), got.Null, err, len(c.want.Columns), c.want.Null)
		}
		if args := got.Args(); len(args) != len(c.want.Columns) || len(args) > 0 && args[0] != c.want.Columns[0] {
			t.Errorf("Args() of Lookup(%v) = %v, want the columns", c.values, args)
		}
	}
	if _, err := x.Lookup("ada", "b\xff"); !errors.Is(err, ErrValue) {
		t.Errorf("Lookup(ada, invalid UTF-8) = %v, want %v", err, ErrValue)
	}
}

func rotation(t *testing.T, afterName string) (before, after *Index, r *Rotation) {
	t.Helper()
	before = fast(t, Options{})
	key, err := testMaster().IndexKey("users", afterName+"2")
	if err != nil {
		t.Fatal(err)
	}
	after, err = New(key, afterName, Options{Algorithm: HMAC{}, Expression: Presence})
	if err != nil {
		t.Fatal(err)
	}
	r, err = NewRotation(before, after)
	if err != nil {
		t.Fatal(err)
	}
	return before, after, r
}

func TestRotationOfTwoColumns(t *testing.T) {
	t.Parallel()
	before, after, r := rotation(t, "email_bidx_v2")
	got, err := r.Compute("ada")
	want := []Assignment{{"email_bidx", compute(t, before, "ada")}, {"email_bidx_v2", compute(t, after, "ada")}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Compute(ada) = %d assignments, %v, want both columns", len(got), err)
	}
	lookups, err := r.Lookup("ada", nil)
	if err != nil || len(lookups) != 2 {
		t.Fatalf("Lookup(ada, NULL) = %d lookups, %v, want 2", len(lookups), err)
	}
	if l := lookups[0]; l.Name != "email_bidx" || !slices.Equal(l.Columns, []Column{want[0].Column}) || !l.Null {
		t.Errorf("Lookup(ada, NULL) under the old index = %s, NULL %t, want email_bidx, NULL true", l.Name, l.Null)
	}
	if l := lookups[1]; l.Name != "email_bidx_v2" || !slices.Equal(l.Columns, []Column{want[1].Column}) || l.Null {
		t.Errorf("Lookup(ada, NULL) under the new index = %s, NULL %t, want email_bidx_v2, NULL false", l.Name, l.Null)
	}
}

func TestRotationInOneColumn(t *testing.T) {
	t.Parallel()
	before, after, r := rotation(t, "email_bidx")
	older, newer := compute(t, before, "ada"), compute(t, after, "ada")
	got, err := r.Compute("ada")
	if err != nil || !slices.Equal(got, []Assignment{{"email_bidx", newer}}) {
		t.Errorf("Compute(ada) = %d assignments, %v, want the new column alone", len(got), err)
	}
	for _, c := range []struct {
		value any
		want  Lookup
	}{
		{"ada", Lookup{"email_bidx", []Column{older, newer}, false}},
		{nil, Lookup{"email_bidx", nil, true}},
		{"", Lookup{"email_bidx", []Column{compute(t, before, "")}, true}}, // NULL under the new index only
	} {
		got, err := r.Lookup(c.value)
		if err != nil || !reflect.DeepEqual(got, []Lookup{c.want}) {
			t.Errorf("Lookup(%v) = %v, %v, want one look-up of %d columns, NULL %t", c.value, got, err, len(c.want.Columns), c.want.Null)
		}
	}
}

func TestRotationRefuses(t *testing.T) {
	t.Parallel()
	x := fast(t, Options{})
	for name, pair := range map[string][2]*Index{"no old": {nil, x}, "no new": {x, nil}, "the same": {x, x}} {
		if _, err := NewRotation(pair[0], pair[1]); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewRotation with %s = %v, want %v", name, err, kmsencrypted.ErrConfig)
		}
	}
	_, _, r := rotation(t, "email_bidx_v2")
	if _, err := r.Compute("a\xff"); !errors.Is(err, ErrValue) {
		t.Errorf("Compute with a failing new index = %v, want %v", err, ErrValue)
	}
	if _, err := r.Lookup("a\xff"); !errors.Is(err, ErrValue) {
		t.Errorf("Lookup with a failing new index = %v, want %v", err, ErrValue)
	}
	if _, err := r.Lookup(1i); !errors.Is(err, ErrValue) {
		t.Errorf("Lookup with a failing old index = %v, want %v", err, ErrValue)
	}
}
