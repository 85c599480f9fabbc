package rotatecli_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/railsapp"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// The database that a Rails application wrote is rotated by a team's program;
// "manifest VERSION" compares every value with what Rails wrote, $USERS is how many
// users it wrote.
func TestRailsScript(t *testing.T) {
	t.Parallel()
	var manifest vectors.RailsManifest
	vectors.LoadRails(t, "manifest.json", &manifest)
	database := vectors.RailsDatabase(t, "rails.sqlite3")
	native, err := local.Create(filepath.Join(t.TempDir(), "native.key"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/rails",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("NATIVE", native.Info().KeyID)
			e.Setenv("DATABASE", database)
			counts := make(map[string]int)
			for _, row := range manifest.Rows {
				counts[row.Table]++
			}
			for table, n := range counts {
				e.Setenv(strings.ToUpper(table), strconv.Itoa(n))
			}
			keys := manifest
			keys.Rows = nil // an environment has not room for many
			text, err := json.Marshal(keys)
			e.Setenv("MANIFEST", string(text))
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"manifest": func(ts *testscript.TestScript, _ bool, args []string) {
				version, err := strconv.Atoi(args[0])
				ts.Check(err)
				app, err := railsapp.New(manifest, native, version)
				ts.Check(err)
				checkManifest(ts, app, database)
			},
		},
	})
}

// checkManifest also makes sure that all keys are at the version of the program.
func checkManifest(ts *testscript.TestScript, app *railsapp.App, database string) {
	db, err := sqlx.Open("sqlite", database)
	ts.Check(err)
	defer db.Close()
	rows, err := app.Load(context.Background(), db)
	ts.Check(err)
	n, err := app.Check(rows)
	ts.Check(err)
	if n == 0 || n != len(app.Manifest.Rows) {
		ts.Fatalf("%d rows, the manifest has %d", n, len(app.Manifest.Rows))
	}
	var columns []sql.Null[string]
	ts.Check(db.Select(&columns, `SELECT encrypted_kms_key FROM users UNION ALL SELECT encrypted_kms_key_phone FROM users
		UNION ALL SELECT encrypted_kms_key FROM accounts UNION ALL SELECT encrypted_kms_key FROM people UNION ALL SELECT encrypted_kms_key FROM legacy_notes`))
	for _, column := range columns {
		if column.Valid && kmsencrypted.ColumnVersion(column.V) != app.Box.Current() {
			ts.Fatalf("a key at version %d", kmsencrypted.ColumnVersion(column.V))
		}
	}
}

// railsProgram is the team's program.
func railsProgram() {
	current, err := strconv.Atoi(os.Getenv("VERSION"))
	check(err)
	var manifest vectors.RailsManifest
	check(json.Unmarshal([]byte(os.Getenv("MANIFEST")), &manifest))
	native, err := local.Open(os.Getenv("NATIVE")[len("local:"):])
	check(err)
	app, err := railsapp.New(manifest, native, current)
	check(err)
	db, err := sqlx.Open("sqlite", "file:"+os.Getenv("DATABASE")+"?_pragma=busy_timeout(20000)")
	check(err)
	rotatecli.Main(context.Background(), db.DB, app.Users, app.Accounts, app.People, app.Notes)
}
