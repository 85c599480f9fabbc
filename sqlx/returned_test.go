package kmssqlx_test

import (
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// joined is a record of which the database fills a column.
type joined struct {
	ID    int64            `db:"id"`
	Name  string           `db:"name"`
	Level int              `db:"level,returned"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// What the database fills is read back, and never written.
func insertReturnedColumns(t *testing.T, e *env) {
	m := model[joined](t, e, oneKey())
	createTable(t, e, m, "id "+e.id+", name varchar(20), level int DEFAULT 7")
	for _, n := range []int{1, 3} {
		all := make([]joined, n)
		for i := range all {
			all[i] = joined{Name: fmt.Sprint("nomen", i), Level: 1, Email: field.New(email(i))}
		}
		must(t, kmssqlx.Insert(t.Context(), e.db, m, field.Pointers(all)...))
		for i, row := range all {
			if row.Level != 7 {
				t.Errorf("record %d of %d: level %d, want the default of the column", i, n, row.Level)
			}
		}
		e.db.MustExec(fmt.Sprintf("UPDATE %s SET level = 8 WHERE id = %d", e.table, all[0].ID))
		all[0].Name = "other"
		must(t, kmssqlx.Update(t.Context(), e.db, m, &all[0], "*"))
		var read joined
		must(t, kmssqlx.Get(t.Context(), e.db, m, &read, fmt.Sprintf("SELECT * FROM %s WHERE id = %d", e.table, all[0].ID)))
		if read.Level != 8 || read.Name != "other" || read.Email.Must() != email(0) {
			t.Errorf("after an update: level %d, name %q", read.Level, read.Name)
		}
	}
}

// The rows are found also where the database spells an id in another way, which
// nothing depends on.
func insertReturnedColumnsOfSpelledIDs(t *testing.T, e *env) {
	type numbered struct {
		ID    string           `db:"id"`
		Level int              `db:"level,returned"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext"`
	}
	unbound := oneKey()
	v := unbound.Versions[1]
	v.OmitID = true
	v.Context = func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"table": "numbered"}, nil
	}
	unbound.Versions[1] = v
	m := model[numbered](t, e, unbound)
	createTable(t, e, m, "id integer PRIMARY KEY, level int DEFAULT 7")
	for _, ids := range [][]string{{"007"}, {"008", "9", "010"}} {
		all := make([]numbered, len(ids))
		for i, id := range ids {
			all[i] = numbered{ID: id, Email: field.New(email(i))}
		}
		must(t, kmssqlx.Insert(t.Context(), e.db, m, field.Pointers(all)...))
		for _, row := range all {
			if row.Level != 7 {
				t.Errorf("id %s: level %d, want the default of the column", row.ID, row.Level)
			}
		}
	}
}

func oneKey() kmsencrypted.Config {
	return kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}}}
}
