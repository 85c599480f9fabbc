package field_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

type tenantRow struct {
	ID     int64            `db:"id" kms:"id"`
	Tenant string           `db:"tenant" kms:"context"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Email  field.Of[string] `db:"email_ciphertext"`
}

// TestNativeKeyOfEachTenant: a column of the record chooses the key, whatever
// the context is.
func TestNativeKeyOfEachTenant(t *testing.T) {
	t.Parallel()
	services := make(map[string]*kmstest.Service)
	for _, tenant := range []string{"acme", "globex"} {
		p, err := local.Create(filepath.Join(t.TempDir(), tenant))
		if err != nil {
			t.Fatal(err)
		}
		services[tenant] = kmstest.NewService(p)
	}
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{
		1: {ProviderFor: func(s kmsencrypted.Subject, ec kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
			row, ok := s.Record.(*tenantRow)
			if !ok || s.Model != "rows" || s.Version != 1 || len(s.ID) != 1 || ec.Absent() {
				t.Errorf("asked about %+v under %v", s, ec)
			}
			return services[row.Tenant].Provider(), nil
		}},
	}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	m, err := field.NewModel[tenantRow](box, field.Config{Table: "rows"})
	if err != nil {
		t.Fatal(err)
	}
	rows := []tenantRow{
		{ID: 1, Tenant: "acme", Email: field.New("a@example.org")},
		{ID: 2, Tenant: "globex", Email: field.New("g@example.org")},
	}
	if err := m.Seal(t.Context(), field.Pointers(rows)...); err != nil {
		t.Fatal(err)
	}
	for tenant, s := range services {
		if n := s.Count(kmsencrypted.OpWrap); n != 1 {
			t.Errorf("%s's key wraps %d times, want once", tenant, n)
		}
	}
	rows[0], rows[1] = readAgain(t, rows[0]), readAgain(t, rows[1])
	services["acme"].Set(kmstest.Revoke(1))
	failed, ok := errors.AsType[field.Failures](m.Open(t.Context(), field.Pointers(rows)...))
	if !ok || len(failed) != 1 || failed[0].Index != 0 || !errors.Is(failed[0].Err, kmsencrypted.ErrDenied) {
		t.Errorf("Open without permission for acme's key: %v, want a failure of the first alone", failed)
	}
	if email, err := rows[1].Email.Get(); err != nil || email != "g@example.org" {
		t.Errorf("globex's email = %q, %v", email, err)
	}
	services["acme"].Set()

	// A record that moves is opened under the old key and sealed under the new.
	if err := m.Open(t.Context(), &rows[0]); err != nil {
		t.Fatal(err)
	}
	rows[0].Tenant = "globex"
	if err := m.Rekey(t.Context(), &rows[0]); err != nil {
		t.Fatal(err)
	}
	moved := readAgain(t, rows[0])
	services["acme"].Set(kmstest.Unavailable(1))
	if err := m.Open(t.Context(), &moved); err != nil {
		t.Errorf("a record that moved still needs its old key: %v", err)
	}
}

// readAgain is the record as it comes out of the database.
func readAgain(t *testing.T, row tenantRow) tenantRow {
	t.Helper()
	read := tenantRow{ID: row.ID, Tenant: row.Tenant}
	key, err := row.Key.Value()
	if err == nil {
		err = read.Key.Scan(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	email, err := row.Email.Value()
	if err == nil {
		err = read.Email.Scan(email)
	}
	if err != nil {
		t.Fatal(err)
	}
	return read
}
