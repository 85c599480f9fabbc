package field_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// tenantModel makes encryption contexts of the tenant.
func tenantModel(t *testing.T, v kmsencrypted.Version) *field.Model[tenantRow] {
	t.Helper()
	p, err := local.Create(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	v.Provider = p
	v.Context = func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"tenant": s.Record.(*tenantRow).Tenant}, nil
	}
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: v}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	m, err := field.NewModel[tenantRow](box, field.Config{Table: "rows", Complete: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// keyIsWritten reports whether a sealed record writes its key column.
func keyIsWritten(t *testing.T, m *field.Model[tenantRow], row *tenantRow) bool {
	t.Helper()
	w, err := m.Adapter().Write(row, "tenant")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(w.Set, func(a field.Assignment) bool { return a.Column == "encrypted_kms_key" })
}

// A record whose key was never opened does not move without its key.
func TestNativeMoveOfClosedRecord(t *testing.T) {
	t.Parallel()
	for _, encryptOnly := range []bool{false, true} {
		m := tenantModel(t, kmsencrypted.Version{EncryptOnly: encryptOnly})
		row := tenantRow{ID: 1, Tenant: "acme", Email: field.New("a@example.org")}
		if err := m.SealNew(t.Context(), &row); err != nil {
			t.Fatal(err)
		}
		row = readAgain(t, row)
		m.OpenLazily(&row)
		row.Tenant = "globex"
		if err := m.Seal(t.Context(), &row); !errors.Is(err, kmsencrypted.ErrNotOpened) {
			t.Errorf("encrypt only %t: Seal of a closed record that moved: %v, want ErrNotOpened", encryptOnly, err)
		}
		if !encryptOnly {
			continue
		}
		row.Email.Set("b@example.org") // every field: it gets a new data key
		if err := m.Seal(t.Context(), &row); err != nil || !keyIsWritten(t, m, &row) {
			t.Errorf("Seal of a closed record that moved and is set as a whole: %v", err)
		}
	}
}

// A key under which every value is NULL was not opened with its record. The record
// moves all the same, and so does its key.
func TestNativeMoveOfKeyWithoutValues(t *testing.T) {
	t.Parallel()
	m := tenantModel(t, kmsencrypted.Version{})
	row := tenantRow{ID: 1, Tenant: "acme", Email: field.New("a@example.org")}
	must(t, m.SealNew(t.Context(), &row))
	m.Adapter().Saved(&row)
	row.Email.SetNull()
	must(t, m.Seal(t.Context(), &row))
	row = readAgain(t, row)
	must(t, m.Open(t.Context(), &row))
	row.Tenant = "globex"
	if err := m.Seal(t.Context(), &row); err != nil || !keyIsWritten(t, m, &row) {
		t.Fatalf("Seal of a record of NULLs that moved: %v", err)
	}
	row = readAgain(t, row)
	row.Email.Set("b@example.org")
	must(t, m.Seal(t.Context(), &row)) // the key opens in the new place
	row = readAgain(t, row)
	must(t, m.Open(t.Context(), &row))
	if got := row.Email.Must(); got != "b@example.org" {
		t.Errorf("the field has %q", got)
	}
}

// NULL depends on no key: the key column of the row may have been rewrapped.
func TestKeyChangedOfNullOnly(t *testing.T) {
	t.Parallel()
	m := tenantModel(t, kmsencrypted.Version{})
	row := tenantRow{ID: 1, Tenant: "acme", Email: field.New("a@example.org")}
	must(t, m.SealNew(t.Context(), &row))
	m.Adapter().Saved(&row)
	mine, rewrapped := readAgain(t, row), readAgain(t, row)
	must(t, m.Open(t.Context(), &rewrapped))
	must(t, m.Rewrap(t.Context(), &rewrapped))
	mine.Email.SetNull()
	must(t, m.Seal(t.Context(), &mine))
	now := column(t, rewrapped.Key)
	must(t, m.Adapter().KeyChanged(t.Context(), &mine, "encrypted_kms_key", now))
	w, err := m.Adapter().Write(&mine)
	must(t, err)
	for _, a := range w.Where {
		if a.Column == "encrypted_kms_key" && !slices.Contains(a.Values(), now) {
			t.Errorf("the condition is %v, want the new key column", a)
		}
	}
	mine.Email.Set("b@example.org")
	wantError(t, "with a value", m.Adapter().KeyChanged(t.Context(), &mine, "encrypted_kms_key", column(t, row.Key)), kmsencrypted.ErrConflict)
}

// A new seal in the key column does not make the model forget where the key is.
func TestNativeMoveAfterRecordSeal(t *testing.T) {
	t.Parallel()
	m := tenantModel(t, kmsencrypted.Version{RecordSeal: true})
	row := tenantRow{ID: 1, Tenant: "acme", Email: field.New("a@example.org")}
	if err := m.SealNew(t.Context(), &row); err != nil {
		t.Fatal(err)
	}
	m.Adapter().Saved(&row)
	for _, move := range []struct{ email, tenant string }{{"b@example.org", "acme"}, {"", "globex"}} {
		if move.email != "" {
			row.Email.Set(move.email)
		}
		row.Tenant = move.tenant
		if err := m.Seal(t.Context(), &row); err != nil {
			t.Fatal(err)
		}
		if !keyIsWritten(t, m, &row) {
			t.Errorf("a record of tenant %s does not write its key", move.tenant)
		}
		m.Adapter().Saved(&row)
	}
	if row = readAgain(t, row); row.Tenant != "globex" {
		t.Fatal("the test does not keep the tenant")
	}
	if err := m.Open(t.Context(), &row); err != nil {
		t.Errorf("after a move: %v", err)
	}
}

// A record that was sealed for another tenant, and not written, goes back to its own.
// The tenant is in a struct that is embedded by a pointer, of which nobody else's copy
// may change.
func TestNativeMoveTakenBack(t *testing.T) {
	t.Parallel()
	type Scope struct {
		Tenant string `db:"tenant" kms:"context"`
	}
	type scoped struct {
		ID int64 `db:"id"`
		*Scope
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext"`
	}
	p, err := local.Create(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: p, Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"tenant": s.Record.(*scoped).Tenant}, nil
	}}}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	m, err := field.NewModel[scoped](box, field.Config{Table: "rows"})
	if err != nil {
		t.Fatal(err)
	}
	row := scoped{ID: 1, Scope: &Scope{"acme"}, Email: field.New("a@example.org")}
	if err := m.Seal(t.Context(), &row); err != nil {
		t.Fatal(err)
	}
	m.Adapter().Saved(&row)
	for _, tenant := range []string{"globex", "initech", "acme"} {
		row.Tenant = tenant
		if err := m.Seal(t.Context(), &row); err != nil {
			t.Fatalf("Seal for %s: %v", tenant, err)
		}
		if row.Tenant != tenant {
			t.Errorf("Seal for %s changed the tenant to %s", tenant, row.Tenant)
		}
		as := scoped{ID: 1, Scope: &Scope{tenant}}
		if other := (scoped{ID: 1, Scope: &Scope{"hooli"}}); !m.Adapter().OpensAs(&row, &as) || m.Adapter().OpensAs(&row, &other) || row.Tenant != tenant {
			t.Errorf("OpensAs of the record of %s", tenant)
		}
	}
}

