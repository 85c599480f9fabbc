package sqlstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// Environment of a process that books calls.
const (
	limitDSN    = "KMSENCRYPTED_TEST_LIMIT_DSN"
	limitDriver = "KMSENCRYPTED_TEST_LIMIT_DRIVER"
)

func createLimits(t testing.TB, d database, dsn string) {
	t.Helper()
	definitions, err := sqlstore.Tables(d.dialect)
	must(t, err)
	db := d.connect(t, dsn)
	for _, definition := range definitions {
		db.MustExec(definition)
	}
}

func TestLimiterPostgres(t *testing.T) { testLimiter(t, postgres) }
func TestLimiterMariaDB(t *testing.T)  { testLimiter(t, mariadb) }
func TestLimiterSQLite(t *testing.T)   { testLimiter(t, sqlite) }

// Three processes share a limit and are always behind it. The moments that they
// book are, whatever the machine is busy with, as far apart as the limit says: of
// what it allows at least 0.9 is booked, and in no second more than 1.1 times it.
func testLimiter(t *testing.T, d database) {
	const (
		rate      = 200.0
		processes = 3
		span      = 3 * time.Second
	)
	if dsn := os.Getenv(limitDSN); dsn != "" {
		if os.Getenv(limitDriver) == d.driver {
			bookFor(t, d, dsn, rate, span)
		}
		return
	}
	t.Parallel()
	dsn := d.dsn(t)
	createLimits(t, d, dsn)
	var outputs [processes]*bufio.Scanner
	for i := range outputs {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		child.Env = append(os.Environ(), limitDSN+"="+dsn, limitDriver+"="+d.driver)
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		t.Cleanup(func() { child.Wait() })
		outputs[i] = bufio.NewScanner(out)
	}
	var booked []booking
	for i, out := range outputs {
		n := 0
		for out.Scan() {
			var b booking
			if count, _ := fmt.Sscanf(out.Text(), "booked %d %d", &b.at, &b.calls); count == 2 {
				booked, n = append(booked, b), n+1
			}
		}
		if n == 0 {
			t.Fatalf("process %d booked nothing", i)
		}
	}
	checkBooked(t, booked, rate)
}

// booking is calls at a moment of the database's clock, in microseconds.
type booking struct {
	at    int64
	calls int
}

// bookFor books without ever waiting, a second ahead at the most, so that a slow
// machine leaves no gap.
func bookFor(t *testing.T, d database, dsn string, rate float64, span time.Duration) {
	l, err := sqlstore.NewLimiter(t.Context(), d.connect(t, dsn).DB, d.dialect, "key", rate)
	must(t, err)
	if l.Rate() != rate || l.Burst() != int(rate/50) {
		t.Fatalf("Rate() = %v, Burst() = %d", l.Rate(), l.Burst())
	}
	for end := time.Now().Add(span); time.Now().Before(end); {
		at, wait, err := l.Book(t.Context(), l.Burst())
		must(t, err)
		fmt.Printf("booked %d %d\n", at, l.Burst())
		time.Sleep(min(max(wait-time.Second, 0), time.Second))
	}
}

func checkBooked(t *testing.T, booked []booking, rate float64) {
	t.Helper()
	slices.SortFunc(booked, func(a, b booking) int { return int(a.at - b.at) })
	total, gaps, end := 0, int64(0), booked[0].at
	for i, b := range booked {
		total += b.calls
		gaps += max(0, b.at-end-2000) // when everybody was too slow; SQLite's clock has milliseconds
		end = b.at + int64(float64(b.calls)/rate*1e6)
		within := 0
		for _, later := range booked[i:] {
			if later.at-b.at < 1e6 {
				within += later.calls
			}
		}
		if float64(within) > rate*1.1 {
			t.Errorf("%d calls booked in one second, want at most %v", within, rate*1.1)
		}
	}
	busy := float64(booked[len(booked)-1].at-booked[0].at-gaps) / 1e6
	share := float64(total-booked[len(booked)-1].calls) / (busy * rate)
	t.Logf("%d calls booked in %.2f s, %.3f of what is allowed; %d ms idle", total, busy, share, gaps/1000)
	if share < 0.9 || share > 1.01 {
		t.Errorf("%.3f of the allowed calls were booked, want 0.9 to 1", share)
	}
}

