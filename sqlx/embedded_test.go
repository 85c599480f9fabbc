package kmssqlx_test

import (
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

type Numbered struct {
	ID int64 `db:"id"`
}

type Keyed struct {
	Name  string           `db:"name"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// Structs that are embedded by a pointer are made where it is nil.
func embeddedPointers(t *testing.T, e *env) {
	type row struct {
		*Numbered
		*Keyed
	}
	m := model[row](t, e, oneKey())
	createTable(t, e, m, "id "+e.id+", name varchar(20)")
	all := []row{{Keyed: &Keyed{Name: "Ada", Email: field.New(email(0))}}, {}}
	must(t, kmssqlx.Insert(t.Context(), e.db, m, field.Pointers(all)...))
	all[1].Email.Set(email(1))
	all[1].Name = "Grace"
	must(t, kmssqlx.Update(t.Context(), e.db, m, &all[1], "name"))
	for i, want := range []string{"Ada", "Grace"} {
		var read row
		must(t, kmssqlx.Get(t.Context(), e.db, m, &read, fmt.Sprintf("SELECT * FROM %s WHERE id = %d", e.table, all[i].ID)))
		if read.ID != all[i].ID || read.Name != want || read.Email.Must() != email(i) {
			t.Errorf("record %d: id %d, name %q", i, read.ID, read.Name)
		}
	}
}