// The data key of a record that was opened and moved is the one that its row has.
func TestDataKeysOfMovedRecord(t *testing.T) {
	t.Parallel()
	m := tenantModel(t, kmsencrypted.Version{})
	row := tenantRow{ID: 1, Tenant: "acme", Email: field.New("a@example.org")}
	must(t, m.SealNew(t.Context(), &row))
	m.Adapter().Saved(&row)
	row.Email.SetNull()
	must(t, m.Seal(t.Context(), &row))
	row = readAgain(t, row)
	must(t, m.Open(t.Context(), &row)) // opens no value, and so no key
	row.Tenant = "globex"
	keys, err := m.Adapter().DataKeys(t.Context(), m.Adapter().KeyColumns()[0], &row)
	must(t, err)
	keys[0].Wipe()
	if err := m.Seal(t.Context(), &row); err != nil || !keyIsWritten(t, m, &row) {
		t.Errorf("Seal after DataKeys = %v, want the key column written for the new tenant", err)
	}
}

// Without functions of the program the primary key decides where a key is wrapped.
func TestPlacedByID(t *testing.T) {
	t.Parallel()
	type row struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email"`
	}
	context := func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) { return kmsencrypted.Context{}, nil }
	memory := kmstest.Memory()
	chosen := func(kmsencrypted.Subject, kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
		return memory, nil
	}
	for _, test := range []struct {
		name    string
		version kmsencrypted.Version
		config  field.Config
		column  string
		want    bool
	}{
		{"default", kmsencrypted.Version{Provider: memory}, field.Config{}, "encrypted_kms_key", true},
		{"no key", kmsencrypted.Version{Provider: memory}, field.Config{}, "email", false},
		{"context of the model", kmsencrypted.Version{Provider: memory}, field.Config{Context: context}, "encrypted_kms_key", false},
		{"context of the version", kmsencrypted.Version{Provider: memory, Context: context}, field.Config{}, "encrypted_kms_key", false},
		{"provider for a record", kmsencrypted.Version{ProviderFor: chosen}, field.Config{}, "encrypted_kms_key", false},
	} {
		test.config.Table = "rows"
		m, err := field.NewModel[row](nativeBox(t, test.version), test.config)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if got := m.Adapter().PlacedByID(test.column); got != test.want {
			t.Errorf("%s: PlacedByID(%s) = %t, want %t", test.name, test.column, got, test.want)
		}
	}
}
