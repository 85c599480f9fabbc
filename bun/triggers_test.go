package kmsbun_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
)

type watched struct {
	ID    int64            `bun:"id,pk,autoincrement" db:"id"`
	Title string           `bun:"title" db:"title"`
	Key   field.Key        `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
	Card  field.Of[string] `bun:"card" db:"card"`
}

// MariaDB and MySQL do not say of a table with triggers whether an UPDATE that changes
// nothing found a row, such as bun's own one if only encrypted columns are written.
func TestUpdateBesideTriggers(t *testing.T) {
	onServers(t, func(t *testing.T, s server) {
		st := storeOf[watched](t, s, "watcheds", oneKey(), "id "+s.autoID, "title varchar(20)")
		if s.dialect == field.MySQL {
			_, err := s.raw.Exec("CREATE TRIGGER touch BEFORE UPDATE ON watcheds FOR EACH ROW SET NEW.title = lower(NEW.title)")
			must(t, err)
		}
		row := &watched{Title: "a", Card: field.New(mail(0))}
		_, err := st.db.NewInsert().Model(row).Exec(t.Context())
		must(t, err)
		for i := range 3 {
			row.Card.Set(mail(i))
			r, err := st.db.NewUpdate().Model(row).WherePK().Exec(t.Context())
			must(t, err)
			if n, _ := r.RowsAffected(); n != 1 {
				t.Errorf("update %d: %d rows", i, n)
			}
			now := &watched{ID: row.ID}
			must(t, st.db.NewSelect().Model(now).WherePK().Scan(t.Context()))
			if now.Card.Must() != mail(i) {
				t.Errorf("update %d is lost", i)
			}
		}
		row.Card.Set(mail(9))
		r, err := st.db.NewUpdate().Model(row).WherePK().Where("title = ?", "other").Exec(t.Context())
		must(t, err)
		if n, _ := r.RowsAffected(); n != 0 {
			t.Errorf("an update whose condition does not hold: %d rows", n)
		}
	})
}
