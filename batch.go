package kmsencrypted

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/parallel"
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

// request makes one request for the flights of a unit, and single ones for items
// of a batch that a second context or wrap may open.
func (b *Box) request(ctx context.Context, unit []*flight) {
	single := unit
	if len(unit) > 1 {
		single = b.unwrapBatch(ctx, unit)
	}
	for _, f := range single {
		f.raw, f.Err = b.decrypt(ctx, f.unwrapping)
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
	err := b.observed(ctx, event, func(ctx context.Context) (err error) {
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
			f.raw = answer.Bytes
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
	jobs := make([]*wrapJob, 0, len(keys))
	stopped := make(map[route]*atomic.Pointer[error], 1)
	for i, k := range keys {
		w, err := b.target(k.Binding, keycolumn.FormatKey)
		if err != nil {
			results[i].Err = err
			continue
		}
		jobs = append(jobs, &wrapJob{wrapping: w, key: k.Key, result: &results[i]})
		if r := w.route(); stopped[r] == nil {
			stopped[r] = new(atomic.Pointer[error])
		}
	}
	units := intoUnits(jobs, (*wrapJob).unit)
	parallel.Do(len(units), b.config.Concurrency, func(i int) {
		unit := units[i]
		stop := stopped[unit[0].route()]
		if err := stop.Load(); err != nil {
			for _, job := range unit {
				job.result.Err = *err
			}
			return
		}
		b.wrapUnit(ctx, unit)
		for _, job := range unit {
			if err := job.result.Err; err != nil && (ConcernsAll(err) || ctx.Err() != nil) {
				stop.Store(&err)
			}
		}
	})
	return results
}

// wrapJob is one data key of many.
type wrapJob struct {
	*wrapping
	key    DataKey
	result *ColumnResult
}

func (j *wrapJob) unit() (key route, size int) {
	_, size = batching(j.recipe.Provider)
	return j.route(), size
}

// wrapUnit makes one request for one key or several.
func (b *Box) wrapUnit(ctx context.Context, unit []*wrapJob) {
	ready := unit[:0:0]
	for _, job := range unit {
		if job.result.Err = job.take(ctx, job.key); job.result.Err == nil {
			defer clear(job.raw)
			ready = append(ready, job)
		}
	}
	switch len(ready) {
	case 0:
	case 1:
		ready[0].result.Column, ready[0].result.Err = b.wrap(ctx, ready[0].wrapping)
	default:
		b.wrapBatch(ctx, ready)
	}
}

func (b *Box) wrapBatch(ctx context.Context, jobs []*wrapJob) {
	provider, _ := batching(jobs[0].recipe.Provider)
	items := make([]Plain, len(jobs))
	for i, job := range jobs {
		items[i] = NewPlain(job.raw, job.context)
	}
	event := func() Event {
		return Event{Op: OpWrap, Key: provider.Info(), Version: b.config.Current, Context: items[0].Context, Count: len(items)}
	}
	var answers []Result
	err := b.observed(ctx, event, func(ctx context.Context) (err error) {
		answers, err = provider.EncryptBatch(ctx, items)
		if err == nil && len(answers) != len(items) {
			err = fmt.Errorf("%w: %d answers to %d items", ErrUnavailable, len(answers), len(items))
		}
		return err
	})
	for i, job := range jobs {
		answer := Result{Err: err}
		if err == nil {
			answer = answers[i]
		}
		if answer.Err != nil {
			job.result.Err = located(OpWrap, provider, job.version, answer.Err)
			continue
		}
		job.result.Column, job.result.Err = job.column([]Wrap{{Tag: provider.Info().Tag, Ciphertext: answer.Bytes}})
	}
}

// intoUnits cuts values into what goes into one request each. unitOf says with
// which others a value may go, and how many of them one request takes: with 1 it
// goes alone.
func intoUnits[T any, K comparable](all []T, unitOf func(T) (key K, size int)) (units [][]T) {
	open := make(map[K][]T, 1) // not yet full
	for _, v := range all {
		key, size := unitOf(v)
		if size == 1 {
			units = append(units, []T{v})
			continue
		}
		unit := append(open[key], v)
		if len(unit) == size {
			units, unit = append(units, unit), nil
		}
		open[key] = unit
	}
	for _, unit := range open {
		if len(unit) > 0 {
			units = append(units, unit)
		}
	}
	return units
}
