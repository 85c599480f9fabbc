package kment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/conditional"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

// Update is an update of one entity. Generated code uses it.
type Update[R any] struct {
	typed[R]
	spec   *sqlgraph.UpdateSpec
	row    *R       // the entity as it will be; nil if nothing depends on the update
	plain  []string // plain columns of the update that the model compares
	set    []string
	scoped bool // the program has conditions of its own
}

func (u *Update[R]) on() *table { return u.table }

func (u *Update[R]) writes(column string) bool {
	return slices.Contains(u.set, column) || slices.Contains(u.plain, column)
}

// touched returns the columns of an update that are encrypted, or that encrypted ones
// depend on.
func (t *table) touched(m ent.Mutation, edges sqlgraph.EdgeMut) (columns []string, err error) {
	matters := func(column string) bool {
		return slices.Contains(t.managed, column) || slices.Contains(t.context, column) || slices.Contains(t.bound, column)
	}
	for _, column := range slices.Concat(m.Fields(), m.ClearedFields()) {
		if matters(column) && !slices.Contains(columns, column) {
			columns = append(columns, column)
		}
	}
	for _, column := range m.AddedFields() {
		if matters(column) {
			return nil, t.refused("update", column, errors.ErrUnsupported, "set the sum instead of adding to it: encrypted columns depend on it")
		}
	}
	for _, e := range slices.Concat(edges.Add, edges.Clear) {
		isOwn := e.Rel == sqlgraph.M2O || e.Rel == sqlgraph.O2O && e.Inverse
		if isOwn && matters(e.Columns[0]) && !slices.Contains(columns, e.Columns[0]) {
			return nil, t.refused("update", e.Columns[0], errors.ErrUnsupported, "set or clear the field of the edge: encryption contexts are made of it")
		}
	}
	return columns, nil
}

// BeforeUpdate is called by generated code for an update of many entities. It refuses
// columns that are sealed for each entity.
func BeforeUpdate[R any](drv dialect.Driver, m ent.Mutation, spec *sqlgraph.UpdateSpec) error {
	t, err := tableFor[R](drv)
	if err != nil {
		return err
	}
	columns, err := t.touched(m, spec.Edges)
	if err != nil || len(columns) == 0 {
		return err
	}
	if column := columns[0]; !slices.Contains(t.managed, column) {
		return t.refused("update", column, errors.ErrUnsupported, useOne)
	}
	return t.refused("update", columns[0], kmsencrypted.ErrUnsealed, "one ciphertext cannot serve many rows: query the entities, and use UpdateOne for each")
}

// BeforeUpdateOne is called by generated code when the update of an entity is complete.
// old returns the entity as it was read.
func BeforeUpdateOne[R any](ctx context.Context, drv dialect.Driver, m ent.Mutation, old func(context.Context) (*R, error), spec *sqlgraph.UpdateSpec) (*Update[R], error) {
	t, err := tableFor[R](drv)
	if err != nil {
		return nil, err
	}
	u := &Update[R]{typed: t, spec: spec, scoped: spec.Predicate != nil}
	columns, err := t.touched(m, spec.Edges)
	if err != nil || len(columns) == 0 {
		return u, err
	}
	stored, err := old(withoutOpening(ctx, t.table))
	if err != nil {
		return nil, err
	}
	row := *stored
	u.row = &row
	if t.opens || slices.ContainsFunc(columns, func(column string) bool { return !slices.Contains(t.managed, column) }) {
		// What depends on these columns must be opened while they have their old values.
		if err := t.model.Open(ctx, u.row); err != nil {
			return nil, err
		}
	}
	if err := u.begin(stored, m, columns); err != nil {
		return nil, err
	}
	if err := u.seal(ctx); err != nil {
		return nil, err
	}
	return u, u.assign(m)
}

