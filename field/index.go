package field

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
)

// Index is a blind index: a column with a keyed hash, which finds rows by the
// value of an encrypted field. Its tag names the field and determines the hash:
//
//	EmailIndex field.Index `db:"email_bidx" kms:"of=Email,expression=lower"`
//
// Options are expression= (see [blindindex.ParseExpression]), algorithm= and slow
// (see [blindindex.ParseAlgorithm]), size= in bytes, bits=, and binary. Keys are
// derived from [Config.IndexKey]. An index that needs more than a tag can express
// is configured in [Config.Indexes]. An index over several fields lists them with
// '+': of=First+Last.
//
// A date is indexed as Ruby's text for it, "2020-02-29"; a time as "2020-02-29 12:00:00
// UTC", without the fraction of a second; a time of day as one of 2000-01-01; a decimal as
// "12.5"; other types by MarshalText. [Model.Lookup] takes the same types. NewModel
// refuses an index of a type without a text of Ruby's.
//
// It is computed whenever its field is sealed, so this library keeps it up to
// date. Other programs that write these columns must leave the field's column and
// the index alone or set both.
type Index struct {
	h head
}

// Scan reads the column from the database; it implements [sql.Scanner].
func (x *Index) Scan(src any) error { return x.h.scan(src) }

// Value returns the column for the database; it implements [driver.Valuer]. It
// returns [kmsencrypted.ErrNotLoaded] for an index that was neither read nor
// computed.
func (x Index) Value() (driver.Value, error) {
	if x.h.state == unset {
		return nil, kmsencrypted.ErrNotLoaded
	}
	return x.h.stored.value(), nil
}

// String hides the hash, which reveals equal values.
func (x Index) String() string { return "[blind index]" }

// indexSpec is a blind index column of a model.
type indexSpec struct {
	goName, column string
	index          []int
	options
	sources  []source
	computed *blindindex.Index
}

// source is a field that an index is computed from.
type source struct {
	goName, column string // column is empty if the database does not have the field
	index          []int
	text           indexText // nil: the value as it is
}

func (b *builder) addIndex(index []int, column string, o options, goName, where string) {
	allowed := options{of: o.of, expression: o.expression, algorithm: o.algorithm, slow: o.slow, size: o.size, bits: o.bits, binary: o.binary, keyTable: o.keyTable, keyAttr: o.keyAttr}
	if o != allowed || o.of == "" {
		b.mistake(where, "an index takes the options of (required), expression, algorithm, slow, size, bits, binary, key_table and key_attribute")
		return
	}
	b.indexes = append(b.indexes, &indexSpec{goName: goName, column: column, index: index, options: o})
}

// assignIndexes finds the sources of each index and prepares its computation.
func (b *builder) assignIndexes(t reflect.Type) {
	for _, x := range b.indexes {
		for name := range strings.SplitSeq(x.of, "+") {
			f, ok := b.find(x.goName, name)
			if !ok {
				b.mistake(x.goName, "of=%s names no field of %v", name, t)
				continue
			}
			s := source{goName: name, column: f.column, index: f.index}
			if err := s.prepare(f.Type, b.fieldAt(f.index)); err != nil {
				b.mistakes = append(b.mistakes, fmt.Errorf("%s: %w", x.goName, err))
			}
			x.sources = append(x.sources, s)
		}
		var err error
		if x.computed, err = x.build(b.config); err != nil {
			b.mistakes = append(b.mistakes, fmt.Errorf("%s: %w", x.goName, err))
		}
	}
	for column := range b.config.Indexes {
		if !slices.ContainsFunc(b.indexes, func(x *indexSpec) bool { return x.column == column }) {
			b.mistake(column, "Config.Indexes has an index for it, and the struct no field.Index")
		}
	}
}

