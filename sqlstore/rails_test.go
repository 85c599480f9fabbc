package sqlstore_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/railsapp"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// railsEmail knows one of the columns only.
type railsEmail struct {
	ID    int64             `db:"id"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Email field.Of[*string] `db:"email_ciphertext" kms:"lockbox"`
}

// Rows of Rails are rewrapped in Ruby's form, rekeyed to the native one and back;
// every value and every blind index is unchanged.
func TestRailsSQLite(t *testing.T) {
	t.Parallel()
	var manifest vectors.RailsManifest
	vectors.LoadRails(t, "manifest.json", &manifest)
	native, _ := keys(t, t.TempDir())
	appOf := func(current int) *railsapp.App {
		app, err := railsapp.New(manifest, native, current)
		must(t, err)
		return app
	}
	db := sqlite.connect(t, "file:"+vectors.RailsDatabase(t, "rails.sqlite3")+"?_pragma=busy_timeout(20000)")

	to := appOf(railsapp.Native)
	stranger, err := field.NewModel[railsEmail](to.Box, field.Config{Table: "users", Name: "User"})
	must(t, err)
	_, err = rotator(t, sqlite, db, to.Box, stranger, rotation.Options{Kind: rotation.Rekey}).Run(t.Context())
	if !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Fatalf("Run() of a model that lacks columns = %v, want ErrConfig", err)
	}

	indexes := railsIndexes(t, db)
	for _, step := range []struct {
		version int
		kind    rotation.Kind
	}{{2, rotation.Rewrap}, {railsapp.Native, rotation.Rekey}, {3, rotation.Rekey}} {
		app := appOf(step.version)
		rows, err := app.Load(t.Context(), db)
		must(t, err)
		rotateRails(t, db, app.Box, app.Users, step.kind, len(rows.Users))
		rotateRails(t, db, app.Box, app.Accounts, step.kind, len(rows.Accounts))
		rotateRails(t, db, app.Box, app.People, step.kind, len(rows.People))
		rotateRails(t, db, app.Box, app.Notes, step.kind, len(rows.Notes))
		rows, err = app.Load(t.Context(), db)
		must(t, err)
		n, err := app.Check(rows)
		if err != nil {
			t.Errorf("after %s to %d: %v", step.kind, step.version, err)
		}
		vectors.Ran(t, "manifest.json", n)
		if now := railsIndexes(t, db); !slices.Equal(now, indexes) {
			t.Errorf("indexes after %s to %d = %v, want %v", step.kind, step.version, now, indexes)
		}
	}
}

// rotateRails moves those of n rows of a table that are not at the version yet.
func rotateRails[R any](t *testing.T, db *sqlx.DB, b *kmsencrypted.Box, m *field.Model[R], kind rotation.Kind, n int) {
	t.Helper()
	to, left := b.Current(), n-versions(t, db, m.Table())[b.Current()]
	r := rotator(t, sqlite, db, b, m, rotation.Options{Kind: kind, BatchSize: 7, Workers: 2})
	if to == railsapp.Native {
		_, err := rotator(t, sqlite, db, b, m, rotation.Options{}).Run(t.Context())
		if !errors.Is(err, kmsencrypted.ErrNeedsRekey) {
			t.Errorf("rewrap of %s to another format = %v, want ErrNeedsRekey", m.Table(), err)
		}
	}
	result, err := r.Run(t.Context())
	must(t, err)
	if result.Written != int64(left) || result.Failed != 0 || !result.Done {
		failures, _ := r.Failures(t.Context(), 3)
		t.Fatalf("%s of %s to %d = %+v, want %d written; %v", kind, m.Table(), to, result, left, failures)
	}
	if got := versions(t, db, m.Table()); !maps.Equal(got, map[int]int{to: n}) {
		t.Errorf("versions of %s after %s = %v", m.Table(), kind, got)
	}
}

// railsIndexes are what the blind indexes of all rows hold.
func railsIndexes(t *testing.T, db *sqlx.DB) (all []string) {
	t.Helper()
	must(t, db.Select(&all, `SELECT concat(email_bidx, ' ', email_ci_bidx, ' ', phone_bidx, ' ', phone_last4_bidx) FROM users`))
	var accounts []string
	must(t, db.Select(&accounts, `SELECT concat(iban_bidx, ' ', iban_bidx_v2) FROM accounts`))
	return append(all, accounts...)
}
