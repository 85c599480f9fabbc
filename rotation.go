package kmsencrypted

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/parallel"
)

// Rewrap moves a key column to the current version: another key, key service or
// context, but the same data key. Columns and files sealed under the key stay
// valid. Rewrap returns [ErrNeedsRekey] if source and current version differ in
// [Format]. It drops a record seal; the caller must write it again.
//
// If the current provider is a [Rewrapper] and the binding of the column does not
// change, which is always so under Ruby versions, the data key stays inside the
// key service. That takes one call, and does not prove that the column opens.
// Otherwise, or if the service denies that call, Rewrap unwraps the key, never
// from the cache, and wraps it: two calls.
func (b *Box) Rewrap(ctx context.Context, column string, binding Binding) (rewrapped string, err error) {
	r := b.RewrapAll(ctx, []WrappedKey{{Column: column, Binding: binding}})[0]
	return r.Column, r.Err
}

// Missing returns the tags of the wraps that a key column at the current version
// lacks, because a key service was unavailable when it was written. [Box.Rewrap]
// adds them. Missing returns nil for a column at another version, and if the
// provider makes only one wrap.
func (b *Box) Missing(column string, binding Binding) (tags []string, err error) {
	if err := b.usable(); err != nil {
		return nil, err
	}
	if ColumnVersion(column) != b.written(binding) {
		return nil, nil
	}
	to, err := b.target(binding, keycolumn.FormatKey)
	if err != nil {
		return nil, err
	}
	counter, ok := Ability[WrapCounter](to.recipe.Provider)
	if !ok {
		return nil, nil
	}
	if tags, err = counter.Missing(column); err != nil {
		return nil, located(OpUnwrap, to.recipe.Provider, to.version, err)
	}
	return tags, nil
}

// RewrapAll moves many key columns to the current version like [Box.Rewrap],
// concurrently, and in few requests if the provider supports batches. Results are
// in the order of the columns. Errors are as in [Box.UnwrapAll].
func (b *Box) RewrapAll(ctx context.Context, columns []WrappedKey) []ColumnResult {
	results := make([]ColumnResult, len(columns))
	var inside, outside []*rewrapping
	for i, c := range columns {
		r, err := b.rewrapping(c)
		if err != nil {
			results[i].Err = err
			continue
		}
		r.result = &results[i]
		if r.staysInside() {
			inside = append(inside, r)
		} else {
			outside = append(outside, r)
		}
	}
	if len(inside) > 0 {
		outside = append(outside, b.rewrapInside(ctx, inside)...)
	}
	if len(outside) > 0 {
		b.rewrapOutside(ctx, outside)
	}
	return results
}

// rewrapping is a key column that is being moved to the current version.
type rewrapping struct {
	from   *unwrapping
	to     *wrapping
	result *ColumnResult
}

func (b *Box) rewrapping(c WrappedKey) (*rewrapping, error) {
	from, err := b.unwrapping(c.Column, c.Binding, keycolumn.FormatKey)
	if err == nil {
		err = from.parse()
	}
	if err != nil {
		return nil, err
	}
	to, err := b.target(c.Binding, keycolumn.FormatKey)
	switch {
	case err != nil:
		return nil, err
	case from.recipe.Format != to.recipe.Format:
		return nil, &Error{Op: string(OpRewrap), Version: from.version, Err: ErrNeedsRekey}
	}
	return &rewrapping{from: from, to: to}, nil
}

// staysInside reports whether the data key can stay inside the key service. A
// commitment cannot be computed there, so the binding must be unchanged.
func (r *rewrapping) staysInside() bool {
	_, can := r.to.recipe.Provider.(Rewrapper)
	_, multi := r.to.recipe.Provider.(MultiWrapper)
	return can && !multi && !r.from.legacy && bytes.Equal(r.from.binding, r.to.binding)
}

// RewrapsInside reports whether every rewrap from a version to another one is
// known to stay inside the key service, which takes one call instead of two. It
// makes no call. It returns false for a version that cannot be read.
func (b *Box) RewrapsInside(version, target int) bool {
	from, err := b.Version(version)
	to, targetErr := b.Version(target)
	if err != nil || targetErr != nil {
		return false
	}
	sameBinding := from.Format == to.Format && from.Context == nil && to.Context == nil && from.OmitID == to.OmitID && !from.RecordSeal && !to.RecordSeal
	if !sameBinding || from.Provider == nil || to.Provider == nil {
		return false
	}
	foreteller, ok := Ability[RewrapForeteller](to.Provider)
	if !ok {
		return false
	}
	source := from.Provider
	if behind, ok := Ability[RewrapForeteller](source); ok {
		source = behind
	}
	return foreteller.RewrapsFrom(source)
}

