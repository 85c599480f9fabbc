package kmssqlx_test

import (
	"context"
	"testing"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/inplace"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// What random programs change in place is in the row after the next write.
func TestInPlaceSQLite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := local.Create(dir + "/keys.txt")
	must(t, err)
	model := func() *field.Model[inplace.Doc] {
		p, err := local.Open(dir + "/keys.txt")
		must(t, err)
		box, err := kmsencrypted.NewBox(p)
		must(t, err)
		m, err := field.NewModel[inplace.Doc](box, field.Config{Table: "docs"})
		must(t, err)
		return m
	}
	db, err := sqlx.Open("sqlite", "file:"+dir+"/test.db?_pragma=synchronous(off)")
	must(t, err)
	defer db.Close()
	_, err = db.Exec(inplace.Schema)
	must(t, err)
	m := model()
	get := func(ctx context.Context, m *field.Model[inplace.Doc], id int64) (d inplace.Doc, err error) {
		err = kmssqlx.Get(ctx, db, m, &d, "SELECT * FROM docs WHERE id = ?", id)
		return d, err
	}
	store := inplace.Store{
		Insert: func(ctx context.Context, d *inplace.Doc) error { return kmssqlx.Insert(ctx, db, m, d) },
		Update: func(ctx context.Context, d *inplace.Doc) error { return kmssqlx.Update(ctx, db, m, d) },
		Rekey:  func(ctx context.Context, d *inplace.Doc) error { return kmssqlx.Rekey(ctx, db, m, d) },
		Read:   func(ctx context.Context, id int64) (inplace.Doc, error) { return get(ctx, m, id) },
		Fresh:  func(ctx context.Context, id int64) (inplace.Doc, error) { return get(ctx, model(), id) },
	}
	for seed := range uint64(300) {
		inplace.Run(t, seed, store)
	}
}
