package sqlstore_test

import (
	"database/sql"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// Without a database or a model there is an error and no panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), new(sql.DB) // is not asked
	type row struct{}
	model := new(field.Model[row])
	zerotest.Calls(t, map[string]func() error{
		"New of a nil db":              func() error { _, err := sqlstore.New(ctx, nil, field.SQLite, model, sqlstore.Options{}); return err },
		"New of a nil model":           func() error { _, err := sqlstore.New[row](ctx, db, field.SQLite, nil, sqlstore.Options{}); return err },
		"New of a zero model":          func() error { _, err := sqlstore.New(ctx, db, field.SQLite, model, sqlstore.Options{}); return err },
		"New without a dialect":        func() error { _, err := sqlstore.New(ctx, db, "", model, sqlstore.Options{}); return err },
		"CreateTables(nil)":            func() error { return sqlstore.CreateTables(ctx, nil, field.SQLite) },
		"NewLimiter of a nil db":       func() error { _, err := sqlstore.NewLimiter(ctx, nil, field.SQLite, "kms", 10); return err },
		"NewLimiter without a name":    func() error { _, err := sqlstore.NewLimiter(ctx, db, field.SQLite, "", 10); return err },
		"NewLimiter without a rate":    func() error { _, err := sqlstore.NewLimiter(ctx, db, field.SQLite, "kms", 0); return err },
		"LagCheck of a nil db":         func() error { _, err := sqlstore.LagCheck(nil, field.Postgres, 0); return err },
		"ConnectionsCheck of a nil db": func() error { _, err := sqlstore.ConnectionsCheck(nil, field.Postgres, 1); return err },
		"QueryCheck of a nil db":       func() error { _, err := sqlstore.QueryCheck(nil, "x", "SELECT 1")(ctx); return err },
	})
}
