package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// behindPgBouncer is PostgreSQL behind a PgBouncer in transaction mode, in the modes of
// pgx that docs/database.md names.
func behindPgBouncer(mode string) database {
	d := postgres
	d.dsn = func(t testing.TB) string { return dbserver.PgBouncer(t) + "&default_query_exec_mode=" + mode }
	return d
}

func TestStorePgBouncer(t *testing.T) { testStore(t, behindPgBouncer("exec")) }
func TestRacePgBouncer(t *testing.T)  { testRace(t, behindPgBouncer("simple_protocol")) }

// In the default mode of pgx a rotation stops with what to set, and waits for nothing.
// With it set, the same rotation goes on.
func TestPgBouncerDefaultMode(t *testing.T) {
	t.Parallel()
	const n = 600
	dir, dsn := t.TempDir(), dbserver.PgBouncer(t)
	right, wrong := postgres.connect(t, dsn+"&default_query_exec_mode=exec"), postgres.connect(t, dsn)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, postgres, right, old, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, right, old, people)
	b := box(t, dir, 2)
	m := model[person](t, b, "people")
	of := func(db *sqlx.DB) (*rotation.Rotator, error) {
		s, err := sqlstore.New(t.Context(), db.DB, field.Postgres, m, sqlstore.Options{})
		if err != nil {
			return nil, err
		}
		return rotation.New(b, s, rotation.Options{BatchSize: 10, Workers: 8, Shards: 16, Limit: 20, Lease: time.Second})
	}
	must(t, sqlstore.CreateTables(t.Context(), right.DB, field.Postgres))
	refused := make(map[string]int)
	for try := 0; refused["run"] < 3; try++ {
		if try == 100 {
			t.Fatalf("PgBouncer refused %v, so that this test shows nothing", refused)
		}
		// What the servers behind PgBouncer have prepared is refused when a store is opened.
		forgetPrepared(t, right)
		op := "open"
		r, err := of(wrong)
		if err == nil {
			op = "run"
			_, err = r.Run(t.Context())
		}
		if err == nil {
			op = "verify"
			_, err = r.Verify(t.Context(), rotation.VerifyOptions{})
		}
		if err == nil {
			continue
		}
		refused[op]++
		if !strings.Contains(err.Error(), "set default_query_exec_mode to exec or simple_protocol") || errors.Is(err, rotation.ErrDatabaseAway) {
			t.Errorf("%s: %v, want what to set", op, err)
		}
	}
	t.Logf("refused: %v", refused)
	r, err := of(right)
	must(t, err)
	for done := false; !done; {
		result, err := r.Run(t.Context())
		must(t, err)
		done = result.Done
	}
	if v, err := r.Verify(t.Context(), rotation.VerifyOptions{}); err != nil || v.Opened != n || !v.Clean(2) {
		t.Errorf("Verify() = %+v, %v", v, err)
	}
}

// forgetPrepared drops the prepared statements of some servers behind PgBouncer. Each
// transaction has a server of its own.
func forgetPrepared(t *testing.T, db *sqlx.DB) {
	t.Helper()
	const servers = 8 // of the 20 in the pool; a rotation may hold others
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range servers {
		tx, err := db.BeginTxx(ctx, nil)
		must(t, err)
		defer tx.Rollback()
		_, err = tx.ExecContext(ctx, "DEALLOCATE ALL")
		must(t, err)
	}
}
