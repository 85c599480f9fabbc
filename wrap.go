package kmsencrypted

import (
	"cmp"
	"context"
	"sync/atomic"

	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/parallel"
)

// Wrap wraps a data key under the current version and returns the text of its
// key column, such as "v2:AQ…". It makes one call to the key service. A key from
// the cache takes one more call before that, because it has to be unwrapped again.
func (b *Box) Wrap(ctx context.Context, k DataKey, to Binding) (column string, err error) {
	w, err := b.wrapping(ctx, k, to, keycolumn.FormatKey)
	if err != nil {
		return "", err
	}
	return b.wrap(ctx, w)
}

func (b *Box) wrap(ctx context.Context, w *wrapping) (column string, err error) {
	wraps, err := b.encrypt(ctx, w)
	clear(w.raw)
	if err != nil {
		return "", err
	}
	return w.column(wraps)
}

// wrapping is a column that is being written.
type wrapping struct {
	version int
	recipe  Version
	format  byte   // what the column will hold: a key or a secret
	raw     []byte // what the provider wraps; wiped afterwards
	context BoundContext

	commitment [keycolumn.CommitmentSize]byte // native only, as is the binding
	binding    []byte                         // in canonical form
	usual      [usualBinding]byte             // backs it
}

// wrapping starts a column for a data key and copies the bytes of the key.
func (b *Box) wrapping(ctx context.Context, k DataKey, to Binding, format byte) (*wrapping, error) {
	w, err := b.target(to, format)
	if err != nil {
		return nil, err
	}
	return w, w.take(ctx, k)
}

// target starts a column of the current version without a data key.
func (b *Box) target(to Binding, format byte) (*wrapping, error) {
	if err := b.usable(); err != nil {
		return nil, err
	}
	w := &wrapping{version: b.written(to), format: format}
	var err error
	if w.recipe, err = b.Version(w.version); err != nil {
		return nil, err
	}
	w.context, err = bind(to.Context, contextForm{version: w.version, escapes: railsDefault})
	if err == nil {
		w.recipe, err = b.chosen(w.recipe, w.version, to.Subject, w.context)
	}
	if err != nil {
		return nil, &Error{Op: string(OpWrap), Version: w.version, Err: err}
	}
	if w.recipe.Format == Native {
		if format == keycolumn.FormatKey && !w.recipe.OmitID && len(to.ID) == 0 {
			return nil, &Error{Op: string(OpWrap), Version: w.version, Err: ErrNoID}
		}
		w.binding = to.appendCanonical(w.usual[:0], format, w.recipe, w.context)
	}
	return w, nil
}

// written is the version that a binding is wrapped under.
func (b *Box) written(to Binding) int { return cmp.Or(to.Target, b.config.Current) }

// take copies the bytes of a key into the wrapping and commits to it.
func (w *wrapping) take(ctx context.Context, k DataKey) (err error) {
	if w.recipe.Format == Native {
		w.commitment, err = k.commit(w.binding)
	}
	if err == nil {
		w.raw, err = k.freshRaw(ctx)
	}
	if err != nil {
		return &Error{Op: string(OpWrap), Version: w.version, Err: err}
	}
	return nil
}

// encrypt calls the provider.
func (b *Box) encrypt(ctx context.Context, w *wrapping) (wraps []Wrap, err error) {
	provider := w.recipe.Provider
	err = b.observed(ctx, provider, func() Event { return w.event() }, func(ctx context.Context) (err error) {
		if multi, ok := provider.(MultiWrapper); ok {
			wraps, err = multi.EncryptAll(ctx, w.raw, w.context)
			return err
		}
		ciphertext, err := provider.Encrypt(ctx, w.raw, w.context)
		wraps = []Wrap{{Tag: provider.Info().Tag, Ciphertext: ciphertext}}
		return err
	})
	if err != nil {
		return nil, located(OpWrap, provider, w.version, err)
	}
	return wraps, nil
}

func (w *wrapping) route() route { return w.recipe.route(w.version) }

func (w *wrapping) event() Event {
	return Event{Op: OpWrap, Key: w.recipe.Provider.Info(), Version: w.version, Context: w.context, Count: 1}
}

// column returns the text of the column for the wraps.
func (w *wrapping) column(wraps []Wrap) (string, error) {
	if w.recipe.Format == Ruby {
		return keycolumn.JoinVersion(w.version, wraps[0].Ciphertext), nil
	}
	return w.native(wraps, nil)
}

// usualColumn is the capacity in bytes that keeps a typical column on the stack.
const usualColumn = 384

// native returns the text of a native column. rest follows the wraps.
func (w *wrapping) native(wraps []Wrap, rest []byte) (string, error) {
	n := keycolumn.Native{Format: w.format, Commitment: w.commitment, Wraps: wraps, Rest: rest}
	body, err := n.Append(make([]byte, 0, usualColumn))
	if err != nil {
		return "", &Error{Op: string(OpWrap), Version: w.version, Err: ErrTooLarge, Cause: err}
	}
	return keycolumn.JoinVersion(w.version, body), nil
}

// KeyToWrap is a data key for [Box.WrapAll], with its binding.
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

// WrapAll wraps many data keys under the current version. Like [Box.UnwrapAll]
// it makes [Config.Concurrency] requests at a time, and few if the provider takes
// batches. Results are in the order of the keys, and each has its own error.
func (b *Box) WrapAll(ctx context.Context, keys []KeyToWrap) []ColumnResult {
	if len(keys) == 0 {
		return nil
	}
	results := make([]ColumnResult, len(keys))
	jobs := make([]*wrapJob, 0, len(keys))
	for i, k := range keys {
		w, err := b.target(k.Binding, keycolumn.FormatKey)
		if err != nil {
			results[i].Err = err
			continue
		}
		jobs = append(jobs, &wrapJob{wrapping: w, key: k.Key, result: &results[i]})
	}
	if len(jobs) > 0 {
		b.wrapJobs(ctx, jobs)
	}
	return results
}

// wrapJobs does the jobs. An error that every job on a route would get ends that route.
func (b *Box) wrapJobs(ctx context.Context, jobs []*wrapJob) {
	stopped := make(map[route]*atomic.Pointer[error], 1)
	for _, job := range jobs {
		if r := job.route(); stopped[r] == nil {
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
}

// wrapJob is one data key of many.
type wrapJob struct {
	*wrapping
	key    DataKey
	result *ColumnResult
}

// unit groups keys by route, for [intoUnits].
func (j *wrapJob) unit() (key route, size int) {
	if staysInMemory(j.recipe.Provider) {
		return j.route(), inMemoryUnit
	}
	_, size = batching(j.recipe.Provider)
	return j.route(), size
}

// wrapUnit wraps one key or several, in one request if the provider takes batches.
func (b *Box) wrapUnit(ctx context.Context, unit []*wrapJob) {
	if _, batch := batching(unit[0].recipe.Provider); batch == 1 {
		for _, job := range unit {
			if job.result.Err = job.take(ctx, job.key); job.result.Err == nil {
				job.result.Column, job.result.Err = b.wrap(ctx, job.wrapping)
			}
		}
		return
	}
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
	answers, err := b.batch(ctx, provider, jobs[0].event, len(items), func(ctx context.Context) ([]Result, error) {
		return provider.EncryptBatch(ctx, items)
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

// intoUnits groups values into units, one request each. unitOf returns a key
// that values of one unit have in common, and the largest size of a unit. A value
// with size 1 makes a unit of its own.
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
