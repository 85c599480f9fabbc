package sqlstore_test

import (
	"errors"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/railsapp"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func TestRailsBlankSQLite(t *testing.T)   { testRailsBlank(t, sqlite) }
func TestRailsBlankPostgres(t *testing.T) { testRailsBlank(t, postgres) }
func TestRailsBlankMariaDB(t *testing.T)  { testRailsBlank(t, mariadb) }

// Rails stored these rows from a form that was sent with blank fields: the first user has
// no key for its blank phone, the second has no key at all, and neither has the person.
func testRailsBlank(t *testing.T, d database) {
	t.Parallel()
	db := d.open(t)
	native, _ := keys(t, t.TempDir())
	var manifest vectors.RailsManifest
	vectors.LoadRails(t, "manifest.json", &manifest)
	appOf := func(current int) *railsapp.App {
		app, err := railsapp.New(manifest, native, current)
		must(t, err)
		return app
	}
	app := appOf(1)
	constraint := func(c string, err error) string { must(t, err); return c }
	create(t, d, db, app.Users, "id bigint PRIMARY KEY", "name text", "created_at text", "updated_at text", constraint(app.Users.CheckConstraint(d.dialect)))
	create(t, d, db, app.People, "id bigint PRIMARY KEY", "type text", constraint(app.People.CheckConstraint(d.dialect)))
	script, err := os.ReadFile("../testdata/rails/blank_rows.sql")
	must(t, err)
	for statement := range strings.SplitSeq(strings.TrimSpace(string(script)), "\n") {
		_, err := db.Exec(statement)
		must(t, err)
	}
	// What Rails shows: "" for what is blank, nil for what was never set.
	type shown struct{ email, phone, ssn, note *string }
	blank := new("")
	check := func(app *railsapp.App, want ...shown) {
		t.Helper()
		for _, u := range load(t, db, app.Users) {
			want := want[u.ID-1]
			for name, p := range map[string][2]*string{"email": {u.Email.Must(), want.email}, "phone": {u.Phone.Must(), want.phone}, "ssn": {u.SSN.Must(), want.ssn}, "note": {u.Note.Must(), want.note}} {
				if got, want := p[0], p[1]; (got == nil) != (want == nil) || got != nil && *got != *want {
					t.Errorf("user %d: %s differs from what Rails shows", u.ID, name)
				}
			}
		}
		var lazy railsapp.User
		must(t, db.Unsafe().Get(&lazy, "SELECT * FROM users WHERE id = 2"))
		app.Users.OpenLazily(&lazy)
		if ssn, err := lazy.SSN.Plain(t.Context()); err != nil || *ssn != "" {
			t.Errorf("SSN.Plain() = %v, %v", ssn, err)
		}
	}
	check(app, shown{email: new("x@y.z"), phone: blank}, shown{blank, blank, blank, blank})

	// Another version in Ruby's form: blank rows need no key.
	app = appOf(2)
	for _, kind := range []rotation.Kind{rotation.Rewrap, rotation.Rekey} {
		runBlank(t, d, db, app, kind)
		check(app, shown{email: new("x@y.z"), phone: blank}, shown{blank, blank, blank, blank})
		if got := versions(t, db, "people"); !maps.Equal(got, map[int]int{0: 1}) {
			t.Errorf("versions of people after %s = %v", kind, got)
		}
		app = appOf(3)
	}

	// Their first keys.
	u := new(railsapp.User)
	users := "SELECT * FROM users WHERE id = 1"
	must(t, kmssqlx.Get(t.Context(), db.Unsafe(), app.Users, u, users))
	u.Phone.Set(new("+1 555"))
	must(t, kmssqlx.Update(t.Context(), db, app.Users, u))
	check(app, shown{email: new("x@y.z"), phone: new("+1 555")}, shown{blank, blank, blank, blank})
	u.Phone.Set(blank)
	must(t, kmssqlx.Update(t.Context(), db, app.Users, u))
	p := &railsapp.Person{ID: 1}
	must(t, app.People.Adapter().Key("encrypted_kms_key", p).Scan(nil))
	must(t, p.Email.Scan(""))
	must(t, app.People.Adapter().AddKey(t.Context(), "encrypted_kms_key", p))

	// A native version stores no blank value. So a program that did not read a column does
	// not give the row its first key.
	app = appOf(railsapp.Native)
	unread := &railsapp.User{ID: 2}
	unread.SSN.Set(new("1"))
	if err := kmssqlx.Update(t.Context(), db, app.Users, unread); !errors.Is(err, kmsencrypted.ErrConflict) {
		t.Errorf("Update() of a blank row that was not read = %v, want ErrConflict", err)
	}
	must(t, kmssqlx.Get(t.Context(), db.Unsafe(), app.Users, u, "SELECT * FROM users WHERE id = 2"))
	must(t, app.Users.Adapter().AddKey(t.Context(), "encrypted_kms_key_phone", u))
	must(t, kmssqlx.Update(t.Context(), db, app.Users, u))
	runBlank(t, d, db, app, rotation.Rekey)
	check(app, shown{email: new("x@y.z"), phone: blank}, shown{blank, blank, blank, blank})
	if got := versions(t, db, "people"); !maps.Equal(got, map[int]int{railsapp.Native: 1}) {
		t.Errorf("versions of people = %v, want all native", got)
	}
	var left int
	must(t, db.Get(&left, "SELECT count(*) FROM users WHERE email_ciphertext = '' OR phone_ciphertext = '' OR encrypted_ssn = ''"))
	if left > 0 {
		t.Errorf("%d native users with a blank column", left)
	}

	// And back.
	app = appOf(3)
	runBlank(t, d, db, app, rotation.Rekey)
	check(app, shown{email: new("x@y.z"), phone: blank}, shown{blank, blank, blank, blank})

	// A ciphertext without its key is not blank.
	_, err = db.Exec("UPDATE users SET encrypted_kms_key = NULL WHERE id = 1")
	must(t, err)
	err = kmssqlx.Get(t.Context(), db.Unsafe(), app.Users, u, users)
	if !errors.Is(err, kmsencrypted.ErrNoDataKey) {
		t.Errorf("Get() of a ciphertext without its key = %v, want ErrNoDataKey", err)
	}
}

// runBlank rotates and verifies both tables, after which the older versions can be
// retired.
func runBlank(t *testing.T, d database, db *sqlx.DB, app *railsapp.App, kind rotation.Kind) {
	t.Helper()
	runBlankTable(t, rotator(t, d, db, app.Box, app.Users, rotation.Options{Kind: kind}), app)
	runBlankTable(t, rotator(t, d, db, app.Box, app.People, rotation.Options{Kind: kind}), app)
}

func runBlankTable(t *testing.T, r *rotation.Rotator, app *railsapp.App) {
	t.Helper()
	result, err := r.Run(t.Context())
	if failures, _ := r.Failures(t.Context(), 3); err != nil || result.Failed > 0 || !result.Done {
		t.Fatalf("Run() = %+v, %v, %v", result, err, failures)
	}
	v, err := r.Verify(t.Context(), rotation.VerifyOptions{Derived: true, Note: true})
	if err != nil || !v.Clean(app.Box.Current()) {
		t.Fatalf("Verify() = %+v, %v", v, err)
	}
	for _, version := range app.Box.Versions() {
		if version == app.Box.Current() {
			continue
		}
		if retirement, err := r.Retirable(t.Context(), version); err != nil || retirement.Rows > 0 {
			t.Errorf("Retirable(%d) = %+v, %v", version, retirement, err)
		}
	}
}
