package guard

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// BusyError is the cause of a [kmsencrypted.ErrThrottled] for a call without a
// request, because the rate limit would have delayed it past its deadline.
type BusyError struct {
	Wait time.Duration // until the request could have started
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("rate limit of this program: the next request may begin in %v, past the deadline", e.Wait)
}

// rate spaces requests evenly, except for a burst after an idle time, with the
// generic cell rate algorithm. Nil means no limit.
type rate struct {
	interval  time.Duration // between two requests
	tolerance time.Duration // how far a burst may run ahead

	mu   sync.Mutex
	next time.Time // when the next request would start without bursts
}

func newRate(perSecond float64, burst int) *rate {
	if !(perSecond > 0) {
		return nil
	}
	interval := time.Duration(float64(time.Second) / perSecond)
	return &rate{interval: interval, tolerance: time.Duration(burst-1) * interval}
}

// wait waits until a request may start.
func (r *rate) wait(ctx context.Context) error {
	if r == nil {
		return nil
	}
	deadline, _ := ctx.Deadline()
	pause, turn, err := r.take(time.Now(), deadline)
	if err != nil || pause == 0 {
		return err
	}
	if err := sleep.For(ctx, pause); err != nil {
		r.giveBack(turn)
		return err
	}
	return nil
}

// take reserves a turn, unless it is after the deadline.
func (r *rate) take(now, deadline time.Time) (pause time.Duration, turn time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	turn = r.next
	if turn.Before(now) {
		turn = now
	}
	pause = max(0, turn.Sub(now)-r.tolerance)
	if !deadline.IsZero() && now.Add(pause).After(deadline) {
		return 0, turn, &BusyError{Wait: pause}
	}
	r.next = turn.Add(r.interval)
	return pause, turn, nil
}

// giveBack frees an unused turn, if nobody has reserved a later one.
func (r *rate) giveBack(turn time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next.Equal(turn.Add(r.interval)) {
		r.next = turn
	}
}
