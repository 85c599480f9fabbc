package field_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// sealing is a model whose only version seals records, with its provider.
func sealing(t *testing.T, config field.Config) (*field.Model[customer], *kmstest.Service) {
	t.Helper()
	config.Table = "customers"
	p := kmstest.NewService(kmstest.Memory())
	return newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: p.Provider(), RecordSeal: true}), config), p
}

// setBack is a record with the email that it had before its last change: what
// somebody who writes to the database makes of it.
func setBack(t *testing.T, m *field.Model[customer]) customer {
	t.Helper()
	first := sealedCustomer(t, m, 7, "old@example.org")
	now := reload(t, first)
	now.Email.Set("new@example.org")
	must(t, m.Seal(t.Context(), &now))
	row := reload(t, now)
	must(t, row.Email.Scan(column(t, first.Email)))
	return row
}

func TestRecordSealLetsColumnsBeDeclaredLater(t *testing.T) {
	t.Parallel()
	type before struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"key"`
		Email field.Of[string] `db:"email"`
	}
	type after struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"key"`
		Email field.Of[string] `db:"email"`
		Also  field.Of[string] `db:"also"`
	}
	box := nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory(), RecordSeal: true})
	m1 := newModel[before](t, box, field.Config{Table: "contacts"})
	m2 := newModel[after](t, box, field.Config{Table: "contacts"})
	old := before{ID: 7, Email: field.New("a")}
	must(t, m1.Seal(t.Context(), &old))

	row := after{ID: 7}
	must(t, errors.Join(row.Key.Scan(column(t, old.Key)), row.Email.Scan(column(t, old.Email)), row.Also.Scan(nil)))
	if err := m2.Open(t.Context(), &row); err != nil || row.Email.Must() != "a" {
		t.Fatalf("Open of a row from before a column was declared: %v", err)
	}
	row.Also.Set("b")
	must(t, m2.Seal(t.Context(), &row))

	read := after{ID: 7}
	must(t, errors.Join(read.Key.Scan(column(t, row.Key)), read.Email.Scan(column(t, row.Email)), read.Also.Scan(column(t, row.Also))))
	if err := m2.Open(t.Context(), &read); err != nil || read.Also.Must() != "b" {
		t.Errorf("Open after the new column got a value: %v", err)
	}
	// From now on the column is part of the record.
	without := before{ID: 7}
	must(t, errors.Join(without.Key.Scan(column(t, row.Key)), without.Email.Scan(column(t, row.Email))))
	wantError(t, "Open by a model that lacks a column with a value", m1.Open(t.Context(), &without), kmsencrypted.ErrRecordSeal)
}

// Rewriting a key column, in any way, never makes a reverted column valid.
func TestRecordSealIsCheckedBeforeItIsRenewed(t *testing.T) {
	t.Parallel()
	m, _ := sealing(t, field.Config{})
	for name, write := range map[string]func(context.Context, *customer) error{
		"Seal of that field":    func(ctx context.Context, c *customer) error { c.Email.Set("b"); return m.Seal(ctx, c) },
		"Seal of another field": func(ctx context.Context, c *customer) error { c.Notes.Set([]note{{"b"}}); return m.Seal(ctx, c) },
		"Seal of NULL":          func(ctx context.Context, c *customer) error { c.Phone.SetNull(); return m.Seal(ctx, c) },
		"Seal of every field": func(ctx context.Context, c *customer) error { // of a model that does not say it is complete
			setEveryField(c)
			return m.Seal(ctx, c)
		},
		"Rewrap": func(ctx context.Context, c *customer) error { return m.Rewrap(ctx, c) },
		"Rekey":  func(ctx context.Context, c *customer) error { return m.Rekey(ctx, c) },
	} {
		row := setBack(t, m)
		before := column(t, row.Key)
		wantError(t, name, write(t.Context(), &row), kmsencrypted.ErrRecordSeal)
		if got := column(t, row.Key); got != before {
			t.Errorf("%s: the key column changed from %v to %v", name, before, got)
		}
	}
}

// setEveryField sets every field.
func setEveryField(c *customer) {
	c.Email.Set("b")
	c.Born.SetNull()
	c.Notes.SetNull()
	c.Phone.SetNull()
}