// rewrapInside makes the requests that keep data keys inside the key service. It
// returns the columns for which the service cannot do that, or does not permit it.
// The latter need not be an error: a program with a role in each of two accounts
// may unwrap with one and wrap with the other.
func (b *Box) rewrapInside(ctx context.Context, all []*rewrapping) (left []*rewrapping) {
	units := intoUnits(all, (*rewrapping).unit)
	again := make([][]*rewrapping, len(units))
	var denied sync.Map // by way
	parallel.Do(len(units), b.config.Concurrency, func(i int) {
		if _, known := denied.Load(units[i][0].way()); known {
			again[i] = units[i]
			return
		}
		for j, answer := range b.rewrapUnit(ctx, units[i]) {
			r := units[i][j]
			switch {
			case answer.Err == nil:
				r.to.commitment = r.from.commitment
				r.result.Column, r.result.Err = r.to.column([]Wrap{{Tag: r.to.recipe.Provider.Info().Tag, Ciphertext: answer.Bytes}})
			case errors.Is(answer.Err, errors.ErrUnsupported):
				again[i] = append(again[i], r)
			case errors.Is(answer.Err, ErrDenied):
				denied.Store(r.way(), nil)
				again[i] = append(again[i], r)
			default:
				r.result.Err = located(OpRewrap, r.to.recipe.Provider, r.from.version, answer.Err)
			}
		}
	})
	for _, unit := range again {
		left = append(left, unit...)
	}
	return left
}

// way identifies the source and destination of a rewrap.
func (r *rewrapping) way() [2]route { return [2]route{r.from.route(), r.to.route()} }

// unit returns a key that columns in the same request have in common, and the
// maximum number of columns in it. A column for which several wraps or contexts
// must be tried makes a unit of its own.
func (r *rewrapping) unit() (key [2]route, size int) {
	size = 1
	if _, ok := r.to.recipe.Provider.(BatchRewrapper); ok && len(r.from.contexts)*len(r.from.candidates()) == 1 {
		_, size = batching(r.to.recipe.Provider)
	}
	return r.way(), size
}

// rewrapUnit makes one request for several columns, or tries the wraps and
// contexts of a single column.
func (b *Box) rewrapUnit(ctx context.Context, unit []*rewrapping) []Result {
	answers := make([]Result, len(unit))
	if len(unit) > 1 {
		batch, err := b.rewrapBatch(ctx, unit)
		switch {
		case err == nil:
			return batch
		case !errors.Is(err, errors.ErrUnsupported):
			for i := range answers {
				answers[i].Err = err
			}
			return answers
		}
	}
	for i, r := range unit {
		answers[i].Bytes, answers[i].Err = b.rewrapOne(ctx, r)
	}
	return answers
}

func (b *Box) rewrapBatch(ctx context.Context, unit []*rewrapping) (answers []Result, err error) {
	first := unit[0]
	service := first.to.recipe.Provider.(BatchRewrapper)
	items := make([]Rewrapping, len(unit))
	for i, r := range unit {
		items[i] = Rewrapping{
			From: Wrapped{Ciphertext: r.from.candidates()[0].Ciphertext, Context: r.from.contexts[0]},
			To:   r.to.context,
		}
	}
	return b.batch(ctx, service, first.event, len(items), func(ctx context.Context) ([]Result, error) {
		return service.RewrapBatch(ctx, items, first.from.recipe.Provider)
	})
}

func (b *Box) rewrapOne(ctx context.Context, r *rewrapping) (ciphertext []byte, err error) {
	service := r.to.recipe.Provider.(Rewrapper)
	err = r.from.firstThatOpens(func(old Wrapped) error {
		return b.observed(ctx, service, r.event, func(ctx context.Context) (err error) {
			ciphertext, err = service.Rewrap(ctx, old, r.from.recipe.Provider, r.to.context)
			return err
		})
	})
	return ciphertext, err
}

func (r *rewrapping) event() Event {
	e := r.to.event()
	e.Op = OpRewrap
	return e
}

// rewrapOutside unwraps and wraps.
func (b *Box) rewrapOutside(ctx context.Context, all []*rewrapping) {
	jobs := make([]unwrapJob, len(all)) // which bypass the cache
	parallel.Parts(len(jobs), inMemoryUnit, runtime.GOMAXPROCS(0), func(from, to int) {
		for i := from; i < to; i++ {
			jobs[i].unwrapping = all[i].from
			jobs[i].done = b.unwrapHere(ctx, &jobs[i])
		}
	})
	q := newUnwrapQueue(ctx, b, len(jobs))
	for i := range jobs {
		if !jobs[i].done {
			q.add(&jobs[i])
		}
	}
	q.close()
	for range q.units {
		q.next()
	}
	wraps := make([]*wrapJob, 0, len(all))
	for i, r := range all {
		if r.result.Err = jobs[i].Err; r.result.Err == nil {
			wraps = append(wraps, &wrapJob{wrapping: r.to, key: jobs[i].Key, result: r.result})
		}
	}
	b.wrapJobs(ctx, wraps)
	for _, job := range wraps {
		job.key.Wipe()
	}
}