// begin gives the copy of the entity the values of the update.
func (u *Update[R]) begin(stored *R, m ent.Mutation, columns []string) error {
	for _, column := range u.secret {
		if set, ok := u.value(stored, column).Addr().Interface().(interface{ IsSet() bool }); ok && set.IsSet() {
			return u.refused("update", column, kmsencrypted.ErrUnsealed, "the field of the entity was changed, and ent writes what is set in the update: call its Set method there")
		}
	}
	for _, column := range columns {
		if !slices.Contains(u.managed, column) {
			u.plain = append(u.plain, column)
		}
		now, ok := m.Field(column)
		if err := u.change(column, now, ok); err != nil {
			return err
		}
	}
	return nil
}

// change sets a field of the entity, or clears it.
func (u *Update[R]) change(column string, now any, ok bool) error {
	v := u.value(u.row, column)
	if !slices.Contains(u.managed, column) {
		switch from := reflect.ValueOf(now); {
		case !ok:
			v.SetZero()
		case from.Type() == v.Type():
			v.Set(from)
		case v.Kind() == reflect.Pointer && from.Type() == v.Type().Elem():
			v.Set(reflect.New(from.Type()))
			v.Elem().Set(from)
		default:
			return u.refused("update", column, kmsencrypted.ErrConfig, fmt.Sprintf("the update has a %v for a %v", from.Type(), v.Type()))
		}
		return nil
	}
	if !slices.Contains(u.secret, column) || v.Type() == reflect.TypeFor[field.Index]() {
		return u.refused("update", column, errors.ErrUnsupported, "keys and indexes are not set")
	}
	if key := u.model.Adapter().Key(u.model.Adapter().KeyColumnOf(column), u.row); key != nil {
		if _, err := key.Value(); err != nil {
			return u.refused("update", column, err, "the entity was queried without its key column: select it too, or use UpdateOneID")
		}
	}
	from := reflect.ValueOf(now)
	if !ok || from.Interface().(interface{ IsNull() bool }).IsNull() {
		v.Addr().MethodByName("SetNull").Call(nil)
		return nil
	}
	got := from.MethodByName("Get").Call(nil)
	if err, _ := got[1].Interface().(error); err != nil {
		return u.refused("update", column, err, "the value of the update is a field that was neither set nor opened")
	}
	v.Addr().MethodByName("Set").Call(got[:1])
	return nil
}

// seal seals what was set. Some changes need the other fields, which a query for the
// update leaves closed.
func (u *Update[R]) seal(ctx context.Context) error {
	err := u.model.Seal(ctx, u.row)
	if !errors.Is(err, kmsencrypted.ErrNotOpened) {
		return err
	}
	if err := u.model.Open(ctx, u.row); err != nil {
		return err
	}
	return u.model.Seal(ctx, u.row)
}

// assign puts what has to be written into the statement.
func (u *Update[R]) assign(m ent.Mutation) error {
	assigned, omit, err := u.records.Assigned(u.row, u.plain)
	if err != nil {
		return err
	}
	for _, column := range slices.Concat(u.managed, omit) {
		unset(&u.spec.Fields.Set, column)
		unset(&u.spec.Fields.Clear, column)
	}
	for _, a := range assigned {
		u.set = append(u.set, a.Column)
		if !slices.Contains(u.managed, a.Column) && !slices.Contains(u.replaced, a.Column) && (slices.Contains(m.Fields(), a.Column) || slices.Contains(m.ClearedFields(), a.Column)) {
			continue // ent sets it
		}
		set(&u.spec.Fields.Set, a.Column, &value{of: u, column: a.Column})
	}
	if len(assigned) == 0 {
		return nil
	}
	of := u.spec.Predicate
	u.spec.Predicate = func(s *entsql.Selector) {
		if of != nil {
			of(s)
		}
		s.Where(entsql.P(func(b *entsql.Builder) { b.WriteString(condition + "(").Arg(&value{of: u}).WriteByte(')') }))
	}
	return nil
}

// condition stands in the statement of ent where the condition of the update belongs.
const condition = "kmsencrypted"