// The old seal is not checked where nothing of the old record is opened: all of
// it is replaced.
func TestRecordSealOfAFullUpdateIsNew(t *testing.T) {
	t.Parallel()
	m, p := sealing(t, field.Config{Complete: true})
	row := setBack(t, m)
	p.Forget()
	p.Set(denyDecrypt)
	setEveryField(&row)
	writer := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: p.Provider(), RecordSeal: true, EncryptOnly: true}), field.Config{Table: "customers", Complete: true})
	must(t, writer.Seal(t.Context(), &row))
	if p.Count(kmsencrypted.OpUnwrap) != 0 {
		t.Errorf("a full update made %d calls to decrypt, want none", p.Count(kmsencrypted.OpUnwrap))
	}
	p.Set()
	read := reload(t, row)
	if err := m.Open(t.Context(), &read); err != nil || read.Email.Must() != "b" {
		t.Errorf("Open after a full update: %v", err)
	}
}

func TestRecordSealIsCheckedLazily(t *testing.T) {
	t.Parallel()
	m, p := sealing(t, field.Config{})
	good := reload(t, sealedCustomer(t, m, 7, "a"))
	p.Forget()
	m.OpenLazily(&good)
	if got, err := good.Email.Plain(t.Context()); err != nil || got != "a" || p.Count(kmsencrypted.OpUnwrap) != 1 {
		t.Errorf("Plain = %q, %v with %d calls, want a with 1", got, err, p.Count(kmsencrypted.OpUnwrap))
	}
	row := setBack(t, m)
	m.OpenLazily(&row)
	for range 2 { // a failure does not wear off
		_, err := row.Email.Plain(t.Context())
		wantError(t, "Plain of the field that was set back", err, kmsencrypted.ErrRecordSeal)
		_, err = row.Phone.Plain(t.Context())
		wantError(t, "Plain of another field", err, kmsencrypted.ErrRecordSeal)
	}
}

func TestRecordSealNoticesThatAllWasEmptied(t *testing.T) {
	t.Parallel()
	m, p := sealing(t, field.Config{})
	emptied := reload(t, sealedCustomer(t, m, 7, "a"))
	must(t, errors.Join(emptied.Email.Scan(nil), emptied.Phone.Scan(nil))) // the others are NULL anyway
	p.Forget()
	wantError(t, "Open of an emptied record", m.Open(t.Context(), &emptied), kmsencrypted.ErrRecordSeal)
	if p.Count(kmsencrypted.OpUnwrap) != 1 {
		t.Errorf("an emptied record took %d calls, want 1", p.Count(kmsencrypted.OpUnwrap))
	}

	// One that its program emptied opens, with a call too.
	row := reload(t, sealedCustomer(t, m, 7, "a"))
	row.Email.SetNull()
	row.Phone.SetNull()
	must(t, m.Seal(t.Context(), &row))
	empty := reload(t, row)
	p.Forget()
	if err := m.Open(t.Context(), &empty); err != nil || !empty.Email.IsNull() || p.Count(kmsencrypted.OpUnwrap) != 1 {
		t.Errorf("Open of an empty record: %v with %d calls, want 1", err, p.Count(kmsencrypted.OpUnwrap))
	}

	// A record that never had a key costs none.
	never := customer{ID: 7}
	must(t, m.Seal(t.Context(), &never))
	never = reload(t, never)
	p.Forget()
	if err := m.Open(t.Context(), &never); err != nil || p.Count(kmsencrypted.OpUnwrap) != 0 {
		t.Errorf("Open of a record without a key: %v with %d calls, want none", err, p.Count(kmsencrypted.OpUnwrap))
	}
}

