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

// A real replica of MariaDB: behind, stopped, broken, hidden from a user, and gone. A
// rotation on the primary waits for it.
func TestLagMariaDB(t *testing.T) {
	t.Parallel()
	primaryDSN, replicaDSN := dbserver.MariaDBReplica(t)
	mariadb.connect(t, primaryDSN).MustExec("CREATE DATABASE app")
	in := func(dsn string) string { return strings.Replace(dsn, "/?", "/app?", 1) }
	primary, replica := mariadb.connect(t, in(primaryDSN)), mariadb.connect(t, replicaDSN)
	dir := t.TempDir()
	old := model[person](t, box(t, dir, 1), "people")
	create(t, mariadb, primary, old, "id bigint PRIMARY KEY")
	const n = 100
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New("e")}
	}
	insert(t, primary, old, people)
	check, err := sqlstore.LagCheck(replica.DB, field.MySQL, 1500*time.Millisecond)
	must(t, err)
	saysWithin(t, check, "")

	// A lock holds the thread that applies the log up; the replica knows how old that is.
	locks, err := replica.Connx(t.Context())
	must(t, err)
	defer locks.Close()
	_, err = locks.ExecContext(t.Context(), "LOCK TABLES app.people READ")
	must(t, err)
	primary.MustExec("DELETE FROM people WHERE id = 100")
	saysWithin(t, check, "replication lag ")
	_, err = locks.ExecContext(t.Context(), "UNLOCK TABLES")
	must(t, err)
	saysWithin(t, check, "")

	// Either thread stopped: the rotation waits, and goes on with it.
	for _, thread := range []string{"SQL_THREAD", "IO_THREAD"} {
		replica.MustExec("STOP SLAVE " + thread)
		saysWithin(t, check, "the replica does not replicate")
		replica.MustExec("START SLAVE " + thread)
		saysWithin(t, check, "")
	}
	replica.MustExec("STOP SLAVE SQL_THREAD")
	b := box(t, dir, 2)
	waits := make(chan string, 1)
	r := rotator(t, mariadb, primary, b, model[person](t, b, "people"), rotation.Options{
		BatchSize: 10, Checks: []rotation.Check{check}, CheckEvery: 10 * time.Millisecond,
		Observe: func(e rotation.Event) {
			if e.Type == rotation.EventWaiting {
				select {
				case waits <- e.Reason:
				default:
				}
			}
		},
	})
	ended := make(chan error, 1)
	go func() {
		result, err := r.Run(t.Context())
		if err == nil && result.Written != n-1 {
			err = fmt.Errorf("%d records written, want %d", result.Written, n-1)
		}
		ended <- err
	}()
	select {
	case reason := <-waits:
		if reason != "the replica does not replicate" {
			t.Errorf("the rotation waits because of %q", reason)
		}
	case err := <-ended:
		t.Fatalf("Run() beside a replica that does not replicate = %v, want it to wait", err)
	}
	if counts := versions(t, primary, "people"); counts[2] > 0 {
		t.Errorf("%v records by version while it waits", counts)
	}
	replica.MustExec("START SLAVE SQL_THREAD")
	must(t, <-ended)

	// It is asked by somebody who may not know.
	replica.MustExec("CREATE USER 'nobody_much'@'127.0.0.1' IDENTIFIED BY 'x'")
	hidden := mariadb.connect(t, "nobody_much:x"+replicaDSN[strings.LastIndex(replicaDSN, "@"):])
	hiddenCheck, err := sqlstore.LagCheck(hidden.DB, field.MySQL, time.Second)
	must(t, err)
	if reason, err := hiddenCheck(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(fmt.Sprint(err), "SLAVE MONITOR") {
		t.Errorf("lag that is hidden: %q, %v", reason, err)
	}
	replica.MustExec("GRANT SLAVE MONITOR ON *.* TO 'nobody_much'@'127.0.0.1'")
	hidden = mariadb.connect(t, "nobody_much:x"+replicaDSN[strings.LastIndex(replicaDSN, "@"):])
	granted, err := sqlstore.LagCheck(hidden.DB, field.MySQL, time.Minute)
	must(t, err)
	saysWithin(t, granted, "")
	// The primary is no replica.
	wrong, err := sqlstore.LagCheck(primary.DB, field.MySQL, time.Second)
	must(t, err)
	if reason, err := wrong(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(fmt.Sprint(err), "no replica") {
		t.Errorf("lag of the primary: %q, %v", reason, err)
	}
	// It cannot apply what the primary did, and then it is gone.
	replica.MustExec("DROP TABLE app.people")
	primary.MustExec("DELETE FROM people WHERE id = 1")
	saysWithin(t, check, "the replica does not replicate")
	replica.MustExec("SHUTDOWN")
	saysWithin(t, check, "the replica cannot be reached")
}
