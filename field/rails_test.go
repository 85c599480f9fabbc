package field_test

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/railsapp"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

func openRails(t *testing.T) *sqlx.DB {
	t.Helper()
	db, err := sqlx.Open("sqlite", vectors.RailsDatabase(t, "rails.sqlite3"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db.Unsafe() // the tables have columns that the structs do not
}

// selectAll reads and opens a table.
func selectAll[R any](t *testing.T, db *sqlx.DB, m *field.Model[R]) []R {
	t.Helper()
	var rows []R
	must(t, db.SelectContext(t.Context(), &rows, "SELECT * FROM "+m.Table()+" ORDER BY id"))
	must(t, m.Open(t.Context(), field.Pointers(rows)...))
	return rows
}

// railsApp is the application on a database of its own; current is what it writes.
func railsApp(t *testing.T, current int) (*railsapp.App, *sqlx.DB) {
	t.Helper()
	var manifest vectors.RailsManifest
	vectors.LoadRails(t, "manifest.json", &manifest)
	native, err := local.Create(t.TempDir() + "/keys.txt")
	must(t, err)
	app, err := railsapp.New(manifest, native, current)
	must(t, err)
	return app, openRails(t)
}

func loadRails(t *testing.T, app *railsapp.App, db *sqlx.DB) railsapp.Rows {
	t.Helper()
	rows, err := app.Load(t.Context(), db)
	must(t, err)
	return rows
}

func checkRails(t *testing.T, app *railsapp.App, rows railsapp.Rows) {
	t.Helper()
	n, err := app.Check(rows)
	if err != nil {
		t.Error(err)
	}
	vectors.Ran(t, "manifest.json", n)
}

func plainOf(t *testing.T, v reflect.Value) any {
	t.Helper()
	got, err := vectors.RailsPlain(v)
	if err != nil {
		t.Error(err)
	}
	return got
}

// Every value that Rails wrote is read as what the manifest says.
func TestRailsValues(t *testing.T) {
	t.Parallel()
	app, db := railsApp(t, 1)
	checkRails(t, app, loadRails(t, app, db))
}

// Every look-up by a blind index that Rails answers finds the record here too.
func TestRailsFind(t *testing.T) {
	t.Parallel()
	app, db := railsApp(t, 1)
	found := 0
	for _, row := range app.Manifest.Rows {
		for index, value := range row.Find {
			var text *string // null finds NULL
			if value.Type != "nil" {
				must(t, json.Unmarshal(value.V, &text))
			}
			var lookup field.Lookup
			switch row.Table {
			case "users":
				lookup = app.Users.Lookup(index+"_bidx", text)
			case "accounts":
				lookup = app.Accounts.Lookup(index+"_bidx", text)
			default:
				t.Fatalf("a look-up in %s", row.Table)
			}
			must(t, lookup.Err())
			var ids []int64
			query := "SELECT id FROM " + row.Table + " WHERE " + lookup.Name
			if lookup.Null {
				query += " IS NULL"
			} else {
				query += " = ?"
			}
			must(t, db.SelectContext(t.Context(), &ids, query, lookup.Args()...))
			if !slices.Contains(ids, row.ID) {
				t.Errorf("%s by %s: found %v, want %d among them", row.Table, index, ids, row.ID)
			}
			found++
		}
	}
	vectors.Ran(t, "manifest.json", found)
}

// Values written back are, where the form is deterministic, byte for byte what
// Rails wrote, and elsewhere of the same shape: strict base64 for Lockbox, lines
// of 60 for attr_encrypted, NULL and empty where Rails has them.
func TestRailsWriteBack(t *testing.T) {
	t.Parallel()
	app, db := railsApp(t, 1)
	writeBack(t, db, app.Users)
	writeBack(t, db, app.Accounts)
	writeBack(t, db, app.People)
	writeBack(t, db, app.Notes)
	checkRails(t, app, loadRails(t, app, db))
}

// Rails leaves the iv of a value that it emptied. A rewrap changes key columns
// and nothing else there too.
func TestRailsRewrapOfAnEmptiedValue(t *testing.T) {
	t.Parallel()
	app, db := railsApp(t, 2)
	_, err := db.ExecContext(t.Context(), "UPDATE users SET encrypted_ssn = NULL, encrypted_pin = ''")
	must(t, err)
	rows := selectAll(t, db, app.Users)
	must(t, app.Users.Rewrap(t.Context(), field.Pointers(rows)...))
	for i := range rows {
		w, err := app.Users.Adapter().Write(&rows[i])
		must(t, err)
		for _, a := range w.Set {
			if !strings.HasPrefix(a.Column, "encrypted_kms_key") {
				t.Errorf("users %d: a rewrap writes %s", rows[i].ID, a.Column)
			}
		}
	}
}

// writeBack sets every value of a table to itself and writes it.
func writeBack[R any](t *testing.T, db *sqlx.DB, m *field.Model[R]) {
	t.Helper()
	before, after := selectAll(t, db, m), selectAll(t, db, m)
	for i := range after {
		id := reflect.ValueOf(after[i]).FieldByName("ID").Int()
		row := fmt.Sprintf("%s %d", m.Table(), id)
		setAll(t, &after[i])
		must(t, m.Seal(t.Context(), &after[i]))
		sameShape(t, row, &before[i], &after[i])
		w, err := m.Adapter().Write(&after[i])
		must(t, err)
		for _, a := range w.Set {
			if strings.HasSuffix(a.Column, "_bidx") || strings.Contains(a.Column, "_bidx_") {
				var rails sql.Null[string]
				must(t, db.GetContext(t.Context(), &rails, "SELECT "+a.Column+" FROM "+m.Table()+" WHERE id = ?", id))
				if ours, _ := a.Value.(string); ours != rails.V {
					t.Errorf("%s: index %s differs from what Rails computed", row, a.Column)
				}
			}
			_, err := db.ExecContext(t.Context(), "UPDATE "+m.Table()+" SET "+a.Column+" = ? WHERE id = ?", a.Value, id)
			must(t, err)
		}
	}
}

// setAll sets every field to the value that it has.
func setAll(t *testing.T, row any) {
	t.Helper()
	v := reflect.ValueOf(row).Elem()
	for i := range v.NumField() {
		f := v.Field(i).Addr()
		set := f.MethodByName("Set")
		if !set.IsValid() {
			continue
		}
		out := f.MethodByName("Get").Call(nil)
		if err, _ := out[1].Interface().(error); err != nil {
			t.Fatal(err)
		}
		set.Call(out[:1])
	}
}

var (
	strictBase64 = regexp.MustCompile(`^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$`)
	linesOf60    = regexp.MustCompile(`^(?:[A-Za-z0-9+/]{60}\n)*(?:[A-Za-z0-9+/=]{1,60}\n)?$`)
)

// sameShape compares the columns of a row as Rails wrote them and as we did.
func sameShape(t *testing.T, row string, rails, ours any) {
	t.Helper()
	v, w := reflect.ValueOf(rails).Elem(), reflect.ValueOf(ours).Elem()
	for i := range v.NumField() {
		a, ok := v.Field(i).Interface().(driver.Valuer)
		if !ok {
			continue
		}
		name := v.Type().Field(i).Name
		before, after := column(t, a), column(t, w.Field(i).Interface().(driver.Valuer))
		if value, isPart := strings.CutSuffix(name, "IV"); isPart && after == nil {
			if of := column(t, v.FieldByName(value).Interface().(driver.Valuer)); of == nil || of == "" {
				continue // Rails leaves the iv of the value that it emptied
			}
		}
		if (before == nil) != (after == nil) {
			t.Errorf("%s %s: %v, Rails has %v", row, name, after, before)
			continue
		}
		text, isText := after.(string)
		if !isText {
			continue
		}
		shape := strictBase64
		switch {
		case strings.HasPrefix(name, "SSN"), strings.HasPrefix(name, "PIN"):
			shape = linesOf60
			text = strings.TrimPrefix(text, "_")
		case strings.HasSuffix(name, "Key"):
			continue
		}
		if !shape.MatchString(text) {
			t.Errorf("%s %s: %q has not Ruby's shape", row, name, text)
		}
		if len(text) != len(strings.TrimPrefix(before.(string), "_")) && name != "Settings" && name != "Tags" && name != "Profile" {
			t.Errorf("%s %s: %d characters, Rails has %d", row, name, len(text), len(before.(string)))
		}
	}
}

// The rows move to the native format and back to Ruby's, and every value of the
// manifest is still there.
func TestRailsRekeyThereAndBack(t *testing.T) {
	t.Parallel()
	there, db := railsApp(t, railsapp.Native)
	back, err := railsapp.New(there.Manifest, there.Native, 1)
	must(t, err)
	rows := loadRails(t, there, db)
	must(t, there.Rekey(t.Context(), rows))
	for _, u := range rows.Users {
		if v, ok := u.Key.Version(); !ok || v != railsapp.Native {
			t.Fatalf("users %d: version %d after the rekey", u.ID, v)
		}
		if text, ok := column(t, u.Email).(string); ok && !strings.HasPrefix(text, "w") {
			t.Errorf("users %d: email %.8q is not native", u.ID, text)
		}
	}
	must(t, back.Rekey(t.Context(), rows))
	checkRails(t, back, rows)
}
