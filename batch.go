package kmsencrypted

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

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
// a time, in few requests where the provider takes batches, and in none for keys
// in the cache. Results come in the order of the columns. Identical columns with
// the same binding cost one call; each result is a key of its own to wipe.
//
// A column that fails has its own error and does not hide the others. An error
// that will meet all of a version, such as [ErrDenied], and the end of ctx stop
// what has not begun; what was stopped has that error too.
func (b *Box) UnwrapAll(ctx context.Context, columns []WrappedKey) []KeyResult {
	if len(columns) == 0 {
		return nil
	}
	results := make([]KeyResult, len(columns))
	var jobs []*unwrapJob
	known := make(map[string]*unwrapJob, len(columns))
	for i, c := range columns {
		u, err := b.unwrapping(c.Column, c.Binding, keycolumn.FormatKey)
		if err != nil {
			results[i].Err = err
			continue
		}
		if job := known[u.identity()]; job != nil {
			job.places = append(job.places, i)
			continue
		}
		job := &unwrapJob{unwrapping: u, places: []int{i}}
		known[u.identity()] = job
		if cached, ok := b.cached(u); ok {
			job.KeyResult = cached
		}
		jobs = append(jobs, job)
	}
	b.unwrapJobs(ctx, slices.DeleteFunc(slices.Clone(jobs), (*unwrapJob).isDone))
	for _, job := range jobs {
		results[job.places[0]] = job.KeyResult
		for _, i := range job.places[1:] {
			results[i] = job.KeyResult
			if job.Err == nil {
				results[i].Key = job.Key.clone()
			}
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

func (j *unwrapJob) isDone() bool { return !j.Key.IsZero() || j.Err != nil }

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
		us := make([]*unwrapping, len(unit))
		for i, job := range unit {
			us[i] = job.unwrapping
		}
		for i, result := range b.fetch(ctx, us) {
			unit[i].KeyResult = result
			if result.Err != nil && (ConcernsAll(result.Err) || ctx.Err() != nil) {
				stop.Store(&result.Err)
			}
		}
	})
}

// unitsOf cuts the jobs into what goes into one request each.
func unitsOf(jobs []*unwrapJob) (units [][]*unwrapJob) {
	open := make(map[int][]*unwrapJob) // by version, not yet full
	for _, job := range jobs {
		_, size := batching(job.recipe.Provider)
		if size == 1 || job.legacy || len(job.wraps) == 0 {
			units = append(units, []*unwrapJob{job})
			continue
		}
		unit := append(open[job.version], job)
		if len(unit) == size {
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

// batching tells how many values a provider takes in one request; 1 and nil if
// it takes no batches. Several providers at once take none.
func batching(provider Provider) (BatchProvider, int) {
	if _, multi := provider.(MultiWrapper); multi {
		return nil, 1
	}
	if batch, ok := provider.(BatchProvider); ok {
		return batch, max(batch.BatchSize(), 1)
	}
	return nil, 1
}

// unwrapFlights makes one request for the flights of a unit, and single ones for
// items of a batch that a second context or wrap may open.
func (b *Box) unwrapFlights(ctx context.Context, unit []*flight) {
	single := unit
	if len(unit) > 1 {
		single = b.unwrapBatch(ctx, unit)
	}
	for _, f := range single {
		raw, err := b.decrypt(ctx, f.unwrapping)
		if err == nil {
			f.Key, err = f.key(raw)
		}
		f.Err = err
	}
	for _, f := range unit {
		b.remember(f.unwrapping, f.KeyResult)
	}
}

// unwrapBatch makes one request for several flights and returns those that are
// worth a try of their own.
func (b *Box) unwrapBatch(ctx context.Context, unit []*flight) (again []*flight) {
	provider, _ := batching(unit[0].recipe.Provider)
	items := make([]Wrapped, len(unit))
	for i, f := range unit {
		items[i] = Wrapped{Ciphertext: f.candidates()[0].Ciphertext, Context: f.contexts[0]}
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
	for i, f := range unit {
		if err != nil {
			f.Err = located(OpUnwrap, provider, f.version, err)
			continue
		}
		switch answer := answers[i]; {
		case answer.Err == nil:
			if err := f.check(answer.Bytes); err != nil {
				clear(answer.Bytes)
				f.Err = located(OpUnwrap, provider, f.version, err)
			} else {
				f.Key, f.Err = f.key(answer.Bytes)
			}
		case errors.Is(answer.Err, ErrDecrypt) && len(f.contexts)*len(f.candidates()) > 1:
			again = append(again, f)
		default:
			f.Err = located(OpUnwrap, provider, f.version, answer.Err)
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
	if len(keys) == 0 {
		return nil
	}
	results := make([]ColumnResult, len(keys))
	batch, size := batching(b.config.Versions[b.config.Current].Provider)
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
		w, err := b.wrapping(ctx, k.Key, k.Binding, keycolumn.FormatKey)
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
