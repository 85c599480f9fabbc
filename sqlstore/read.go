package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Read reads records in the order of their primary key. It never uses OFFSET or
// "the first that are not done", which both read processed records again.
func (s *Store[R]) Read(ctx context.Context, sel rotation.Selection) (rotation.Batch, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	k, err := kindOf[R](sel.Kind)
	if err != nil {
		return nil, err
	}
	q := s.dialect.Statement()
	v := s.view(sel)
	s.selectFrom(q, v)
	if err := s.where(q, sel); err != nil {
		return nil, err
	}
	q.Add(" ORDER BY ")
	q.Names(names(s.ids))
	limit := s.width.rows(max(sel.Limit, 1))
	q.Add(fmt.Sprintf(" LIMIT %d", limit))
	b := &batch[R]{
		store: s, target: sel.Target, kind: k, witnesses: v.witnesses, compared: s.withContext(k.compared(s)), replaces: sel.Kind.ReplacesKeys(), journals: sel.Kind.Journals() && !sel.NoJournal, derived: sel.Derived, perRecord: s.choosesProviders(),
	}
	if sel.Kind == rotation.Migrate {
		b.least, b.replaced = 1, true
	}
	var whole bool
	err = s.inSession(ctx, func(conn *sqlx.Conn) (err error) {
		b.rows, b.records, whole, err = s.load(ctx, conn, q, v, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sqlstore: read %s: %w", s.Table(), markAway(err))
	}
	b.more = !whole || len(b.rows) == limit
	return b, nil
}

// view is the columns of records that are read.
type view struct {
	fields    []column
	witnesses []column // compared by their text in the database
}

// view returns the columns that a selection needs: to rewrap a key no content is needed,
// unless the key seals it.
func (s *Store[R]) view(sel rotation.Selection) view {
	moves := sel.RotateOnly && (sel.Kind == rotation.Rewrap || sel.Kind == rotation.Complete)
	if !moves || s.sealsRecords() {
		return view{s.read, s.witnesses}
	}
	isContent := func(c column) bool {
		return slices.ContainsFunc(s.managed, func(m column) bool { return m.name == c.name }) &&
			!slices.ContainsFunc(s.keys, func(k column) bool { return k.name == c.name })
	}
	isOfContext := func(c column) bool { return slices.Contains(s.model.ContextColumns(), c.name) }
	return view{
		slices.DeleteFunc(slices.Clone(s.read), func(c column) bool { return isContent(c) && !isOfContext(c) }),
		slices.DeleteFunc(slices.Clone(s.witnesses), func(c column) bool { return !isOfContext(c) }),
	}
}

// sealsRecords reports whether under any version a key authenticates the columns of its
// record.
func (s *Store[R]) sealsRecords() bool {
	box := s.model.Box()
	return slices.ContainsFunc(box.Versions(), func(n int) bool {
		v, err := box.Version(n)
		return err == nil && v.RecordSeal
	})
}

// selectFrom begins a query whose rows load understands.
func (s *Store[R]) selectFrom(q *sqldialect.Statement, v view) {
	q.Add("SELECT ")
	q.Names(names(v.fields))
	for _, c := range v.witnesses {
		q.Add(", ", witness(q.Dialect, c.name))
	}
	q.Add(" FROM ", q.Dialect.QuotedTable(s.Table()), " WHERE 1 = 1")
}

// where adds the conditions of a selection.
func (s *Store[R]) where(q *sqldialect.Statement, sel rotation.Selection) error {
	k, err := kindOf[R](sel.Kind)
	if err != nil {
		return err
	}
	ids := names(s.ids)
	for _, bound := range []struct{ op, text string }{{">", sel.After}, {"<=", sel.To}} {
		if bound.text == "" {
			continue
		}
		values, err := decodeKey(bound.text)
		if err != nil {
			return err
		}
		q.Add(" AND ")
		compare(q, ids, bound.op, values)
	}
	if sel.Part != "" {
		q.Add(" AND ", within(sel.Part))
	}
	if !sel.All {
		q.Add(" AND (")
		k.selects(s, q, sel.Target)
		q.Add(")")
	}
	return nil
}

// within is the condition for the records of a part of the table.
func within(part string) string {
	if part == "" {
		return "1 = 1"
	}
	return "(" + part + ")"
}

// roomAhead limits the records for which load makes room before they come.
const roomAhead = 1000

// load reads the rows of a query of selectFrom, at most so many, and for each its primary
// key and its witnesses. It stops before the end, and whole is false, when they are more than
// mostBytes; at least one is read.
func (s *Store[R]) load(ctx context.Context, db sqlx.QueryerContext, q *sqldialect.Statement, v view, most int) (rows []R, records []record, whole bool, err error) {
	found, err := db.QueryContext(ctx, q.String(), q.Args...)
	if err != nil {
		return nil, nil, false, err
	}
	defer found.Close()
	var bytes int64
	defer func() { s.width.note(len(rows), bytes) }()
	columns := make([]sized, len(v.fields))
	targets := make([]any, 0, len(v.fields)+len(v.witnesses))
	for found.Next() {
		if rows == nil { // many queries find nothing
			room := min(most, roomAhead)
			rows, records = make([]R, 0, room), make([]record, 0, room)
		}
		rows = append(rows, s.newRow())
		row := &rows[len(rows)-1]
		r := record{witnesses: make([]any, len(v.witnesses))}
		targets = targets[:0]
		for i, c := range v.fields {
			target := c.of(row).Addr().Interface()
			if scanner, ok := target.(sql.Scanner); ok {
				columns[i] = sized{scanner, &bytes}
				target = &columns[i]
			}
			targets = append(targets, target)
		}
		for i := range r.witnesses {
			targets = append(targets, &r.witnesses[i])
		}
		if err := found.Scan(targets...); err != nil {
			return nil, nil, false, err
		}
		if r.id, err = s.idValues(row); err != nil {
			return nil, nil, false, err
		}
		records = append(records, r)
		if bytes >= mostBytes {
			return rows, records, false, nil
		}
	}
	return rows, records, true, found.Err()
}

// newRow returns an empty row; that of a dynamic model points to a struct.
func (s *Store[R]) newRow() (row R) {
	if reflect.TypeFor[R]() != s.model.RowType() {
		row = reflect.New(s.model.RowType()).Interface().(R)
	}
	return row
}

// Ranges divides an integer key into equal ranges of its values, without reading the
// table. It divides any other key into ranges of equally many records, which reads
// the index once. The first and the last range have no outer bound.
func (s *Store[R]) Ranges(ctx context.Context, n int) ([]rotation.Range, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	bounds, err := s.bounds(ctx, max(n, 1))
	if err != nil {
		return nil, fmt.Errorf("sqlstore: ranges of %s: %w", s.Table(), markAway(err))
	}
	var ranges []rotation.Range
	after := ""
	for _, id := range bounds {
		to := encodeKey(id)
		ranges = append(ranges, rotation.Range{After: after, To: to})
		after = to
	}
	return append(ranges, rotation.Range{After: after}), nil
}

// bounds returns at most n-1 primary keys between the ranges.
func (s *Store[R]) bounds(ctx context.Context, n int) ([][]any, error) {
	if s.hasIntegerID() {
		return s.equalBounds(ctx, n)
	}
	return s.sampledBounds(ctx, n)
}

// hasIntegerID reports whether the primary key is one integer, ordered as such.
func (s *Store[R]) hasIntegerID() bool {
	return len(s.ids) == 1 && !s.types[s.ids[0].name].isText() && isInteger(s.model.RowType().FieldByIndex(s.ids[0].index).Type.Kind())
}

func isInteger(k reflect.Kind) bool {
	return reflect.Int <= k && k <= reflect.Int64 || reflect.Uint8 <= k && k <= reflect.Uint32
}

func (s *Store[R]) equalBounds(ctx context.Context, n int) (bounds [][]any, err error) {
	id := s.dialect.Quoted(s.ids[0].name)
	var least, most sql.Null[int64]
	err = s.db.QueryRowContext(ctx, fmt.Sprintf("SELECT min(%[1]s), max(%[1]s) FROM %[2]s", id, s.dialect.QuotedTable(s.Table()))).Scan(&least, &most)
	if err != nil || !least.Valid {
		return nil, err
	}
	span := uint64(most.V) - uint64(least.V) // also right if the difference overflows an int64
	step := max(1, span/uint64(n)+1)
	for i := step; i <= span && len(bounds) < n-1; i += step {
		bounds = append(bounds, []any{int64(uint64(least.V) + i - 1)})
		if i > span-step {
			break // i would overflow
		}
	}
	return bounds, nil
}

func (s *Store[R]) sampledBounds(ctx context.Context, n int) (bounds [][]any, err error) {
	table, ids := s.dialect.QuotedTable(s.Table()), s.dialect.QuotedNames(names(s.ids))
	var count int64
	if err := s.db.GetContext(ctx, &count, "SELECT count(*) FROM "+table); err != nil {
		return nil, err
	}
	step := count/int64(n) + 1
	rows, err := s.selectRows(ctx, fmt.Sprintf(
		"SELECT %[1]s FROM (SELECT %[1]s, row_number() OVER (ORDER BY %[1]s) AS kms_rotation_row FROM %[2]s) AS numbered WHERE kms_rotation_row %% %[3]d = 0 ORDER BY %[1]s",
		ids, table, step))
	if err != nil {
		return nil, err
	}
	for i := range rows {
		id, err := s.idValues(&rows[i])
		if err != nil {
			return nil, err
		}
		bounds = append(bounds, id)
	}
	return bounds, nil
}

// selectRows reads rows into structs of the model; those of a dynamic model are
// pointers to them.
func (s *Store[R]) selectRows(ctx context.Context, query string, args ...any) ([]R, error) {
	slice := reflect.New(reflect.SliceOf(s.model.RowType()))
	if err := s.db.SelectContext(ctx, slice.Interface(), query, args...); err != nil {
		return nil, err
	}
	if rows, ok := slice.Interface().(*[]R); ok {
		return *rows, nil
	}
	rows := make([]R, slice.Elem().Len())
	for i := range rows {
		rows[i] = slice.Elem().Index(i).Addr().Interface().(R)
	}
	return rows, nil
}
