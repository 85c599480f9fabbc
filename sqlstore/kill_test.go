package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Environment of the process that is killed.
const (
	childDSN = "KMSENCRYPTED_TEST_CHILD_DSN"
	childDir = "KMSENCRYPTED_TEST_CHILD_DIR"
)

func killedOptions() rotation.Options {
	return rotation.Options{
		Kind: rotation.Rekey, BatchSize: 50, Workers: 3, Shards: 24,
		Lease: 400 * time.Millisecond, Calls: rotation.NewLimiter(10_000),
	}
}

// A process that rekeys is killed with SIGKILL at random points, again and again,
// and another one goes on. A trigger counts the writes of each row.
func TestKillPostgres(t *testing.T) {
	if dsn := os.Getenv(childDSN); dsn != "" {
		b := box(t, os.Getenv(childDir), 3)
		_, err := rotator(t, postgres, postgres.connect(t, dsn), b, model[person](t, b, "people"), killedOptions()).Run(t.Context())
		must(t, err)
		return
	}
	t.Parallel()
	const n, kills = 6000, 6
	dir, dsn := t.TempDir(), postgres.dsn(t)
	db := postgres.connect(t, dsn)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, postgres, db, old, "id bigint PRIMARY KEY", "writes int NOT NULL DEFAULT 0")
	db.MustExec(`CREATE FUNCTION count_writes() RETURNS trigger AS 'BEGIN NEW.writes = OLD.writes + 1; RETURN NEW; END' LANGUAGE plpgsql`)
	db.MustExec(`CREATE TRIGGER count_writes BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION count_writes()`)
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, db, old, people)
	b := box(t, dir, 3)
	r := rotator(t, postgres, db, b, model[person](t, b, "people"), killedOptions())
	killed := 0
	for killed < kills {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillPostgres$")
		child.Env = append(os.Environ(), childDSN+"="+dsn, childDir+"="+dir)
		must(t, child.Start())
		ended := make(chan error, 1)
		go func() { ended <- child.Wait() }()
		if !waitForProgress(t, r, 200+rand.Int64N(500), ended) {
			break
		}
		time.Sleep(rand.N(20 * time.Millisecond))
		must(t, child.Process.Kill())
		if err := <-ended; !errors.As(err, new(*exec.ExitError)) {
			break // it was done before
		}
		killed++
	}
	before, _, err := r.Status(t.Context())
	must(t, err)
	result, err := r.Run(t.Context())
	must(t, err)
	status, _, err := r.Status(t.Context())
	must(t, err)
	t.Logf("killed %d times; %d rows written until then, %d after", killed, before.Written, result.Written)
	if killed < 3 {
		t.Errorf("killed only %d times", killed)
	}
	if !result.Done || status.Written != n || status.Conflicts != 0 {
		t.Errorf("Status() = %+v, want %d written without conflict", status, n)
	}
	var once int
	must(t, db.Get(&once, "SELECT count(*) FROM people WHERE writes = 1 AND encrypted_kms_key LIKE 'v3:%'"))
	if once != n {
		t.Errorf("%d rows were written exactly once, want %d", once, n)
	}
	for _, p := range load(t, db, model[person](t, b, "people")) {
		if want := fmt.Sprint("person ", p.ID); p.Email.Must() != want {
			t.Errorf("row %d = %q, want %q", p.ID, p.Email.Must(), want)
		}
	}
}

// waitForProgress waits until more rows are written; false if the child ended before.
func waitForProgress(t *testing.T, r *rotation.Rotator, rows int64, ended chan error) bool {
	t.Helper()
	start := int64(-1)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-ended:
			must(t, err)
			return false
		default:
		}
		status, found, err := r.Status(context.Background())
		must(t, err)
		if !found {
			continue
		}
		if start < 0 {
			start = status.Written
		}
		if status.Written >= start+rows {
			return true
		}
	}
	t.Fatal("no progress for 20 s")
	return false
}
