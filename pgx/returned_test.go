package kmspgx_test

import (
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

// joined is a record of which the database fills a column.
type joined struct {
	ID    int64            `db:"id"`
	Level int              `db:"level,returned"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// What the database fills is read back, however the record is inserted.
func insertReturnedColumns(t *testing.T, e *env) {
	m := model[joined](t, e, oneKey())
	createTable(t, e, m, identity+", level int DEFAULT 7")
	for how, insert := range map[string]func(rows ...*joined) error{
		"Insert":   func(rows ...*joined) error { return kmspgx.Insert(t.Context(), e.db, m, rows...) },
		"CopyFrom": func(rows ...*joined) error { return kmspgx.CopyFrom(t.Context(), e.db, m, rows...) },
		"Batch": func(rows ...*joined) error {
			var b kmspgx.Batch
			kmspgx.QueueInsert(&b, m, rows...)
			return b.Send(t.Context(), e.db)
		},
	} {
		all := make([]joined, 3)
		for i := range all {
			all[i] = joined{Level: 1, Email: field.New(email(i))}
		}
		must(t, insert(field.Pointers(all)...))
		for i, row := range all {
			if got := one(t, e, m, row.ID); row.Level != 7 || got.Level != 7 || got.Email.Must() != email(i) {
				t.Error(fmt.Sprint(how, " of record ", i, ": level ", row.Level, ", stored ", got.Level))
			}
		}
	}
}
