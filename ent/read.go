package kment

import (
	"context"
	"database/sql"
	"slices"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

type (
	readingKey struct{}
	lazilyKey  struct{}
	closedKey  struct{}
)

// Lazily returns a context under which queries leave entities closed until
// [field.Of.Plain] asks for a value.
func Lazily(ctx context.Context) context.Context { return context.WithValue(ctx, lazilyKey{}, true) }

// withoutOpening is for the entity of a table that an update reads itself.
func withoutOpening(ctx context.Context, t *table) context.Context {
	return context.WithValue(ctx, closedKey{}, t)
}

// reading is a query of entities.
type reading struct {
	table   string
	spec    *sqlgraph.QuerySpec
	lookups []field.Lookup
	limit   int
	offset  int
}

// BeforeQuery is called by generated code before a query of entities, or of their
// number.
func BeforeQuery[R any](ctx context.Context, drv dialect.Driver, spec *sqlgraph.QuerySpec) context.Context {
	r := &reading{table: spec.Node.Table, spec: spec}
	ctx = context.WithValue(ctx, readingKey{}, r)
	of := spec.Predicate
	if of == nil || spec.ScanValues == nil {
		return ctx
	}
	spec.Predicate = func(s *entsql.Selector) {
		s.WithContext(ctx)
		of(s)
	}
	return ctx
}

// AfterQuery is called by generated code after a query of entities. It opens them
// together, and returns those that have the values looked up.
func AfterQuery[R any](ctx context.Context, drv dialect.Driver, spec *sqlgraph.QuerySpec, nodes []*R) ([]*R, error) {
	t, err := tableFor[R](drv)
	if err != nil {
		return nil, err
	}
	if err := t.model.Adapter().CheckRead(spec.Node.Columns); err != nil {
		return nil, err
	}
	t.null(spec.Node.Columns, nodes...)
	if err := t.open(ctx, nodes); err != nil {
		return nil, err
	}
	r, _ := ctx.Value(readingKey{}).(*reading)
	if r == nil || len(r.lookups) == 0 {
		return nodes, nil
	}
	if ctx.Value(lazilyKey{}) != nil {
		if err := t.model.Open(ctx, nodes...); err != nil {
			return nil, err
		}
	}
	for _, l := range r.lookups {
		if nodes, err = records.HitsAmong(fieldsOf(t.row), []field.Lookup{l}, nodes); err != nil {
			return nil, err
		}
	}
	nodes = nodes[min(r.offset, len(nodes)):]
	if r.limit > 0 {
		nodes = nodes[:min(r.limit, len(nodes))]
	}
	return nodes, nil
}

// null tells fields that their columns were read, where ent read NULL and did not.
func (t typed[R]) null(columns []string, nodes ...*R) {
	for _, column := range t.managed {
		if !slices.Contains(columns, column) {
			continue
		}
		for _, node := range nodes {
			v := t.value(node, column)
			if v.IsZero() {
				_ = v.Addr().Interface().(sql.Scanner).Scan(nil) // which always succeeds
			}
		}
	}
}

func (t typed[R]) open(ctx context.Context, nodes []*R) error {
	switch {
	case ctx.Value(closedKey{}) == t.table:
	case ctx.Value(lazilyKey{}) != nil:
		t.model.OpenLazily(nodes...)
	default:
		return t.model.Open(ctx, nodes...)
	}
	return nil
}

// Lookup returns a predicate for entities whose encrypted field has one of the values
// looked up:
//
//	client.Customer.Query().Where(kment.Lookup(customers.Lookup("Email", "ada@example.org"))).All(ctx)
//
// An index finds other rows too, if it is truncated or if its expression makes values
// equal. A query of entities opens what was found and removes these; Limit and Offset
// count after that. With several lookups an entity must match all of them. Count,
// Exist, IDs, Select, an update, a delete and a condition on an edge take what the index
// finds. In Or and Not a lookup is refused: use the predicate of the index column with
// [field.Lookup.Indexes], and [field.Lookup.Matches].
func Lookup(l field.Lookup) func(*entsql.Selector) {
	return func(s *entsql.Selector) {
		refuse := func(err error) {
			s.Where(entsql.P(func(b *entsql.Builder) { b.Arg(&refusal{err}) }))
		}
		if err := l.Err(); err != nil {
			refuse(err)
			return
		}
		var found []any
		for _, index := range l.Indexes() {
			found = append(found, index)
		}
		p := entsql.In(s.C(l.Name), found...)
		if l.Null {
			p = entsql.Or(p, entsql.IsNull(s.C(l.Name)))
		}
		before := s.P()
		s.Where(p)
		if s.P() == before {
			refuse(configError("a kment.Lookup in And, Or or Not: use the predicate of the column %s with Lookup.Indexes, and check with Lookup.Matches", l.Name))
			return
		}
		r, _ := s.Context().Value(readingKey{}).(*reading)
		if r == nil || r.spec.ScanValues == nil || r.table != s.TableName() {
			return
		}
		if len(r.lookups) == 0 {
			r.limit, r.offset = r.spec.Limit, r.spec.Offset
			r.spec.Limit, r.spec.Offset = 0, 0
		}
		r.lookups = append(r.lookups, l)
	}
}
