package kmssqlx_test

import (
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// tenantColumns are types whose comparison takes some texts for others.
var tenantColumns = map[field.Dialect][]string{
	field.MySQL:    {"varchar(20)", "char(20)", "varchar(20) CHARACTER SET latin1", "varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "varbinary(20)"},
	field.Postgres: {"varchar(20)", "citext", "text COLLATE anycase"},
	field.SQLite:   {"text COLLATE NOCASE", "text COLLATE RTRIM"},
}

// tenantsAreTexts: a record that was read for one tenant is not written for another
// whose name only the collation of its column takes for the same.
func tenantsAreTexts(t *testing.T, e *env) {
	if e.dialect == field.Postgres {
		e.db.MustExec("CREATE EXTENSION citext")
		e.db.MustExec("CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
	}
	for i, column := range tenantColumns[e.dialect] {
		t.Run(column, func(t *testing.T) {
			at := *e
			at.table += "_" + string(rune('a'+i))
			d := at.documentsIn(t, false, column)
			doc := document{Tenant: "á", Title: "first", Body: field.New("body")}
			must(t, kmssqlx.Insert(t.Context(), e.db, d.Model, &doc))
			doc.Body.Set("another")
			must(t, kmssqlx.Update(t.Context(), e.db, d.Model, &doc, "title"))
			for _, other := range []string{"Á", "a", "á "} {
				var closed document // as a program reads it that does not open it
				must(t, sqlx.Get(e.db, &closed, e.db.Rebind("SELECT * FROM "+d.Table()+" WHERE id = ?"), doc.ID))
				closed.Tenant = other
				wantError(t, "Update for "+other, kmssqlx.Update(t.Context(), e.db, d.Model, &closed, "*"), kmsencrypted.ErrConflict)
			}
			var again document
			must(t, kmssqlx.Get(t.Context(), e.db, d.Model, &again, "SELECT * FROM "+d.Table()))
			again.Tenant = "A"
			must(t, kmssqlx.Update(t.Context(), e.db, d.Model, &again, "*"))
			must(t, kmssqlx.Get(t.Context(), e.db, d.Model, &again, "SELECT * FROM "+d.Table()))
			if again.Tenant != "A" || again.Body.Must() != "another" {
				t.Errorf("the record of %q after its move to A", again.Tenant)
			}
		})
	}
}
