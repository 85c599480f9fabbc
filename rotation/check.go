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

// Check says why a rotation should wait, such as "replication lag 12 s", or
// nothing if it may go on. The reason is shown in events and in [Status]; it
// must hold nothing secret. An error stops the run. The package sqlstore has
// checks that ask a database.
type Check func(ctx context.Context) (reason string, err error)

// FileCheck waits as long as there is a file of that name: a flag that anybody on
// the machine can put up.
func FileCheck(name string) Check {
	return func(context.Context) (string, error) {
		_, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return "file " + name + " exists", err
	}
}

// WindowCheck waits outside of a time of day: from 22 h to 6 h is
// WindowCheck(22*time.Hour, 6*time.Hour, time.Local). Times that are not within
// a day, or equal, are [kmsencrypted.ErrConfig] in the first check.
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
		if from > to { // over midnight
			within = clock >= from || clock < to
		}
		if within {
			return "", nil
		}
		return fmt.Sprintf("outside of the time window, it is %s", now.Format("15:04")), nil
	}
}

// ErrHeldUp: a run stopped because it had to wait for longer than
// [Options.MaxWait].
var ErrHeldUp = errors.New("rotation is held up")

// brake makes all workers of a process wait while a check says so. Checks are
// made between batches, at most once in CheckEvery for all workers.
type brake struct {
	checks  []Check
	every   time.Duration
	maxWait time.Duration

	turn   chan struct{} // of one: held while somebody checks, the others wait for the answer
	passed time.Time
	reason string
	since  time.Time // when it began to hold up
}

// errTurnOver ends a turn that waited for a check all the time, without being an
// error of the run.
var errTurnOver = errors.New("turn is over")

// pass returns when all checks let the rotation go on, or with errTurnOver.
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
