package sqlstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// A replica says nothing of the latest rows: it is refused, and opened only on request.
func TestReplicaPostgres(t *testing.T) {
	t.Parallel()
	primaryDSN, replicaDSN, stop := dbserver.PostgresReplica(t)
	primary, replica := postgres.connect(t, primaryDSN), postgres.connect(t, replicaDSN)
	dir := t.TempDir()
	old := model[person](t, box(t, dir, 1), "people")
	create(t, postgres, primary, old, "id bigint PRIMARY KEY")
	const n = 50
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New("e")}
	}
	insert(t, primary, old, people)
	b := box(t, dir, 2)
	m := model[person](t, b, "people")
	of := func(db *sqlx.DB) *rotation.Rotator {
		s, err := sqlstore.New(t.Context(), db.DB, field.Postgres, m, sqlstore.Options{})
		must(t, err)
		r, err := rotation.New(b, s, rotation.Options{})
		must(t, err)
		return r
	}
	must(t, sqlstore.CreateTables(t.Context(), primary.DB, field.Postgres))
	if result, err := of(primary).Run(t.Context()); err != nil || result.Written != n {
		t.Fatalf("Run() on the primary = %+v, %v", result, err)
	}
	waitForReplica(t, primary)
	r := of(replica)
	plan, err := r.Plan(t.Context())
	if err != nil || !errors.Is(plan.Refused, kmsencrypted.ErrConfig) || !strings.Contains(plan.Refused.Error(), "replica") {
		t.Errorf("Plan() on a replica = %+v, %v", plan, err)
	}
	if _, err := r.Run(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Run() on a replica = %v, want ErrConfig", err)
	}
	if _, err := r.Verify(t.Context(), rotation.VerifyOptions{}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Verify() on a replica = %v, want ErrConfig", err)
	}
	if v, err := r.Verify(t.Context(), rotation.VerifyOptions{OnReplica: true, Note: true}); err != nil || v.Opened != n || !v.Clean(2) {
		t.Errorf("Verify(OnReplica) = %+v, %v", v, err)
	}
	if _, err := r.Retirable(t.Context(), 1); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Retirable() on a replica = %v, want ErrConfig", err)
	}

	check, err := sqlstore.LagCheck(primary.DB, field.Postgres, time.Second)
	must(t, err)
	if reason, err := check(t.Context()); reason != "" || err != nil {
		t.Errorf("lag of a replica that follows: %q, %v", reason, err)
	}
	// A user who may not see the lag is told so, whatever the lag is.
	primary.MustExec("CREATE ROLE nobody_much LOGIN PASSWORD 'x'")
	hidden := postgres.connect(t, strings.Replace(primaryDSN, primaryDSN[len("postgres://"):strings.Index(primaryDSN, "@")], "nobody_much:x", 1))
	hiddenCheck, err := sqlstore.LagCheck(hidden.DB, field.Postgres, time.Second)
	must(t, err)
	if reason, err := hiddenCheck(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(fmt.Sprint(err), "pg_monitor") {
		t.Errorf("lag that is hidden: %q, %v", reason, err)
	}
	// A replica that replays nothing more: PostgreSQL keeps the lag of before.
	replica.MustExec("SELECT pg_wal_replay_pause()")
	primary.MustExec("CREATE TABLE later (id int); INSERT INTO later SELECT generate_series(1, 1000)")
	saysWithin(t, check, "replication lag ")
	replica.MustExec("SELECT pg_wal_replay_resume()")
	saysWithin(t, check, "")
	// And one that is gone.
	stop()
	saysWithin(t, check, "a replica is gone", "of the replicas is gone")
}

// waitForReplica waits until the replica has what the primary has.
func waitForReplica(t *testing.T, primary *sqlx.DB) {
	t.Helper()
	for range 300 {
		var behind bool
		must(t, primary.Get(&behind, "SELECT coalesce(bool_or(replay_lsn IS DISTINCT FROM pg_current_wal_lsn()), true) FROM pg_stat_replication"))
		if !behind {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the replica does not follow")
}

// saysWithin waits for a reason that begins with, or contains, one of some texts.
func saysWithin(t *testing.T, check rotation.Check, texts ...string) {
	t.Helper()
	var reason string
	for range 150 {
		var err error
		reason, err = check(t.Context())
		must(t, err)
		for _, text := range texts {
			if text == "" && reason == "" || text != "" && strings.Contains(reason, text) {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("the check says %q, want one of %q", reason, texts)
}

// A server that takes no writes is refused.
func TestReadOnlyMariaDB(t *testing.T) {
	// Not parallel: the variable concerns the server, and its user may write all the same.
	dir, db := t.TempDir(), mariadb.open(t)
	b := box(t, dir, 2)
	m := model[person](t, b, "people")
	create(t, mariadb, db, m, "id bigint PRIMARY KEY")
	r := rotator(t, mariadb, db, b, m, rotation.Options{})
	db.MustExec("SET GLOBAL read_only = 1")
	defer db.MustExec("SET GLOBAL read_only = 0")
	if _, err := r.Run(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Run() on a read-only server = %v, want ErrConfig", err)
	}
	if _, err := r.Verify(t.Context(), rotation.VerifyOptions{OnReplica: true}); err != nil {
		t.Errorf("Verify(OnReplica) = %v", err)
	}
}
