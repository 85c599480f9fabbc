package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// batch is a list of records that were read.
type batch[R any] struct {
	store     *Store[R]
	target    int
	kind      kind[R]
	compared  []column // of the kind
	witnesses []column // that were read
	replaces  bool     // data keys, once they are rotated
	journals  bool     // replaced wrapped keys
	rekeys    bool     // records get new data keys
	derived   bool     // Open compares what is made of values too
	replaced  bool     // Open compares columns with those that they replace
	least     int      // keys of a record: one that has none may get one
	perRecord bool     // each record may have a key service of its own
	more      bool     // there may be records after these
	rows      []R
	records   []record // beside rows
	failures  []rotation.Failure
	unmoved   []rotation.Failure       // by Write, in the last pass
	proofs    int64                    // calls that Write made, in all its tries
	old       [][]kmsencrypted.DataKey // of the dependents, beside rows
}

// record is the batch's data for a row in addition to its struct.
type record struct {
	id        []any
	witnesses []any          // beside those of the batch
	before    []driver.Value // values of the compared columns when they were read
	state     recordState
	away      error // why its key service does not answer
}

type recordState uint8

const (
	waiting recordState = iota
	finished
	failed
)

func (b *batch[R]) Len() int { return len(b.rows) }

func (b *batch[R]) More() bool { return b.more }

func (b *batch[R]) Last() string {
	if len(b.records) == 0 {
		return ""
	}
	return encodeKey(b.records[len(b.records)-1].id)
}

func (b *batch[R]) Keys(from, to int) (n int) {
	for i := from; i < to; i++ {
		if b.records[i].state != waiting {
			continue
		}
		if b.kind.keys != nil {
			n += b.kind.keys(b.store.model, &b.rows[i])
			continue
		}
		keys := 0
		for _, c := range b.store.keys {
			if key := c.of(&b.rows[i]).Interface().(field.Key); !key.IsNull() {
				keys++
			}
		}
		n += max(keys, b.least)
	}
	return n
}

func (b *batch[R]) Failures() []rotation.Failure { return slices.Concat(b.failures, b.unmoved) }

func (b *batch[R]) Rotate(ctx context.Context, from, to int) error {
	b.rekeys = b.replaces
	for i := from; i < to; i++ {
		if err := b.remember(i); err != nil {
			return err
		}
	}
	return b.each(ctx, from, to, func(ctx context.Context, rows ...*R) error { return b.kind.rotate(b, ctx, rows...) })
}

// remember stores the values of a row when it was read.
func (b *batch[R]) remember(i int) error {
	if b.records[i].before != nil {
		return nil
	}
	before := make([]driver.Value, len(b.compared))
	for n, c := range b.compared {
		if c.witness {
			at := slices.IndexFunc(b.witnesses, func(w column) bool { return w.name == c.name })
			before[n] = b.records[i].witnesses[at]
			continue
		}
		v, err := c.value(&b.rows[i])
		if err != nil {
			return fmt.Errorf("sqlstore: column %s of %s: %w", c.name, b.store.Table(), err)
		}
		before[n] = v
	}
	b.records[i].before = before
	return nil
}

func (b *batch[R]) Open(ctx context.Context, from, to int) error {
	defer b.wipe(from, to)
	do := b.open
	switch {
	case b.derived:
		do = b.openAndCompare
	case b.replaced:
		do = b.openReplaced
	}
	return b.each(ctx, from, to, do)
}

func (b *batch[R]) openAndCompare(ctx context.Context, rows ...*R) error {
	return inStages(ctx, rows, stage[R]{do: b.open}, stage[R]{do: b.store.model.CheckDerived})
}

func (b *batch[R]) openReplaced(ctx context.Context, rows ...*R) error {
	return inStages(ctx, rows, stage[R]{do: b.open}, stage[R]{do: b.store.model.CheckReplaced})
}

func (b *batch[R]) open(ctx context.Context, rows ...*R) error {
	return b.store.model.Open(ctx, rows...)
}

