package kmsencrypted

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
)

// WrappedKey is a data key as it lies in a key column, and what it is bound to.
type WrappedKey struct {
	Column  string
	Binding Binding
}

// KeyResult is the answer for one [WrappedKey]: a data key or an error.
type KeyResult struct {
	Key DataKey
	Err error
}

// UnwrapAll opens many data keys side by side, [Config.Concurrency] requests at
// a time, in few requests where the provider takes batches. Results come in the
// order of the columns. Identical columns with the same binding cost one call
// and share one key, so wipe them together.
//
// A column that fails has its own error and does not hide the others. An error
// that will meet all of a version, such as [ErrDenied], and the end of ctx stop
// what has not begun; what was stopped has that error too.
func (b *Box) UnwrapAll(ctx context.Context, columns []WrappedKey) []KeyResult {
	results := make([]KeyResult, len(columns))
	if len(columns) == 1 {
		results[0].Key, results[0].Err = b.Unwrap(ctx, columns[0].Column, columns[0].Binding)
		return results
	}
	var jobs []*unwrapJob
	known := make(map[string]*unwrapJob, len(columns))
	for i, c := range columns {
		u, err := b.unwrapping(c.Column, c.Binding, keycolumn.FormatKey)
		if err != nil {
			results[i].Err = err
			continue
		}
		id := u.identity(c.Column)
		job := known[id]
		if job == nil {
			job = &unwrapJob{unwrapping: u}
			known[id], jobs = job, append(jobs, job)
		}
		job.places = append(job.places, i)
	}
	b.unwrapJobs(ctx, jobs)
	for _, job := range jobs {
		for _, i := range job.places {
			results[i] = job.KeyResult
		}
	}
	return results
}

// unwrapJob is one distinct column of many.
type unwrapJob struct {
	*unwrapping
	KeyResult
	places []int // where its result belongs
}

// identity is equal for columns whose unwrapping is the same call with the same
// checks: the same text under the same context and binding.
func (u *unwrapping) identity(column string) string {
	id := canon.AppendString(nil, column)
	id = u.contexts[0].appendCanonical(id)
	return string(append(id, u.binding...))
}

// unwrapJobs fills the results of all jobs.
func (b *Box) unwrapJobs(ctx context.Context, jobs []*unwrapJob) {
	units := unitsOf(jobs)
	stopped := make(map[int]*atomic.Pointer[error], len(b.config.Versions))
	for version := range b.config.Versions {
		stopped[version] = new(atomic.Pointer[error])
	}
	parallel(len(units), b.config.Concurrency, func(i int) {
		unit := units[i]
		stop := stopped[unit[0].version]
		if err := stop.Load(); err != nil {
			for _, job := range unit {
				job.Err = *err
			}
			return
		}
		b.unwrapUnit(ctx, unit)
		for _, job := range unit {
			if job.Err != nil && (ConcernsAll(job.Err) || ctx.Err() != nil) {
				stop.Store(&job.Err)
			}
		}
	})
}

// unitsOf cuts the jobs into what goes into one request each.
func unitsOf(jobs []*unwrapJob) (units [][]*unwrapJob) {
	open := make(map[int][]*unwrapJob) // by version, not yet full
	for _, job := range jobs {
		batch, ok := job.recipe.Provider.(BatchProvider)
		if !ok {
			units = append(units, []*unwrapJob{job})
			continue
		}
		unit := append(open[job.version], job)
		if len(unit) == batch.BatchSize() {
			units, unit = append(units, unit), nil
		}
		open[job.version] = unit
	}
	for _, unit := range open {
		if len(unit) > 0 {
			units = append(units, unit)
		}
	}
	return units
}

// unwrapUnit makes one request for a unit, and single ones for items of a batch
// that a second context or wrap may open.
func (b *Box) unwrapUnit(ctx context.Context, unit []*unwrapJob) {
	if len(unit) > 1 {
		unit = b.unwrapBatch(ctx, unit)
	}
	for _, job := range unit {
		raw, err := b.decrypt(ctx, job.unwrapping)
		if err == nil {
			job.Key, err = job.key(raw)
		}
		job.Err = err
	}
}

