package rotation

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// mostFruitless is how many passes in a row may move nothing, and only meet
// records that somebody else changes or whose key service does not answer. The
// next pass lists them as failures, so that a run ends.
const mostFruitless = 6

// progress is what this process knows of how far the passes of a run get.
type progress struct {
	mu     sync.Mutex // held between two passes
	run    string
	passes int // that are over

	fruitless          atomic.Int64 // passes in a row that moved nothing
	written, conflicts atomic.Int64 // by the batches of this pass
	// leavesPart: batches no longer wait for the key service of some records.
	leavesPart atomic.Bool
	outage     outage // of the database
	silence    outage // of a key service that a store asks
}

// of begins again for another run.
func (p *progress) of(run string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == run {
		return
	}
	p.run, p.passes = run, 0
	p.fruitless.Store(0)
	p.written.Store(0)
	p.conflicts.Store(0)
	p.leavesPart.Store(false)
}

// noted adds what became of a batch.
func (p *progress) noted(o Outcome) {
	p.written.Add(o.Written)
	p.conflicts.Add(o.Conflicts)
}

// ended ends a pass by end. After a pass that moved nothing it waits before, each time
// longer. A pass that this process has ended already is ended once more, without these
// waits: it is of a worker that looked before, or a database that failed over has lost
// the end. The store knows which.
func (p *progress) ended(ctx context.Context, pass int, end func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pass <= p.passes {
		return end()
	}
	fruitless := int64(0)
	if p.written.Load() == 0 && p.conflicts.Load() > 0 {
		fruitless = p.fruitless.Load() + 1
	}
	if 0 < fruitless && fruitless < mostFruitless {
		if err := sleep.For(ctx, min(firstWait<<fruitless, longWait)); err != nil {
			return err
		}
	}
	if err := end(); err != nil {
		return err
	}
	p.passes = pass
	p.fruitless.Store(fruitless)
	p.written.Store(0)
	p.conflicts.Store(0)
	return nil
}

// isFruitless reports whether it is time to give conflicts up.
func (p *progress) isFruitless() bool { return p.fruitless.Load() >= mostFruitless }

// outage is a time without the database or a key service.
type outage struct {
	mu    sync.Mutex
	since time.Time
}

// goesOn notes that it is away, and reports whether to wait for it and how long it has
// been away.
func (o *outage) goesOn(most time.Duration) (goesOn bool, since time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = time.Now()
	}
	since = time.Since(o.since)
	return since < most, since
}

func (o *outage) isOver() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since = time.Time{}
}
