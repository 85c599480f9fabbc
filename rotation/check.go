package rotation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// Check returns why a rotation should wait, such as "replication lag 12 s", or ""
// if it may continue. Events and [Status] show the reason, so it must contain
// nothing secret. An error stops the run. Package sqlstore has checks that ask a
// database.
type Check func(ctx context.Context) (reason string, err error)

// FileCheck returns a check that waits while a file of that name exists: a flag
// that anybody on the machine can set.
func FileCheck(name string) Check {
	return func(context.Context) (string, error) {
		_, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return "file " + name + " exists", err
	}
}

// WindowCheck returns a check that waits outside a time of day: 22 h to 6 h is
// WindowCheck(22*time.Hour, 6*time.Hour, time.Local). The first check returns
// [kmsencrypted.ErrConfig] for times that are not within a day, or equal.
func WindowCheck(from, to time.Duration, zone *time.Location) Check {
	return func(context.Context) (string, error) {
		const day = 24 * time.Hour
		if from < 0 || to < 0 || from >= day || to > day || from == to {
			return "", fmt.Errorf("%w: a time window from %v to %v", kmsencrypted.ErrConfig, from, to)
		}
		now := time.Now().In(zone)
		hour, minute, second := now.Clock()
		clock := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second
		within := from <= clock && clock < to
		if from > to { // across midnight
			within = clock >= from || clock < to
		}
		if within {
			return "", nil
		}
		return fmt.Sprintf("outside of the time window, it is %s", now.Format("15:04")), nil
	}
}

// ErrHeldUp reports that a run stopped because it had to wait for longer than
// [Options.MaxWait].
var ErrHeldUp = errors.New("rotation is held up")

// brake makes all workers of a process wait while a check returns a reason. Checks
// run between batches, at most once per CheckEvery for all workers.
type brake struct {
	checks  []Check
	every   time.Duration
	maxWait time.Duration

	turn   chan struct{} // capacity 1: held by the worker that checks, the others wait for its result
	passed time.Time
	reason string
	since  time.Time // when the checks began to hold up the run
}

// errTurnOver ends a turn that only waited for a check. It is not an error of the
// run.
var errTurnOver = errors.New("turn is over")

// pass returns nil when all checks let the rotation continue, or errTurnOver.
func (b *brake) pass(ctx context.Context, w *runner, until time.Time) error {
	if len(b.checks) == 0 {
		return ctx.Err()
	}
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		if !b.passed.IsZero() && time.Since(b.passed) < b.every {
			return nil
		}
		reason, err := b.check(ctx)
		if err != nil {
			return err
		}
		if b.reason == "" {
			b.since = time.Now()
		}
		if reason != b.reason {
			b.reason = reason
			w.heldUp(ctx, reason)
		}
		switch {
		case reason == "":
			b.passed = time.Now()
			return nil
		case b.maxWait > 0 && time.Since(b.since) >= b.maxWait:
			b.reason = "" // the next one waits as long
			return fmt.Errorf("%w: %s", ErrHeldUp, reason)
		case !time.Now().Before(until):
			return errTurnOver
		}
		if err := sleep.For(ctx, b.every); err != nil {
			return err
		}
		if err := w.active(ctx); err != nil {
			return err
		}
	}
}

func (b *brake) check(ctx context.Context) (string, error) {
	for _, check := range b.checks {
		reason, err := check(ctx)
		if err != nil {
			return "", fmt.Errorf("check: %w", err)
		}
		if reason != "" {
			return reason, nil
		}
	}
	return "", nil
}
