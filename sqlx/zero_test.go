package kmssqlx_test

import (
	"context"
	"testing"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

type zeroRow struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// A database, a model or a record that is nil returns an error instead of a panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		t.Fatal(err)
	}
	model, err := field.NewModel[zeroRow](box, field.Config{Table: "zero_rows"})
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlx.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	type call = func(context.Context, kmssqlx.Ext, *field.Model[zeroRow], *zeroRow, *[]zeroRow) error
	for verb, do := range map[string]call{
		"Insert": func(ctx context.Context, db kmssqlx.Ext, m *field.Model[zeroRow], row *zeroRow, _ *[]zeroRow) error {
			return kmssqlx.Insert(ctx, db, m, row)
		},
		"Get": func(ctx context.Context, db kmssqlx.Ext, m *field.Model[zeroRow], row *zeroRow, _ *[]zeroRow) error {
			return kmssqlx.Get(ctx, db, m, row, "SELECT * FROM zero_rows")
		},
		"NamedGet": func(ctx context.Context, db kmssqlx.Ext, m *field.Model[zeroRow], row *zeroRow, _ *[]zeroRow) error {
			return kmssqlx.NamedGet(ctx, db, m, row, "SELECT * FROM zero_rows", map[string]any{})
		},
		"Select": func(ctx context.Context, db kmssqlx.Ext, m *field.Model[zeroRow], _ *zeroRow, list *[]zeroRow) error {
			return kmssqlx.Select(ctx, db, m, list, "SELECT * FROM zero_rows")
		},
		"NamedSelect": func(ctx context.Context, db kmssqlx.Ext, m *field.Model[zeroRow], _ *zeroRow, list *[]zeroRow) error {
			return kmssqlx.NamedSelect(ctx, db, m, list, "SELECT * FROM zero_rows", map[string]any{})
		},
		"Update": func(ctx context.Context, db kmssqlx.Ext, m *field.Model[zeroRow], row *zeroRow, _ *[]zeroRow) error {
			return kmssqlx.Update(ctx, db, m, row)
		},
		"Rewrap": func(ctx context.Context, db kmssqlx.Ext, m *field.Model[zeroRow], row *zeroRow, _ *[]zeroRow) error {
			return kmssqlx.Rewrap(ctx, db, m, row)
		},
		"Rekey": func(ctx context.Context, db kmssqlx.Ext, m *field.Model[zeroRow], row *zeroRow, _ *[]zeroRow) error {
			return kmssqlx.Rekey(ctx, db, m, row)
		},
		"Delete": func(ctx context.Context, db kmssqlx.Ext, m *field.Model[zeroRow], row *zeroRow, _ *[]zeroRow) error {
			return kmssqlx.Delete(ctx, db, m, row)
		},
	} {
		zerotest.Calls(t, map[string]func() error{
			verb + " with a nil db":       func() error { return do(t.Context(), nil, model, &zeroRow{}, &[]zeroRow{}) },
			verb + " with a nil *sqlx.DB": func() error { return do(t.Context(), (*sqlx.DB)(nil), model, &zeroRow{}, &[]zeroRow{}) },
			verb + " with a nil *sqlx.Tx": func() error { return do(t.Context(), (*sqlx.Tx)(nil), model, &zeroRow{}, &[]zeroRow{}) },
			verb + " with a nil model":    func() error { return do(t.Context(), db, nil, &zeroRow{}, &[]zeroRow{}) },
			verb + " with a zero model":   func() error { return do(t.Context(), db, new(field.Model[zeroRow]), &zeroRow{}, &[]zeroRow{}) },
			verb + " with a nil record":   func() error { return do(t.Context(), db, model, nil, nil) },
		})
	}
}