// each applies do to the waiting records and processes the results: records that
// succeed are finished.
func (b *batch[R]) each(ctx context.Context, from, to int, do func(context.Context, ...*R) error) error {
	var rows []*R
	var at []int
	for i := from; i < to; i++ {
		if b.records[i].state == waiting {
			rows, at = append(rows, &b.rows[i]), append(at, i)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := b.oldKeys(ctx, rows, at); err != nil {
		return err
	}
	errs, err := byRecord(do(ctx, rows...), len(rows))
	if err != nil {
		return err
	}
	var stops error
	for n, i := range at {
		switch err := errs[n]; {
		case err == nil:
			b.records[i].state = finished
		case ctx.Err() != nil:
			stops = worse(stops, err)
		case kmsencrypted.Retryable(err):
			b.records[i].away = err
			stops = worse(stops, err)
		case kmsencrypted.ConcernsAll(err) && !b.perRecord:
			stops = worse(stops, err)
		default:
			b.records[i].state = failed
			b.failures = append(b.failures, rotation.Failure{
				Record: b.store.recordName(b.records[i].id), Class: rotation.FailureClass(err), Err: err,
			})
		}
	}
	if b.perRecord && stops != nil && ctx.Err() == nil {
		stops = fmt.Errorf("%w: %w", rotation.ErrOneProvider, stops)
	}
	return stops
}

// byRecord splits an error by record. It returns an error that belongs to no record.
func byRecord(err error, n int) (map[int]error, error) {
	if err == nil {
		return nil, nil
	}
	if failures, ok := errors.AsType[field.Failures](err); ok {
		errs := make(map[int]error, len(failures))
		for _, f := range failures {
			errs[f.Index] = f.Err
		}
		return errs, nil
	}
	if n == 1 {
		return map[int]error{0: err}, nil
	}
	return nil, err
}

// worse prefers an error that retrying cannot fix.
func worse(a, b error) error {
	if a == nil || kmsencrypted.ConcernsAll(b) {
		return b
	}
	return a
}

// wipe overwrites the data keys of records.
func (b *batch[R]) wipe(from, to int) {
	for i := from; i < to; i++ {
		for _, c := range b.store.keys {
			c.of(&b.rows[i]).Addr().Interface().(*field.Key).Wipe()
		}
		for _, old := range b.old {
			old[i].Wipe()
		}
	}
}

// swap collects the updates of the records that were rotated.
func (b *batch[R]) swap(run string) (*swap, error) {
	s := &swap{run: run, same: b.compared}
	changes := make([][]field.Assignment, len(b.rows))
	places := b.store.model.ContextColumns()
	for i := range b.rows {
		if b.records[i].state != finished {
			continue
		}
		w, err := b.store.model.Write(&b.rows[i])
		if err != nil {
			return nil, err
		}
		if err := b.checkTarget(w.Set); err != nil {
			return nil, err
		}
		// A rotation moves no record: these are compared, and stay as they are.
		w.Set = slices.DeleteFunc(w.Set, func(a field.Assignment) bool { return slices.Contains(places, a.Column) })
		if len(w.Set) == 0 {
			continue // it needs no change
		}
		changes[i] = w.Set
		s.indexes = append(s.indexes, i)
		for _, a := range w.Set {
			if err := s.addColumn(a.Column); err != nil {
				return nil, err
			}
		}
	}
	s.updates = make([]update, 0, len(s.indexes))
	for _, i := range s.indexes {
		r := b.records[i]
		u := update{id: r.id, same: r.before, set: make([]driver.Value, len(s.set))}
		for n, name := range s.set {
			// Unchanged columns are compared too, so setting them to the same value is safe.
			u.set[n] = r.before[s.at(name)]
		}
		for _, a := range changes[i] {
			u.set[s.atSet(a.Column)] = a.Value
		}
		s.updates = append(s.updates, u)
	}
	return s, nil
}

// checkTarget checks that the keys of a record are at the target afterwards.
// Otherwise the run would find it again for ever, or end without it.
func (b *batch[R]) checkTarget(set []field.Assignment) error {
	for _, a := range set {
		i := slices.IndexFunc(b.store.keys, func(key column) bool { return key.name == a.Column })
		if i < 0 {
			continue
		}
		text, _ := a.Value.(string)
		if target := b.store.targetOf(b.store.keys[i], b.target); !strings.HasPrefix(text, fmt.Sprintf("v%d:", target)) {
			return fmt.Errorf("sqlstore: %w: the model does not write version %d: has it another Box than the Rotator?", kmsencrypted.ErrConfig, target)
		}
	}
	return nil
}