func (x *indexSpec) build(config Config) (*blindindex.Index, error) {
	if given, ok := config.Indexes[x.column]; ok {
		return given, nil
	}
	o := blindindex.Options{Size: x.size, Bits: x.bits}
	if x.binary {
		o.Encoding = blindindex.Raw
	}
	var err error
	if o.Algorithm, err = blindindex.ParseAlgorithm(or(x.algorithm, "argon2id"), x.slow); err != nil {
		return nil, err
	}
	if x.expression != "" {
		if o.Expression, err = blindindex.ParseExpression(x.expression); err != nil {
			return nil, err
		}
	}
	if config.IndexKey.IsZero() {
		return nil, fmt.Errorf("%w: an index needs Config.IndexKey", kmsencrypted.ErrConfig)
	}
	key, err := config.IndexKey.IndexKey(or(x.keyTable, config.Table), or(x.keyAttr, x.column))
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return blindindex.New(key, x.column, o)
}

func (r record) indexField(x *indexSpec) *Index {
	return r.at(x.index).Addr().Interface().(*Index)
}

// computing is an index that is being computed for a record.
type computing struct {
	*recordWork
	spec   *indexSpec
	value  any  // what is hashed; nil is NULL
	filled bool // no field that it is computed from was set
	column stored
	err    error
}

// staleIndexes returns the indexes of a record whose fields are about to change,
// or all of them for a new record.
func (r *recordWork) staleIndexes() (stale []*computing) {
	for _, x := range r.schema.indexes {
		value, changed, err := r.indexValue(x, false)
		if err != nil || changed || r.isNew {
			stale = append(stale, &computing{recordWork: r, spec: x, value: value, filled: !changed, err: err})
		}
	}
	return stale
}

// indexValue returns the value of an index, and whether it changes now. Plain
// fields count as changed unless they are zero, which they also are if they were
// not selected. It returns an error for a closed field if the index changes or is
// wanted.
func (r record) indexValue(x *indexSpec, wanted bool) (value any, changed bool, err error) {
	values := make([]any, len(x.sources))
	closedSource := ""
	for i, s := range x.sources {
		v := r.at(s.index)
		o, ok := v.Addr().Interface().(holder)
		if !ok {
			changed = changed || !v.IsZero()
			if values[i], err = s.plain(indirect(v)); err != nil {
				return nil, changed, err
			}
			continue
		}
		h := o.head()
		changed = changed || h.dirty()
		switch h.state {
		case plain, opened:
			if values[i], err = s.plain(indirect(o.plaintext())); err != nil {
				return nil, changed, err
			}
		case closed:
			closedSource = s.goName
		case unset:
			if wanted {
				return nil, false, fmt.Errorf("%w: index %s is computed from %s", kmsencrypted.ErrNotLoaded, x.column, s.goName)
			}
		}
	}
	if (changed || wanted) && closedSource != "" {
		return nil, true, fmt.Errorf("%w: index %s is computed from %s too: open the record first", kmsencrypted.ErrNotOpened, x.column, closedSource)
	}
	if len(values) == 1 {
		return values[0], changed, nil
	}
	compound, err := blindindex.Compound(values...)
	return compound, changed, err
}

// lacksSource reports whether an index is computed from a field that the database does
// not have and that the program did not fill. Nothing tells its value then.
func (r record) lacksSource(x *indexSpec) bool {
	return slices.ContainsFunc(x.sources, func(s source) bool { return s.column == "" && r.at(s.index).IsZero() })
}

// indirect returns the value behind a pointer or sql.Null, or nil.
func indirect(v reflect.Value) any {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if field, ok := sqlNull(v.Type()); ok {
		if !v.Field(1).Bool() {
			return nil
		}
		v = v.Field(field)
	}
	return v.Interface()
}

// computeIndexes hashes on all processors, because the default takes 12 ms each.
// It starts nothing after ctx has ended.
func computeIndexes(ctx context.Context, all []*computing) {
	var workers sync.WaitGroup
	next := make(chan *computing)
	for range min(len(all), runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for c := range next {
				c.run(ctx)
			}
		})
	}
	for _, c := range all {
		next <- c
	}
	close(next)
	workers.Wait()
}

