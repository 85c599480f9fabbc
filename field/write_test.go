package field_test

import (
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// assignments as text, for comparing; values are shortened to whether they are NULL.
func names(list []field.Assignment) (out []string) {
	for _, a := range list {
		name := a.Column
		if a.Value == nil {
			name += "=NULL"
		}
		out = append(out, name)
	}
	return out
}

func wantWrite[R any](t *testing.T, m *field.Model[R], row *R, what, set, where string) {
	t.Helper()
	w, err := m.Adapter().Write(row)
	must(t, err)
	if got := fmt.Sprint(names(w.Set)); got != set {
		t.Errorf("%s: Set = %s, want %s", what, got, set)
	}
	if got := fmt.Sprint(names(w.Where)); got != where {
		t.Errorf("%s: Where = %s, want %s", what, got, where)
	}
}

type contact struct {
	ID       int64            `db:"id"`
	Key      field.Key        `db:"key"`
	Email    field.Of[string] `db:"email"`
	Notes    field.Of[string] `db:"notes"`
	PhoneKey field.Key        `db:"phone_key" kms:"name=phone"`
	Phone    field.Of[string] `db:"phone" kms:"key=phone"`
}

func TestWriteSaysWhatChanged(t *testing.T) {
	t.Parallel()
	m := newModel[contact](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "contacts"})
	c := contact{ID: 7, Email: field.New("a")}
	if _, err := m.Adapter().Write(&c); err == nil {
		t.Error("Write of an unsealed record succeeds")
	}
	must(t, m.Seal(t.Context(), &c))
	// What the program said nothing about is not written over.
	wantWrite(t, m, &c, "first key", "[email key]", "[key=NULL]")
	m.Adapter().Saved(&c)
	wantWrite(t, m, &c, "saved", "[]", "[]")

	c.Email.Set("b")
	must(t, m.Seal(t.Context(), &c))
	wantWrite(t, m, &c, "one field", "[email]", "[key]")
	m.Adapter().Saved(&c)
	c.Email.SetNull()
	c.Phone.Set("1")
	must(t, m.Seal(t.Context(), &c))
	wantWrite(t, m, &c, "NULL and another key", "[email=NULL phone phone_key]", "[key phone_key=NULL]")
	m.Adapter().Saved(&c)
	must(t, m.Rekey(t.Context(), &c))
	wantWrite(t, m, &c, "rekey", "[key phone phone_key]", "[email=NULL notes=NULL key phone phone_key]")
	m.Adapter().Saved(&c)
	must(t, m.Rewrap(t.Context(), &c))
	wantWrite(t, m, &c, "rewrap", "[key phone_key]", "[key phone_key]")
}

// A data key that replaces another stays one until it is written, whatever is done
// with the record meanwhile: everything else under the old key is lost with it.
func TestUnwrittenKeyStaysNew(t *testing.T) {
	t.Parallel()
	provider := kmstest.Memory()
	config := field.Config{Table: "cards", Complete: true}
	for _, sealed := range []bool{false, true} {
		m := newModel[keyed[int64]](t, nativeBox(t, kmsencrypted.Version{Provider: provider, RecordSeal: sealed}), config)
		writer := newModel[keyed[int64]](t, nativeBox(t, kmsencrypted.Version{Provider: provider, RecordSeal: sealed, EncryptOnly: true}), config)
		for name, do := range map[string]func(*keyed[int64]) error{
			"rewrap": func(c *keyed[int64]) error { return m.Rewrap(t.Context(), c) },
			"seal": func(c *keyed[int64]) error {
				c.Card.Set("d")
				return m.Seal(t.Context(), c)
			},
		} {
			wantKey := func(c *keyed[int64], want field.KeyChange) {
				t.Helper()
				must(t, do(c))
				if w, err := m.Adapter().Write(c); err != nil || w.Key != want {
					t.Errorf("sealed %t: after %s Write says %d, %v, want %d", sealed, name, w.Key, err, want)
				}
			}
			stored := keyed[int64]{ID: 7, Card: field.New("a")}
			must(t, m.Seal(t.Context(), &stored))
			m.Adapter().Saved(&stored)
			c := stored
			must(t, m.Rekey(t.Context(), &c))
			wantKey(&c, field.KeyRekeyed)

			c = keyed[int64]{ID: 7}
			must(t, c.Key.Scan(column(t, stored.Key)))
			must(t, c.Card.Scan(column(t, stored.Card)))
			c.Card.Set("b")
			must(t, writer.Seal(t.Context(), &c))
			wantKey(&c, field.KeyReplaced)
		}
	}
}