// run sends the UPDATE on condition that the row still has its data key.
func (u *Update[R]) run(ctx context.Context, db conn, s statement, all []work) error {
	if len(all) > 1 {
		return configError("one statement updates several entities")
	}
	err := records.UpdateBy(ctx, db, u.records, u.row, u.plain, func(ctx context.Context, db records.DB, set, where []field.Assignment) (bool, error) {
		query, args := u.bind(s, set, where)
		result, err := db.Exec(ctx, u.driver.kind.Strict(u.records.TellMatch(query, u.set[0])), args...)
		if err != nil {
			return false, records.Hide(err, args)
		}
		matched, err := u.records.Matched(result)
		if err == nil && !matched && (u.scoped || len(u.spec.Modifiers) > 0) {
			err = u.checkScope(ctx, db, where)
		}
		return matched, records.Hide(err, args)
	})
	if errors.Is(err, gone) {
		return gone
	}
	if result, ok := s.result.(*sql.Result); ok && err == nil {
		*result = answer{affected: 1}
	}
	return err
}

// bind completes the statement of ent.
func (u *Update[R]) bind(s statement, set, where []field.Assignment) (query string, args []any) {
	before, after, _ := strings.Cut(s.query, condition+"(")
	_, after, _ = strings.Cut(after, ")")
	numbered := u.driver.syntax().Numbered
	at := slices.IndexFunc(s.args, func(arg any) bool { v, ok := arg.(*value); return ok && v.column == "" })
	conditions, more := conditional.Where(u.driver.kind, where, func(n int) string {
		if n == 0 {
			n = at
		} else {
			n += len(s.args) - 1
		}
		return u.driver.kind.Placeholder(n + 1)
	})
	if len(where) == 0 { // nothing is sealed under a data key
		conditions, more = "1 = 1", nil
		if numbered { // a placeholder that is not used has no type
			conditions, more = "CAST("+u.driver.kind.Placeholder(at+1)+" AS text) IS NULL", []any{nil}
		}
	}
	for i, arg := range s.args {
		switch v, ok := arg.(*value); {
		case i == at && numbered:
			args = append(args, more[0])
		case i == at:
			args = append(args, more...)
		case ok:
			args = append(args, u.argument(v.column, set))
		default:
			args = append(args, arg)
		}
	}
	if numbered {
		args = append(args, more[1:]...)
	}
	return before + conditions + after, args
}

// argument returns the value of a column, which may have been taken over from the row.
func (u *Update[R]) argument(column string, set []field.Assignment) any {
	for _, a := range set {
		if a.Column == column {
			return a.Value
		}
	}
	return u.value(u.row, column).Interface()
}

// checkScope returns gone if the row is as the update wants it, so that a condition of
// the program did not hold.
func (u *Update[R]) checkScope(ctx context.Context, db records.DB, where []field.Assignment) error {
	query, args := conditional.Holds(u.records.Table, where, u.model.Adapter().IDValues(u.row))
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	holds := rows.Next()
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	if holds {
		return gone
	}
	return nil
}

// After is called by generated code after the update, with the entity as it was read
// again. It opens the entity.
func (u *Update[R]) After(ctx context.Context, node *R, err error) error {
	if err != nil || u == nil || node == nil {
		return err
	}
	u.null(u.spec.Node.Columns, node)
	if u.row != nil {
		u.handOver(node)
	}
	return u.open(ctx, []*R{node})
}

// handOver gives the entity the data keys that were used to seal it, if it has them.
func (u *Update[R]) handOver(node *R) {
	m := u.model.Adapter()
	for _, column := range m.KeyColumns() {
		now, err := m.Key(column, node).Value()
		before, failure := m.Key(column, u.row).Value()
		if err == nil && failure == nil && now != nil && fmt.Sprintf("%s", now) == fmt.Sprintf("%s", before) {
			*m.Key(column, node) = *m.Key(column, u.row)
		}
	}
}
