package attach_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/race"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// Environment of the process that is killed.
const (
	childScenario = "KMSENCRYPTED_TEST_CHILD_SCENARIO"
	childDir      = "KMSENCRYPTED_TEST_CHILD_DIR"
	childDriver   = "KMSENCRYPTED_TEST_CHILD_DRIVER"
	childDSN      = "KMSENCRYPTED_TEST_CHILD_DSN"
	childStep     = "KMSENCRYPTED_TEST_CHILD_STEP"
)

// steps kills the process before the n-th call to the database or to the bucket.
// A rotation calls from several goroutines: the one that keeps its lease too.
type steps struct {
	left   atomic.Int64
	outage int64 // if not 0: this many calls fail, and the process goes on
}

var errOutage = errors.New("out of service")

func (s *steps) step() error {
	left := s.left.Add(-1)
	switch {
	case s.outage > 0 && left <= 0 && left > -s.outage:
		return errOutage
	case s.outage == 0 && left == 0:
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			self.Kill() // not syscall.Kill, which Windows lacks
		}
		select {} // until it is dead
	}
	return nil
}

// The database as the stepping process sees it.
type steppingConnector struct {
	*steps
	driver driver.Driver
	dsn    string
}

func (c steppingConnector) Driver() driver.Driver { return c.driver }

func (c steppingConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	return steppingConn{conn, c.steps}, err
}

type steppingConn struct {
	driver.Conn
	*steps
}

func (c steppingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.step(); err != nil {
		return nil, err
	}
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c steppingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.step(); err != nil {
		return nil, err
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c steppingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	return steppingStmt{stmt, c.steps}, err
}

func (c steppingConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
	return steppingTx{tx, c.steps}, err
}

type steppingStmt struct {
	driver.Stmt
	*steps
}

func (s steppingStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

func (s steppingStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

type steppingTx struct {
	driver.Tx
	*steps
}

func (t steppingTx) Commit() error {
	if err := t.step(); err != nil {
		if t.left.Load()%2 == 0 {
			t.Tx.Commit() // only the answer is lost
		} else {
			t.Tx.Rollback()
		}
		return err
	}
	return t.Tx.Commit()
}

// The bucket likewise; in the middle of an object too.
type steppingBucket struct {
	attach.Bucket
	*steps
}

func (b steppingBucket) Put(ctx context.Context, name string, write func(io.Writer) error) error {
	if err := b.step(); err != nil {
		return err
	}
	return b.Bucket.Put(ctx, name, func(w io.Writer) error {
		if err := b.step(); err != nil {
			return err
		}
		err := write(steppingWriter{w, b.steps})
		return errors.Join(err, b.step())
	})
}

type steppingWriter struct {
	io.Writer
	*steps
}

func (w steppingWriter) Write(p []byte) (int, error) {
	half := len(p) / 2
	n, err := w.Writer.Write(p[:half])
	if err != nil {
		return n, err
	}
	if err := w.step(); err != nil {
		return n, err
	}
	m, err := w.Writer.Write(p[half:])
	return n + m, err
}

func (b steppingBucket) Open(ctx context.Context, name string) (attach.Object, error) {
	if err := b.step(); err != nil {
		return nil, err
	}
	return b.Bucket.Open(ctx, name)
}

func (b steppingBucket) Delete(ctx context.Context, name string) error {
	if err := b.step(); err != nil {
		return err
	}
	return b.Bucket.Delete(ctx, name)
}

// fileOf makes a content that identifies its file.
func fileOf(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	return fmt.Appendf(nil, "%020d%s", seed, random(seed, 300_000+r.IntN(300_000)))
}

// isFile reports whether content is one that fileOf made.
func isFile(content []byte) bool {
	var seed uint64
	if len(content) < 20 {
		return false
	}
	_, err := fmt.Sscanf(strings.TrimLeft(string(content[:20]), "0"), "%d", &seed)
	return err == nil && bytes.Equal(content, fileOf(seed))
}

// killScenarios are what a process does until it is killed; round tells apart what
// it writes.
var killScenarios = map[string]func(t *testing.T, w *world, round int){
	"upload and commit": func(t *testing.T, w *world, round int) {
		w.attach(t, w.read(t, 1), "scans", fileOf(uint64(100+round)))
	},
	"replace": func(t *testing.T, w *world, round int) {
		c := w.read(t, 1)
		a, err := w.manager.Get(t.Context(), c, "license")
		must(t, err)
		p, err := w.manager.Replace(t.Context(), c, a, bytes.NewReader(fileOf(uint64(200+round))), attach.Options{})
		must(t, err)
		_, err = w.commit(t, p)
		must(t, err)
	},
	"derive": func(t *testing.T, w *world, round int) {
		c := w.read(t, 1)
		a, err := w.manager.Get(t.Context(), c, "license")
		must(t, err)
		p, err := w.manager.Derive(t.Context(), c, a, fmt.Sprint("variant", round), attach.Options{}, func(dst io.Writer, src *attach.File) error {
			_, err := io.Copy(dst, src)
			return err
		})
		must(t, err)
		_, err = w.commit(t, p)
		must(t, err)
	},
	"reencrypt": func(t *testing.T, w *world, round int) {
		a, err := w.manager.Get(t.Context(), w.read(t, 1), "license")
		must(t, err)
		_, err = w.manager.Reencrypt(t.Context(), a, nil)
		must(t, err)
	},
	"in parts": func(t *testing.T, w *world, round int) {
		must(t, w.attachInParts(t.Context(), w.read(t, 1), fileOf(uint64(400+round))))
	},
	"delete and sweep": func(t *testing.T, w *world, round int) {
		list, err := w.manager.List(t.Context(), w.read(t, 2), "scans")
		must(t, err)
		must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, list[0]) }))
		w.sweep(t)
	},
	"rekey": func(t *testing.T, w *world, round int) { rekey(t, w, round) },
}