// The rate follows SetRate of another process, halves when the key service
// throttles, and comes back.
func testLimiterRate(t *testing.T, d database) {
	dsn := d.dsn(t)
	createLimits(t, d, dsn)
	ctx := t.Context()
	db := d.connect(t, dsn)
	newLimiter := func(perSecond float64) *sqlstore.Limiter {
		l, err := sqlstore.NewLimiter(ctx, db.DB, d.dialect, "key", perSecond)
		must(t, err)
		return l
	}
	a, b := newLimiter(100), newLimiter(7)
	if b.Rate() != 100 {
		t.Errorf("the second limiter has rate %v, want that of the first", b.Rate())
	}
	must(t, b.SetRate(ctx, 1000))
	stepOf := func(calls int) (micros int64) { // between two bookings
		first, _, err := a.Book(ctx, calls)
		must(t, err)
		second, _, err := a.Book(ctx, calls)
		must(t, err)
		return second - first
	}
	const slack = 3000 // microseconds between two looks at the clock of the database
	if step := stepOf(500); step < 500_000-slack || step > 500_000+slack {
		t.Errorf("500 calls at 1000/s take %d us", step)
	}
	for range 3 { // all within a second: the calls were on their way together
		must(t, a.Throttled(ctx))
	}
	if step := stepOf(500); step < 1_000_000-slack || step > 1_000_000+slack || a.Rate() != 500 {
		t.Errorf("500 calls after throttling take %d us at %v/s, want half the rate", step, a.Rate())
	}
	quiet := func() {
		t.Helper()
		_, err := db.Exec("UPDATE kms_rate_limits SET changed = changed - 10000001")
		must(t, err)
	}
	quiet()
	for _, want := range []float64{550, 550} {
		stepOf(1)
		must(t, a.Refresh(ctx))
		if got := a.Rate(); got < want-0.01 || got > want+0.01 {
			t.Errorf("rate after a quiet stretch = %v, want %v", got, want)
		}
	}
	for range 20 {
		quiet()
		stepOf(1)
	}
	must(t, a.Refresh(ctx))
	if a.Rate() != 1000 {
		t.Errorf("rate after long quiet = %v, want 1000", a.Rate())
	}
	if err := a.SetRate(ctx, 0); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("SetRate(0) = %v", err)
	}
	_, _, err := a.Book(ctx, 100_000)
	must(t, err)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := a.Wait(ended, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait() after the end of ctx = %v", err)
	}
	var _ rotation.ThrottledLimiter = a
}

func TestLimiterRatePostgres(t *testing.T) { t.Parallel(); testLimiterRate(t, postgres) }
func TestLimiterRateMariaDB(t *testing.T)  { t.Parallel(); testLimiterRate(t, mariadb) }
func TestLimiterRateMySQL(t *testing.T)    { t.Parallel(); testLimiterRate(t, mysql) }
func TestLimiterRateMySQLish(t *testing.T) { t.Parallel(); testLimiterRate(t, mysqlLike) }
func TestLimiterRateSQLite(t *testing.T)   { t.Parallel(); testLimiterRate(t, sqlite) }

func TestLimiterRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect field.Dialect
		name    string
		rate    float64
	}{{"other", "key", 1}, {field.SQLite, "", 1}, {field.SQLite, "key", 0}, {field.SQLite, "key", -1}} {
		if _, err := sqlstore.NewLimiter(t.Context(), nil, c.dialect, c.name, c.rate); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewLimiter(%+v) = %v, want ErrConfig", c, err)
		}
	}
}

// Checks give their reason while there is one.
func testChecks(t *testing.T, d database) {
	db := d.open(t)
	db.MustExec("CREATE TABLE load_now (n int)")
	query := sqlstore.QueryCheck(db.DB, "queue length", "SELECT max(n) FROM load_now")
	reason := func(c rotation.Check) string {
		t.Helper()
		text, err := c(t.Context())
		must(t, err)
		return text
	}
	if got := reason(query); got != "" {
		t.Errorf("query that answers NULL: %q", got)
	}
	db.MustExec("INSERT INTO load_now VALUES (12)")
	if got := reason(query); got != "queue length: 12" {
		t.Errorf("query that answers 12: %q", got)
	}
	if _, err := sqlstore.QueryCheck(db.DB, "x", "SELECT broken FROM nothing")(t.Context()); err == nil {
		t.Error("a broken query is no error")
	}
	lag, err := sqlstore.LagCheck(db.DB, d.dialect, time.Second)
	connections, err2 := sqlstore.ConnectionsCheck(db.DB, d.dialect, 0)
	if d.dialect == field.SQLite {
		if !errors.Is(err, kmsencrypted.ErrConfig) || !errors.Is(err2, kmsencrypted.ErrConfig) {
			t.Errorf("LagCheck, ConnectionsCheck of SQLite = %v, %v", err, err2)
		}
		return
	}
	must(t, errors.Join(err, err2))
	// Nothing replicates here. PostgreSQL is asked as a primary, which knows that.
	if d.dialect == field.Postgres {
		if got := reason(lag); got != "" {
			t.Errorf("lag without replicas: %q", got)
		}
	} else if got, err := lag(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("lag of a server that is no replica: %q, %v", got, err)
	}
	if got := reason(connections); !strings.HasSuffix(got, " active connections") {
		t.Errorf("more than 0 connections: %q", got)
	}
	if many, err := sqlstore.ConnectionsCheck(db.DB, d.dialect, 10_000); err != nil || reason(many) != "" {
		t.Errorf("10,000 connections: %v", err)
	}
}
