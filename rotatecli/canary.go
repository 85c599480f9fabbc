package rotatecli

import (
	"context"
	"errors"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// shards is the number of ranges of a table. It determines how much a canary
// moves.
const shards = 64

// canary rotates one shard of a table and opens every record of it.
func (c *runCmd) canary(ctx context.Context, s *Session, t *table) (clean bool, err error) {
	left, before, err := c.work(ctx, t)
	if err != nil {
		return false, err
	}
	if left == 0 {
		s.printf("%s  nothing to do\n", t.name)
		return true, nil
	}
	number := -1
	p := s.newProgress(t.name, c.JSON, left+before, before)
	options, err := c.options(ctx, t, func(e rotation.Event) {
		if e.Type == rotation.EventShard {
			number = e.Shard // reported before Work returns
		}
		p.observe(e)
	})
	if err != nil {
		return false, err
	}
	rotator, err := t.rotator(options)
	if err != nil {
		return false, err
	}
	began := time.Now()
	slice, err := c.oneShard(ctx, rotator)
	p.close()
	result := rotation.Result{Outcome: slice.Outcome, Pass: slice.Pass, Done: slice.Next == rotation.NextNothing}
	if err == nil && number < 0 {
		err = errors.New("every shard is held by another worker: no canary")
	}
	var opened int64
	var failures []rotation.Failure
	if err == nil {
		opened, failures, err = t.openShard(ctx, number, c.Batch, options.Part)
	}
	clean = len(failures) == 0
	if c.JSON {
		result.Failed = int64(len(failures))
		return clean, printResult(s, t.name, result, err)
	}
	if err != nil {
		return false, s.pausedOr(err)
	}
	s.printf("%s  canary: %s %s in %s, %s of its shard opened, %s failed  the run is unfinished; continue it without --canary\n",
		t.name, count(result.Written), verbs[c.Kind], span(time.Since(began)), count(opened), count(int64(len(failures))))
	s.printFailures(failures, 10, "rotate verify --failures")
	return clean, nil
}

// oneShard works until one shard is done.
func (c *runCmd) oneShard(ctx context.Context, r *rotation.Rotator) (rotation.Slice, error) {
	const whole = 24 * time.Hour
	run, err := r.Begin(ctx)
	if err != nil {
		return rotation.Slice{}, err
	}
	return r.Work(ctx, run.ID, rotation.AnyShard, whole)
}

// openShard opens the records of a shard without changing anything.
func (t *table) openShard(ctx context.Context, number, batch int, part string) (opened int64, failures []rotation.Failure, err error) {
	ranges, err := t.store.Ranges(ctx, shards)
	if err != nil {
		return 0, nil, err
	}
	r := ranges[min(number, len(ranges)-1)]
	for {
		b, err := t.store.Read(ctx, rotation.Selection{Range: r, Limit: batch, Kind: rotation.Rewrap, Target: t.model.Box().Current(), All: true, Part: part})
		if err == nil {
			err = b.Open(ctx, 0, b.Len())
		}
		if err != nil {
			return opened, failures, err
		}
		opened += int64(b.Len() - len(b.Failures()))
		failures = append(failures, b.Failures()...)
		if !b.More() {
			return opened, failures, nil
		}
		r.After = b.Last()
	}
}