// unwrapBatch makes one request for several jobs and returns those that are
// worth a try of their own.
func (b *Box) unwrapBatch(ctx context.Context, unit []*unwrapJob) (again []*unwrapJob) {
	provider := unit[0].recipe.Provider.(BatchProvider)
	items := make([]Wrapped, len(unit))
	for i, job := range unit {
		items[i] = Wrapped{Ciphertext: job.candidates()[0].Ciphertext, Context: job.contexts[0]}
	}
	event := func() Event {
		return Event{Op: OpUnwrap, Key: provider.Info(), Version: unit[0].version, Context: items[0].Context, Count: len(items)}
	}
	var answers []Result
	err := b.observed(ctx, event, func() (err error) {
		answers, err = provider.DecryptBatch(ctx, items)
		if err == nil && len(answers) != len(items) {
			err = fmt.Errorf("%w: %d answers to %d items", ErrUnavailable, len(answers), len(items))
		}
		return err
	})
	for i, job := range unit {
		if err != nil {
			job.Err = located(OpUnwrap, provider, job.version, err)
			continue
		}
		switch answer := answers[i]; {
		case answer.Err == nil:
			if err := job.check(answer.Bytes); err != nil {
				job.Err = located(OpUnwrap, provider, job.version, err)
			} else {
				job.Key, job.Err = job.key(answer.Bytes)
			}
		case errors.Is(answer.Err, ErrDecrypt) && len(job.contexts)*len(job.candidates()) > 1:
			again = append(again, job)
		default:
			job.Err = located(OpUnwrap, provider, job.version, answer.Err)
		}
	}
	return again
}

// KeyToWrap is a data key on its way into a key column.
type KeyToWrap struct {
	Key     DataKey
	Binding Binding
}

// ColumnResult is the answer for one [KeyToWrap]: the text of its key column or
// an error.
type ColumnResult struct {
	Column string
	Err    error
}

// WrapAll wraps many data keys under the current version side by side, in the
// way of [Box.UnwrapAll].
func (b *Box) WrapAll(ctx context.Context, keys []KeyToWrap) []ColumnResult {
	results := make([]ColumnResult, len(keys))
	size := 1
	batch, isBatch := b.config.Versions[b.config.Current].Provider.(BatchProvider)
	if isBatch {
		size = batch.BatchSize()
	}
	var stop atomic.Pointer[error]
	parallel((len(keys)+size-1)/size, b.config.Concurrency, func(i int) {
		from, to := i*size, min((i+1)*size, len(keys))
		if err := stop.Load(); err != nil {
			for j := from; j < to; j++ {
				results[j].Err = *err
			}
			return
		}
		if to-from > 1 {
			b.wrapBatch(ctx, batch, keys[from:to], results[from:to])
		} else {
			results[from].Column, results[from].Err = b.Wrap(ctx, keys[from].Key, keys[from].Binding)
		}
		for j := from; j < to; j++ {
			if err := results[j].Err; err != nil && (ConcernsAll(err) || ctx.Err() != nil) {
				stop.Store(&err)
			}
		}
	})
	return results
}

// wrapBatch makes one request for several keys.
func (b *Box) wrapBatch(ctx context.Context, provider BatchProvider, keys []KeyToWrap, results []ColumnResult) {
	var items []Plain
	var jobs []*wrapping
	var places []int
	for i, k := range keys {
		w, err := b.wrapping(k.Key, k.Binding)
		if err != nil {
			results[i].Err = err
			continue
		}
		defer clear(w.raw)
		items = append(items, Plain{Plaintext: w.raw, Context: w.context})
		jobs, places = append(jobs, w), append(places, i)
	}
	if len(jobs) == 0 {
		return
	}
	event := func() Event {
		return Event{Op: OpWrap, Key: provider.Info(), Version: b.config.Current, Context: items[0].Context, Count: len(items)}
	}
	var answers []Result
	err := b.observed(ctx, event, func() (err error) {
		answers, err = provider.EncryptBatch(ctx, items)
		if err == nil && len(answers) != len(items) {
			err = fmt.Errorf("%w: %d answers to %d items", ErrUnavailable, len(answers), len(items))
		}
		return err
	})
	for j, w := range jobs {
		result := &results[places[j]]
		switch {
		case err != nil:
			result.Err = located(OpWrap, provider, w.version, err)
		case answers[j].Err != nil:
			result.Err = located(OpWrap, provider, w.version, answers[j].Err)
		default:
			result.Column, result.Err = w.column([]Wrap{{Tag: provider.Info().Tag, Ciphertext: answers[j].Bytes}})
		}
	}
}

// parallel calls f for 0 to n-1, at most limit at a time, and returns when all
// calls have ended.
func parallel(n, limit int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, limit) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	workers.Wait()
}