// A seal speaks of the row in the database, not of what the program did since.
func TestRecordSealComparesWhatWasRead(t *testing.T) {
	t.Parallel()
	m, _ := sealing(t, field.Config{})
	phone := "1"
	for name, change := range map[string]func(*customer){
		"nothing":          func(*customer) {},
		"another value":    func(c *customer) { c.Email.Set("b") },
		"NULL":             func(c *customer) { c.Email.SetNull() },
		"one that was not": func(c *customer) { c.Notes.Set([]note{{"b"}}) },
		"all":              setEveryField,
		"two":              func(c *customer) { c.Email.Set("b"); c.Phone.Set(&phone) },
	} {
		row := reload(t, sealedCustomer(t, m, 7, "a"))
		change(&row)
		if err := m.Open(t.Context(), &row); err != nil {
			t.Errorf("Open after %s was set: %v", name, err)
			continue
		}
		row = reload(t, sealedCustomer(t, m, 7, "a"))
		m.OpenLazily(&row)
		change(&row)
		if _, err := row.Email.Plain(t.Context()); err != nil {
			t.Errorf("Plain after %s was set: %v", name, err)
		}
		must(t, m.Seal(t.Context(), &row))
		written := reload(t, row)
		if err := m.Open(t.Context(), &written); err != nil {
			t.Errorf("Open of what was written after %s was set: %v", name, err)
		}
	}
	// Setting the field does not hide that its column was reverted.
	row := setBack(t, m)
	row.Email.Set("b")
	wantError(t, "Open after the field that was set back was set", m.Open(t.Context(), &row), kmsencrypted.ErrRecordSeal)
}

func TestRecordSealOfUnsetFields(t *testing.T) {
	t.Parallel()
	m, _ := sealing(t, field.Config{})
	for name, seal := range map[string]func(context.Context, ...*customer) error{"Seal": m.Seal, "SealNew": m.SealNew} {
		c := customer{ID: 7, Email: field.New("a")}
		must(t, seal(t.Context(), &c))
		read := reload(t, c)
		if err := m.Open(t.Context(), &read); err != nil || read.Email.Must() != "a" || !read.Phone.IsNull() {
			t.Errorf("Open after %s with unset fields: %v", name, err)
		}
		// In a stored record they are not known, so the seal cannot be renewed.
		partial := reload(t, c)
		partial.Phone = field.Of[*string]{}
		must(t, m.Open(t.Context(), &partial))
		partial.Email.Set("b")
		wantError(t, "Seal of a partial record", m.Seal(t.Context(), &partial), kmsencrypted.ErrNotLoaded)
		partial = reload(t, c)
		partial.Phone = field.Of[*string]{}
		wantError(t, "Rewrap of a partial record", m.Rewrap(t.Context(), &partial), kmsencrypted.ErrNotLoaded)
	}
}

// A version with the same key and context, and without seals, is no way around
// the seal, nor is one with seals a way to put on a forged one.
func TestRecordSealCannotBeCutOffByAnotherVersion(t *testing.T) {
	t.Parallel()
	p := kmstest.Memory()
	recipes := map[int]kmsencrypted.Version{1: {Provider: p, RecordSeal: true}, 2: {Provider: p}}
	models := make(map[int]*field.Model[customer])
	for version := range recipes {
		box, err := kmsencrypted.Config{Current: version, Versions: recipes}.Box()
		must(t, err)
		models[version] = newModel[customer](t, box, field.Config{Table: "customers"})
	}
	for from, to := range map[int]int{1: 2, 2: 1} {
		m := models[from]
		row := reload(t, sealedCustomer(t, m, 7, "a"))
		text := relabelled(t, column(t, row.Key).(string), to, recipes[to].RecordSeal)
		must(t, row.Key.Scan(text))
		wantError(t, "Open of a record relabelled with another version", m.Open(t.Context(), &row), kmsencrypted.ErrBinding)
		// A rewrap is the way to get there.
		moved := reload(t, sealedCustomer(t, m, 7, "a"))
		must(t, models[to].Rewrap(t.Context(), &moved))
		read := reload(t, moved)
		if err := m.Open(t.Context(), &read); err != nil || read.Email.Must() != "a" {
			t.Errorf("Open after a rewrap from version %d to %d: %v", from, to, err)
		}
	}
}

// relabelled is a key column under another version number, with 32 bytes in the
// place of the seal or nothing.
func relabelled(t *testing.T, text string, version int, withSeal bool) string {
	t.Helper()
	_, body, _ := strings.Cut(text, ":")
	data, err := base64.StdEncoding.DecodeString(body)
	must(t, err)
	native, err := keycolumn.Parse(data)
	must(t, err)
	native.Rest = nil
	if withSeal {
		native.Rest = make([]byte, keycolumn.SealSize)
	}
	data, err = native.Append(nil)
	must(t, err)
	return keycolumn.JoinVersion(version, data)
}