// rekey goes on with the rekey of a round.
func rekey(t *testing.T, w *world, round int) {
	w.use(t, 2+round%2)
	s, err := sqlstore.New(t.Context(), w.db, w.d.dialect, w.model, sqlstore.Options{Dependents: []field.Dependents{w.manager}})
	must(t, err)
	must(t, s.CreateTables(t.Context()))
	r, err := rotation.New(w.model.Adapter().Box(), s, rotation.Options{
		Kind: rotation.Rekey, WritersAreOurs: true, Workers: 1, Shards: 1, BatchSize: 2, Lease: 100 * time.Millisecond})
	must(t, err)
	result, err := r.Run(t.Context())
	must(t, err)
	if result.Failed > 0 {
		t.Errorf("rekey: %+v", result)
	}
}

// A process is killed before each of its calls to the database and the store, one
// after the other. After the sweep every file reads back, none is lost and none
// left behind.
func TestKillPostgresMariaDBSQLite(t *testing.T) {
	databases := map[string]database{sqlite.driver: sqlite, postgres.driver: postgres, mariadb.driver: mariadb}
	if name := os.Getenv(childScenario); name != "" {
		var s steps
		var round int64
		fmt.Sscan(os.Getenv(childStep), &round)
		w := killedWorld(t, databases[os.Getenv(childDriver)], os.Getenv(childDSN), os.Getenv(childDir), &s)
		s.left.Store(round)
		killScenarios[name](t, w, int(round))
		return
	}
	t.Parallel()
	for driver, d := range databases {
		for name := range killScenarios {
			t.Run(driver+"/"+name, func(t *testing.T) {
				t.Parallel()
				testKill(t, d, name)
			})
		}
	}
}

