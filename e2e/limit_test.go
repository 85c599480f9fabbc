package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// service is a key service that notes when it is called, and takes its time.
type service struct {
	key *testkey.Provider

	mu    sync.Mutex
	calls []int64 // in ns since 1970
}

func (s *service) Info() kmsencrypted.KeyInfo { return s.key.Info() }

func (s *service) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	s.called()
	return s.key.Encrypt(ctx, plaintext, ec)
}

func (s *service) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	s.called()
	return s.key.Decrypt(ctx, ciphertext, ec)
}

func (s *service) called() {
	s.mu.Lock()
	s.calls = append(s.calls, time.Now().UnixNano())
	s.mu.Unlock()
	time.Sleep(2 * time.Millisecond)
}

func init() { executors["limited"] = runLimited }

// runLimited is a worker process that works for a time within the limit of all
// and writes down its calls.
func runLimited(ctx context.Context, o order) error {
	db, err := sql.Open("pgx", o.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	options, kms := o.options(), &service{key: testkey.New()}
	options.Calls, err = sqlstore.NewLimiter(ctx, db, field.Postgres, "all", o.Rate)
	if err != nil {
		return err
	}
	r, err := rotatorOf(ctx, db, o.Version, kms, options)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, o.For)
	defer stop()
	if _, err := r.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("a run that should take longer than %s ended with %w", o.For, err)
	}
	calls, err := json.Marshal(kms.calls)
	if err != nil {
		return err
	}
	return os.WriteFile(o.Calls, calls, 0o600)
}

// Three processes share one limit: what they call in all is nearly what is
// allowed, and never much more. A machine that lets a process wait counts as
// more calls afterwards, so one of three attempts has to succeed.
func TestLimitPostgres(t *testing.T) {
	const allowed, attempts = 1000, 3
	for range attempts {
		calls, stretch, busiest := calls(t, allowed)
		most := allowed * stretch.Seconds()
		counted(t, "3 processes made %d calls of %.0f allowed in %.1f s, %d in the busiest second of %d allowed", calls, most, stretch.Seconds(), busiest, allowed)
		// Calls that go out together are booked for the moment of the first, so the
		// end of the stretch may cut a booking in two.
		const booking = allowed / 50
		if float64(calls) >= 0.9*most && float64(calls) <= most+booking && busiest <= 1.1*allowed {
			return
		}
	}
	t.Errorf("no attempt of %d made 0.9 to 1.0 of the calls allowed, and at most 1.1 in any second", attempts)
}

// calls lets three processes call, and says how many calls they made while all of
// them did, how long that was, and how many there were in the busiest second.
func calls(t *testing.T, allowed float64) (inStretch int, stretch time.Duration, busiest int) {
	t.Helper()
	const processes = 3
	n := newTable(t, 10_000)
	dir := t.TempDir()
	workers := make([]*worker, processes)
	file := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	for i := range workers {
		workers[i] = start(t, order{
			DSN: n.dsn, Executor: "limited", Version: 2, Workers: 3, Batch: 200,
			Rate: allowed, For: 8 * time.Second, Calls: file(i),
		})
	}
	var all []int64
	var from, to int64 // while all of them called
	for i, w := range workers {
		w.wait(t)
		text, err := os.ReadFile(file(i))
		must(t, err)
		var calls []int64
		must(t, json.Unmarshal(text, &calls))
		if len(calls) < 100 {
			t.Fatalf("process %d made only %d calls", i, len(calls))
		}
		slices.Sort(calls)
		from, all = max(from, calls[0]), append(all, calls...)
		if last := calls[len(calls)-1]; i == 0 || last < to {
			to = last
		}
	}
	slices.Sort(all)
	first := 0
	for i, at := range all {
		if at >= from && at < to {
			inStretch++
		}
		for at-all[first] >= int64(time.Second) {
			first++
		}
		busiest = max(busiest, i-first+1)
	}
	return inStretch, time.Duration(to - from), busiest
}
