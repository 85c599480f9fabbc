package sqlstore_test

import (
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// tenanted is a record whose encryption context is made of its tenant.
type tenanted struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant" kms:"context"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Note   field.Of[string] `db:"note_ciphertext"`
}

// A rotation moves the records of every tenant and leaves the tenant as it is.
func TestDeclaredContextSQLite(t *testing.T) {
	t.Parallel()
	dir, db := t.TempDir(), sqlite.open(t)
	a, b := keys(t, dir)
	boxAt := func(current int) *kmsencrypted.Box {
		tenant := func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"tenant": s.Record.(*tenanted).Tenant}, nil
		}
		box, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: a, Context: tenant}, 2: {Provider: b, Context: tenant}, 3: {Provider: a, Context: tenant}}}.Box()
		must(t, err)
		return box
	}
	m := model[tenanted](t, boxAt(1), "tenanteds")
	create(t, sqlite, db, m, "id bigint PRIMARY KEY", "tenant varchar(20)")
	const n = 20
	rows := make([]tenanted, n)
	for i := range rows {
		rows[i] = tenanted{ID: int64(i + 1), Tenant: fmt.Sprint("t", i%3), Note: field.New(fmt.Sprint("note", i))}
	}
	insert(t, db, m, field.Pointers(rows), "tenant")
	for kind, version := range map[rotation.Kind]int{rotation.Rewrap: 2, rotation.Rekey: 3} {
		box := boxAt(version)
		m := model[tenanted](t, box, "tenanteds")
		result, err := rotator(t, sqlite, db, box, m, rotation.Options{Kind: kind}).Run(t.Context())
		must(t, err)
		if result.Outcome != (rotation.Outcome{Written: n}) || !result.Done {
			t.Errorf("%s: %+v", kind, result)
		}
		for i, row := range load(t, db, m) {
			if row.Tenant != rows[i].Tenant || row.Note.Must() != fmt.Sprint("note", i) {
				t.Errorf("%s: record %d is of tenant %s", kind, row.ID, row.Tenant)
			}
		}
	}
}