func testKill(t *testing.T, d database, name string) {
	dir, dsn := t.TempDir(), d.dsn(t)
	w := killedWorld(t, d, dsn, dir, nil)
	for id := range int64(2) {
		c := w.insert(t, id+1)
		w.attach(t, c, "license", fileOf(uint64(id+1)))
		for n := range 2 {
			w.attach(t, c, "scans", fileOf(uint64(10*id)+uint64(n)+10))
		}
	}
	killed, stride := 0, 1
	if race.Detector {
		stride = 12 // each step takes several times as long, and it finds nothing else
	}
	for ; ; killed += stride {
		before := idsOf(t, w)
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillPostgresMariaDBSQLite$")
		child.Env = append(os.Environ(), childScenario+"="+name, childDriver+"="+d.driver, childDSN+"="+dsn, childDir+"="+dir, fmt.Sprint(childStep, "=", killed+1))
		out, err := child.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && !exit.Sys().(syscall.WaitStatus).Signaled() {
			t.Fatalf("step %d: %v\n%s", killed+1, err, out)
		}
		if name == "delete and sweep" {
			now := idsOf(t, w)
			if len(now) < len(before) {
				w.attach(t, w.read(t, 2), "scans", fileOf(uint64(300+killed)))
			}
			if len(now) < len(before)-1 {
				t.Errorf("step %d: %d attachments are gone, and one was deleted", killed+1, len(before)-len(now))
			}
			before = now
		}
		w.checkAfterKill(t, killed+1, dir, before)
		if name == "rekey" {
			rekey(t, w, killed+1) // goes on where the dead process was
			w.checkAfterKill(t, killed+1, dir, before)
		}
		if err == nil {
			break
		}
	}
	t.Logf("killed at %d steps", killed)
	if killed < 8 {
		t.Errorf("killed at %d steps only", killed)
	}
}

// killedWorld is one in a database and a folder, that another process finds again.
func killedWorld(t *testing.T, d database, dsn, dir string, s *steps) *world {
	path := filepath.Join(dir, "keys.txt")
	provider, err := local.Open(path)
	if err != nil {
		provider, err = local.Create(path)
	}
	must(t, err)
	var bucket attach.Bucket = openDir(t, filepath.Join(dir, "bucket"))
	if s != nil {
		bucket = steppingBucket{bucket, s}
	}
	w := newWorldAt(t, d, dsn, provider, bucket, func(c *attach.Config) {
		c.Grace, c.Lease, c.Workers, c.PartSize = time.Millisecond, time.Second, 1, 256<<10
		c.Recovery = &attach.Recovery{Box: box(t, provider, 1), Store: "shop"}
		if s == nil {
			c.Lease = time.Millisecond // so that the sweep need not wait
		}
	})
	if s != nil {
		driver := w.db.Driver()
		w.db.Close()
		w.db = sql.OpenDB(steppingConnector{s, driver, dsn})
		t.Cleanup(func() { w.db.Close() })
		w.use(t, 1)
	}
	return w
}

func idsOf(t *testing.T, w *world) (ids []string) {
	t.Helper()
	rows, err := w.db.Query("SELECT id FROM kms_attachments")
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var id string
		must(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	must(t, rows.Err())
	return ids
}

// checkAfterKill sweeps and looks at everything.
func (w *world) checkAfterKill(t *testing.T, step int, dir string, before []string) {
	t.Helper()
	// What the process listed is over once its lease is.
	w.exec(t, "UPDATE kms_attachment_objects SET until = 0")
	w.sweep(t)
	after := idsOf(t, w)
	for _, id := range before {
		if !slices.Contains(after, id) {
			t.Errorf("step %d: attachment %s is lost", step, id)
		}
	}
	for _, id := range after {
		a, err := w.manager.Find(t.Context(), id)
		must(t, err)
		if content, err := w.content(t, a); err != nil || !isFile(content) {
			t.Errorf("step %d: %s of record %v reads %d bytes, %v", step, a.Name, a.RecordID, len(content), err)
		}
	}
	objects := filesIn(t, filepath.Join(dir, "bucket"))
	sidecars := 0
	for _, object := range objects {
		if strings.HasSuffix(object, attach.SidecarSuffix) {
			sidecars++
		}
	}
	if listed := w.count(t, "SELECT count(*) FROM kms_attachment_objects"); listed > 0 || sidecars != len(after) || len(objects) != 2*len(after) {
		t.Errorf("step %d: %d objects listed, %d objects for %d files: %v", step, listed, len(objects), len(after), objects)
	}
}