func (c *computing) run(ctx context.Context) {
	if c.err == nil {
		c.err = ctx.Err()
	}
	if c.err != nil {
		return
	}
	defer func() {
		if recover() != nil { // the panic of a caller's expression may contain the value
			c.err = blindindex.ErrPanic
		}
	}()
	column, err := c.spec.computed.Compute(c.value)
	if err != nil {
		c.err = err
		return
	}
	c.column, c.err = storedIndex(column)
}

// Reindex computes every index of opened records again, even if its field was not
// set: to fill the column of a new index, or to give all rows an index under
// another key. It returns [kmsencrypted.ErrNotOpened] for a source that is not
// opened. An index of a field that is not stored, tagged `db:"-"`, is computed if the
// program has filled that, and otherwise left as it is. [Adapter.Write] then has the columns that differ, on condition that the
// fields are unchanged since they were read.
//
// A column tagged activerecord is its own index: Reindex encrypts it again if that is
// under an older key or scheme than [activerecord.Attribute.Encrypt] would use now.
func (m *Model[R]) Reindex(ctx context.Context, rows ...*R) error {
	return m.inner().reindex(ctx, untyped(rows))
}

func (c *core) reindex(ctx context.Context, rows []any) error {
	if err := c.usable(rows); err != nil {
		return err
	}
	w := c.newWork(rows)
	defer w.release()
	for _, stale := range c.recompute(ctx, w) {
		stale.commit()
	}
	w.encryptAgain()
	return failures(w.records)
}

func (c *core) checkDerived(ctx context.Context, rows []any) error {
	if err := c.usable(rows); err != nil {
		return err
	}
	w := c.newWork(rows)
	defer w.release()
	w.checkReplaced()
	for _, stale := range c.recompute(ctx, w) {
		r := stale.recordWork
		r.err = errors.Join(r.err, r.failed("compare", stale.spec.column, kmsencrypted.ErrStaleIndex))
	}
	w.checkAgain()
	return failures(w.records)
}

// recompute computes every index and returns those that differ from the records.
func (c *core) recompute(ctx context.Context, w *work) (stale []*computing) {
	var all []*computing
	for i := range w.records {
		r := &w.records[i]
		for _, x := range c.schema.indexes {
			if r.lacksSource(x) {
				continue
			}
			value, _, err := r.indexValue(x, true)
			all = append(all, &computing{recordWork: r, spec: x, value: value, err: err})
		}
	}
	computeIndexes(ctx, all)
	for _, c := range all {
		if c.err != nil {
			c.recordWork.err = errors.Join(c.recordWork.err, c.failed("index", c.spec.column, c.err))
		}
	}
	return slices.DeleteFunc(all, func(c *computing) bool {
		return c.recordWork.err != nil || c.column.same(c.indexField(c.spec).h.stored)
	})
}

// conditions returns the columns that an index was computed from and that are not
// written with it: they must be unchanged since they were read.
func (r record) conditions(x *indexSpec) (where []Assignment) {
	for _, s := range x.sources {
		o, ok := r.at(s.index).Addr().Interface().(holder)
		if ok && o.head().read && !o.head().changed() {
			where = append(where, o.head().unchanged(s.column))
		}
	}
	return where
}

func storedIndex(column blindindex.Column) (stored, error) {
	value, err := column.Value()
	if err != nil {
		return stored{}, err
	}
	var h head
	err = h.scan(value)
	return h.stored, err
}

func (c *computing) commit() {
	h := &c.indexField(c.spec).h
	h.state, h.stored, h.filled = closed, c.column, false
	if c.column.null {
		h.state, h.filled = null, c.filled
	}
	if c.isNew {
		h.read, h.loaded, h.sent = false, stored{}, nil
	}
}
