package kmsbun_test

import (
	"fmt"
	"testing"

	"github.com/uptrace/bun"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// moving is a table whose column city becomes an encrypted one. Not all that is written
// there is secret yet, so the canary's text is not.
type moving struct {
	bun.BaseModel `bun:"table:moving"`
	ID            int64             `bun:",pk,autoincrement" db:"id"`
	Name          string            `db:"name"`
	OldCity       *string           `bun:"city" db:"city"`
	Key           field.Key         `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
	City          field.Of[*string] `bun:"city_ciphertext" db:"city_ciphertext" kms:"migrating=OldCity"`
	Index         field.Index       `bun:"city_bidx" db:"city_bidx" kms:"of=City,algorithm=hmac_sha256"`
}

// While a column replaces another, what the program sets goes into both, and what is
// only taken over goes into the new one.
func TestMigrating(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		m := storeOf[moving](t, s, "moving", oneKey(), "id "+s.autoID, "name varchar(20)", "city varchar(40)")
		want := func(what string, id int64, old, city string) {
			t.Helper()
			var plain string
			must(t, s.raw.QueryRow(fmt.Sprint("SELECT city FROM moving WHERE id = ", id)).Scan(&plain))
			if got := m.byID(t, id); plain != old || *got.City.Must() != city {
				t.Errorf("%s: the columns hold %s %s, want %s %s", what, plain, *got.City.Must(), old, city)
			}
		}
		update := func(what string, row *moving, columns ...string) {
			t.Helper()
			q := m.db.NewUpdate().Model(row).WherePK()
			if columns != nil {
				q.Column(columns...)
			}
			_, err := q.Exec(t.Context())
			must(t, err)
		}
		_, err := s.raw.Exec("INSERT INTO moving (name, city) VALUES ('x', 'Paris')")
		must(t, err)
		var row moving
		must(t, m.db.NewSelect().Model(&row).Scan(t.Context()))
		want("an old row", row.ID, "Paris", "Paris")
		row.Name = "y"
		update("filled", &row)
		want("filled", row.ID, "Paris", "Paris")
		if !m.m.Migrated(&row) {
			t.Error("a filled row is not migrated")
		}
		// Another program writes the old column: a plain change here does not undo it.
		stale := m.byID(t, row.ID)
		_, err = s.raw.Exec("UPDATE moving SET city = 'Rome'")
		must(t, err)
		stale.Name = "z"
		update("a plain column", stale)
		want("beside an old release", row.ID, "Rome", "Rome")
		fresh := m.byID(t, row.ID)
		fresh.City.Set(new("Oslo"))
		update("the new column", fresh)
		want("the new column", row.ID, "Oslo", "Oslo")
		fresh = m.byID(t, row.ID)
		fresh.OldCity = new("Bern")
		update("the old column", fresh, "city")
		want("the old column", row.ID, "Bern", "Bern")
		both := moving{Name: "new", City: field.New(new("Kyiv"))}
		_, err = m.db.NewInsert().Model(&both).Exec(t.Context())
		must(t, err)
		want("inserted", both.ID, "Kyiv", "Kyiv")
		old := moving{Name: "new", OldCity: new("Lima")}
		_, err = m.db.NewInsert().Model(&old).Exec(t.Context())
		must(t, err)
		want("inserted by the old column", old.ID, "Lima", "Lima")
		_, err = m.db.NewUpdate().Model((*moving)(nil)).Set("city = 'x'").Where("id > 0").Exec(t.Context())
		wantError(t, "Set of the old column", err, kmsencrypted.ErrUnsealed)
		wantError(t, "the new column alone", m.db.NewSelect().Model(new(moving)).Column("id", "encrypted_kms_key", "city_ciphertext").Scan(t.Context()), kmsencrypted.ErrNotLoaded)
	})
}
