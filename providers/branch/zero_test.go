package branch_test

import (
	"path/filepath"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// What nobody set up returns an error instead of a panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	store := newDir(t, branch.Limits{})
	zerotest.Methods(t, (*branch.Provider)(nil), "Rewrap", "CheckVersion")
	zerotest.Methods(t, new(branch.Provider), "Rewrap", "CheckVersion")
	zerotest.Calls(t, map[string]func() error{
		"Open(nil store)": func() error { _, err := branch.Open(t.Context(), nil, kmstest.Box(t), branch.Options{}); return err },
		"Open(nil Box)":   func() error { _, err := branch.Open(t.Context(), store, nil, branch.Options{}); return err },
		"NewSQL(nil)":     func() error { _, err := branch.NewSQL(nil, field.SQLite); return err },
		"NewSQL(dialect)": func() error {
			_, err := branch.NewSQL(openDB(t, "sqlite", ":memory:", field.SQLite, branch.Limits{}), "")
			return err
		},
		"CreateTables": func() error { return branch.CreateTables(t.Context(), nil, field.SQLite, branch.Limits{}) },
		"Tables":       func() error { _, err := branch.Tables("x"); return err },
		"OpenDir":      func() error { _, err := branch.OpenDir(t.TempDir()); return err },
		"OpenReceipts": func() error { _, err := branch.OpenReceipts(filepath.Join(t.TempDir(), "none")); return err },
		"ParseName":    func() error { _, err := branch.ParseName("/a"); return err },
	})
}