// A row of which only some columns were selected keeps the others.
func TestPartialSelectLosesNothing(t *testing.T) {
	t.Parallel()
	m := newModel[contact](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "contacts"})
	c := contact{ID: 7, Email: field.New("a"), Phone: field.New("1")}
	must(t, m.Seal(t.Context(), &c))

	partial := contact{ID: 7}
	must(t, partial.PhoneKey.Scan(column(t, c.PhoneKey)))
	must(t, partial.Phone.Scan(column(t, c.Phone)))
	partial.Phone.Set("2")
	must(t, m.Seal(t.Context(), &partial))
	wantWrite(t, m, &partial, "the other key was not selected", "[phone]", "[phone_key]")

	partial = contact{ID: 7}
	must(t, partial.Email.Scan(column(t, c.Email)))
	partial.Email.Set("b")
	wantError(t, "its own key was not selected", m.Seal(t.Context(), &partial), kmsencrypted.ErrNotLoaded)
}

func TestKeyChanged(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{false, true} {
		m := newModel[contact](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory(), RecordSeal: sealed}), field.Config{Table: "contacts"})
		c := contact{ID: 7, Email: field.New("a"), Notes: field.New("n")}
		must(t, m.Seal(t.Context(), &c))
		m.Adapter().Saved(&c)
		mine := c
		mine.Email.Set("b")
		must(t, m.Seal(t.Context(), &mine))

		rewrapped := c
		must(t, m.Rewrap(t.Context(), &rewrapped))
		must(t, m.Adapter().KeyChanged(t.Context(), &mine, "key", column(t, rewrapped.Key)))
		w, err := m.Adapter().Write(&mine)
		must(t, err)
		if got := w.Where[0].Value; got != column(t, rewrapped.Key) {
			t.Errorf("sealed %v: after somebody's rewrap Where is %v, want the new key column", sealed, got)
		}
		written := contact{ID: 7}
		must(t, written.Key.Scan(column(t, mine.Key)))
		must(t, written.Email.Scan(column(t, mine.Email)))
		must(t, written.Notes.Scan(column(t, mine.Notes)))
		if err := m.Open(t.Context(), &written); err != nil || written.Email.Must() != "b" {
			t.Errorf("sealed %v: after somebody's rewrap: %v", sealed, err)
		}

		rekeyed := c
		must(t, m.Rekey(t.Context(), &rekeyed))
		wantError(t, "after somebody's rekey", m.Adapter().KeyChanged(t.Context(), &mine, "key", column(t, rekeyed.Key)), kmsencrypted.ErrConflict)
		wantError(t, "nothing changed", m.Adapter().KeyChanged(t.Context(), &mine, "key", column(t, rewrapped.Key)), kmsencrypted.ErrConflict)
		wantError(t, "the row lost its key", m.Adapter().KeyChanged(t.Context(), &mine, "key", nil), kmsencrypted.ErrConflict)
		if sealed {
			other := c
			other.Notes.Set("m")
			must(t, m.Seal(t.Context(), &other))
			fresh := c
			fresh.Email.Set("b")
			must(t, m.Seal(t.Context(), &fresh))
			wantError(t, "somebody changed another column under the seal", m.Adapter().KeyChanged(t.Context(), &fresh, "key", column(t, other.Key)), kmsencrypted.ErrConflict)
		}
	}
}
