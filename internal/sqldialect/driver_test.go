package sqldialect_test

import (
	"database/sql"
	"slices"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// The usual driver of each database is registered under the name that is known, and
// is recognised by its name and by its type.
func TestDrivers(t *testing.T) {
	t.Parallel()
	for _, d := range []sqldialect.Dialect{sqldialect.Postgres, sqldialect.MySQL, sqldialect.SQLite} {
		name := d.DriverName()
		if !slices.Contains(sql.Drivers(), name) {
			t.Errorf("DriverName() of %s = %q, want one of %q", d, name, sql.Drivers())
			continue
		}
		if got, ok := sqldialect.OfDriverName(name); got != d || !ok {
			t.Errorf("OfDriverName(%q) = %q, %t, want %q", name, got, ok, d)
		}
		db, err := sql.Open(name, "")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if got, ok := sqldialect.OfDriver(db.Driver()); got != d || !ok {
			t.Errorf("OfDriver(%T) = %q, %t, want %q", db.Driver(), got, ok, d)
		}
	}
	for _, name := range []string{"", "sqlserver"} {
		if d, ok := sqldialect.OfDriverName(name); ok {
			t.Errorf("OfDriverName(%q) = %q, want none", name, d)
		}
	}
	if d, ok := sqldialect.OfDriver(nil); ok {
		t.Errorf("OfDriver(nil) = %q, want none", d)
	}
	if name := sqldialect.Dialect("oracle").DriverName(); name != "" {
		t.Errorf("DriverName() of an unknown dialect = %q, want none", name)
	}
}
