package audit_test

import (
	"database/sql"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
)

// Without a database or an entry there is an error and no panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	ctx, entry := t.Context(), audit.Entry{Viewer: "u", Table: "t", ID: "1", Fields: []string{"F"}}
	zerotest.Calls(t, map[string]func() error{
		"CreateTables(nil)":         func() error { return audit.CreateTables(ctx, nil, field.SQLite) },
		"CreateTables(no dialect)":  func() error { return audit.CreateTables(ctx, new(sql.DB), "") },
		"Tables(no dialect)":        func() error { _, err := audit.Tables(""); return err },
		"Log(nil)":                  func() error { return audit.Log(ctx, nil, field.SQLite, entry) },
		"Log(nil *sql.DB)":          func() error { return audit.Log(ctx, (*sql.DB)(nil), field.SQLite, entry) },
		"Log(nil *sql.Tx), nothing": func() error { return audit.Log(ctx, (*sql.Tx)(nil), field.SQLite) },
		"Log of a zero entry":       func() error { return audit.Log(ctx, new(sql.DB), field.SQLite, audit.Entry{}) },
	})
}
