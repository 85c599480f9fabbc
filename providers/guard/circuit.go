package guard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// OpenError is the cause of a [kmsencrypted.ErrUnavailable] for a call without a
// request, because too many earlier requests were not answered.
type OpenError struct {
	Since time.Time // start of the outage, as far as the guard knows
	Until time.Time // when the next request is let through
	Last  error     // of the requests that were not answered
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("circuit open since %s: %v", e.Since.UTC().Format(time.RFC3339), e.Last)
}

// circuit detects that a service does not answer.
//
//	closed --BreakAfter requests without an answer--> open
//	open   --after BreakFor, one request--> closed if it is answered, else open
type circuit struct {
	breakAfter int // negative means never
	breakFor   time.Duration

	mu       sync.Mutex
	silent   int       // requests in a row without an answer
	since    time.Time // zero while closed
	until    time.Time
	probing  bool // a request is under way to test whether the service is back
	lastFail error
}

// state returns an [OpenError] while no request may be made.
func (c *circuit) state() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.locked()
}

func (c *circuit) locked() error {
	if c.since.IsZero() || !c.probing && !time.Now().Before(c.until) {
		return nil
	}
	return &OpenError{Since: c.since, Until: c.until, Last: c.lastFail}
}

// enter admits a request. probe means that its result decides whether the circuit
// closes.
func (c *circuit) enter() (probe bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.locked(); err != nil {
		return false, err
	}
	c.probing = !c.since.IsZero()
	return c.probing, nil
}

// leave records the result of a request.
func (c *circuit) leave(probe bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if probe {
		c.probing = false
	}
	switch answerOf(err) {
	case answered:
		c.silent, c.since, c.lastFail = 0, time.Time{}, nil
	case silent:
		c.silent++
		c.lastFail = err
		isOpen := !c.since.IsZero()
		if probe || !isOpen && c.breakAfter > 0 && c.silent >= c.breakAfter {
			if !isOpen {
				c.since = time.Now()
			}
			c.until = time.Now().Add(c.breakFor)
		}
	}
}

// answer is what a request reveals about the service.
type answer uint8

const (
	answered answer = iota
	silent
	unknown
)

// answerOf counts a refusal as an answer, and a call that its caller cancelled as
// no evidence.
func answerOf(err error) answer {
	switch {
	case err == nil:
		return answered
	case errors.Is(err, kmsencrypted.ErrUnavailable):
		return silent
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unknown
	}
	return answered
}
