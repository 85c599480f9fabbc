package kment

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	entfield "entgo.io/ent/schema/field"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/internal/sqlscan"
)

// creation is an entity that is inserted.
type creation[R any] struct {
	typed[R]
	node  *R
	spec  *sqlgraph.CreateSpec
	hasID bool // the program set it
	nulls []string
}

func (c *creation[R]) on() *table { return c.table }

func (c *creation[R]) writes(column string) bool {
	return slices.Contains(c.managed, column) || slices.Contains(c.context, column) || slices.Contains(c.bound, column)
}

// BeforeCreate is called by generated code, with an entity as the builder has set it and
// the specification of its INSERT.
func BeforeCreate[R any](drv dialect.Driver, node *R, spec *sqlgraph.CreateSpec) {
	c := &creation[R]{node: node, spec: spec, hasID: spec.ID != nil && spec.ID.Value != nil}
	var err error
	if c.typed, err = tableFor[R](drv); err != nil {
		for _, f := range spec.Fields {
			if isField(reflect.TypeOf(f.Value)) {
				f.Value = &refusal{err}
			}
		}
		return
	}
	for _, column := range slices.Concat(c.managed, c.replaced) {
		set(&spec.Fields, column, &value{of: c, column: column})
	}
	// What is not set must not get a default of the database: the entity is sealed for
	// what it holds.
	for _, column := range c.context {
		if !has(spec.Fields, column) && !slices.ContainsFunc(spec.Edges, func(e *sqlgraph.EdgeSpec) bool { return slices.Contains(e.Columns, column) }) {
			c.nulls = append(c.nulls, column)
			set(&spec.Fields, column, &value{of: c, column: column})
		}
	}
}

// set sets a column in a list.
func set(list *[]*sqlgraph.FieldSpec, column string, v any) {
	unset(list, column)
	*list = append(*list, &sqlgraph.FieldSpec{Column: column, Type: entfield.TypeOther, Value: v})
}

func unset(list *[]*sqlgraph.FieldSpec, column string) {
	*list = slices.DeleteFunc(*list, func(f *sqlgraph.FieldSpec) bool { return f.Column == column })
}

func has(list []*sqlgraph.FieldSpec, column string) bool {
	return slices.ContainsFunc(list, func(f *sqlgraph.FieldSpec) bool { return f.Column == column })
}

// run seals the entities of an INSERT together, and sends it.
func (c *creation[R]) run(ctx context.Context, db conn, s statement, all []work) error {
	in := &inserting[R]{statement: s}
	var nodes []*R
	for _, w := range all {
		one, ok := w.(*creation[R])
		if !ok {
			return configError("one statement inserts entities of several types")
		}
		in.all, nodes = append(in.all, one), append(nodes, one.node)
	}
	var ok bool
	if in.insert, ok = sqlscan.SplitInsert(s.query, db.driver.syntax()); !ok || in.insert.Rows != len(in.all) {
		return c.refused("insert", "", errors.ErrUnsupported, "the INSERT is not one of ent's own")
	}
	if err := records.InsertBy(ctx, db, c.records, nodes, in.send); err != nil {
		return err
	}
	c.null(c.managed, nodes...) // what has no data key
	return in.tell()
}

// inserting is an INSERT of entities.
type inserting[R any] struct {
	statement
	insert sqlscan.Insert
	all    []*creation[R]
	ids    []any // that the database assigned
}

// send sends the INSERT as it is, or with ids that were fetched, or row by row if the
// database assigns ids: it does not say which row of many has which.
func (in *inserting[R]) send(ctx context.Context, db records.DB, sealed bool) error {
	first := in.all[0]
	if first.hasID || first.knowsID() {
		query, args := in.everything(db.(conn).driver.kind)
		if slices.ContainsFunc(in.all, func(c *creation[R]) bool { return !c.knowsID() }) {
			return fmt.Errorf("%w: some entities have ids and others have none", kmsencrypted.ErrNoID)
		}
		values, err := in.bind(args, true)
		if err != nil {
			return err
		}
		return in.exec(ctx, db, query, values)
	}
	for i, c := range in.all {
		query, args := in.insert.Some(i)
		values, err := in.bind(args, sealed)
		if err != nil {
			return err
		}
		id, err := in.insertOne(ctx, db, query, values)
		if err == nil {
			err = c.setID(id)
		}
		if err != nil {
			return err
		}
		in.ids = append(in.ids, id)
	}
	return nil
}

// everything is the INSERT of all rows, with ids that were fetched.
func (in *inserting[R]) everything(kind sqldialect.Dialect) (query string, args []int) {
	if in.all[0].hasID {
		all := make([]int, len(in.all))
		for i := range all {
			all[i] = i
		}
		return in.insert.Some(all...)
	}
	for _, c := range in.all {
		in.ids = append(in.ids, c.id().Interface())
	}
	// An id that is given counts, also where it is GENERATED ALWAYS.
	return in.insert.WithColumn(kind.Quoted(in.all[0].records.IDs[0]), "OVERRIDING SYSTEM VALUE ")
}

// bind returns the arguments of a statement, by their places in that of ent.
func (in *inserting[R]) bind(places []int, sealed bool) (args []any, err error) {
	for _, place := range places {
		if place < 0 {
			args = append(args, in.all[-1-place].id().Interface())
			continue
		}
		arg := in.args[place]
		if v, ok := arg.(*value); ok {
			if arg, err = v.of.(*creation[R]).argument(v.column, sealed); err != nil {
				return nil, err
			}
		}
		args = append(args, arg)
	}
	return args, nil
}

func (c *creation[R]) argument(column string, sealed bool) (any, error) {
	v := c.value(c.node, column).Interface()
	switch isManaged := slices.Contains(c.managed, column); {
	case slices.Contains(c.nulls, column), isManaged && !sealed:
		return nil, nil
	case !isManaged:
		return v, nil
	}
	return v.(driver.Valuer).Value()
}

// exec sends an INSERT whose ids are known.
func (in *inserting[R]) exec(ctx context.Context, db records.DB, query string, args []any) error {
	kind := db.(conn).driver.kind
	if _, isQuery := in.result.(*entsql.Rows); !isQuery {
		_, err := db.Exec(ctx, kind.Strict(query), args...)
		return records.Hide(err, args)
	}
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return records.Hide(err, args)
	}
	for rows.Next() { // the ids, which are known
	}
	return records.Hide(errors.Join(rows.Err(), rows.Close()), args)
}

// insertOne inserts a row and returns its id.
func (in *inserting[R]) insertOne(ctx context.Context, db records.DB, query string, args []any) (id any, err error) {
	kind := db.(conn).driver.kind
	if kind.HasLastInsertID() {
		result, err := db.Exec(ctx, kind.Strict(query), args...)
		if err != nil {
			return nil, records.Hide(err, args)
		}
		n, err := result.LastInsertId()
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: the database returned no id for the row", kmsencrypted.ErrNoID)
		}
		return n, err
	}
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return nil, records.Hide(err, args)
	}
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&id)
	} else if err = rows.Err(); err == nil {
		err = fmt.Errorf("%w: the database returned no id for the row", kmsencrypted.ErrNoID)
	}
	return id, errors.Join(records.Hide(err, args), records.Hide(rows.Close(), args))
}

// id returns the field of the entity with its primary key.
func (c *creation[R]) id() reflect.Value { return c.value(c.node, c.records.IDs[0]) }

func (c *creation[R]) knowsID() bool { return !c.id().IsZero() }

// setID sets the primary key to what the database returned.
func (c *creation[R]) setID(raw any) error {
	v := c.id()
	if s, ok := v.Addr().Interface().(sql.Scanner); ok {
		return s.Scan(raw)
	}
	switch n, isNumber := raw.(int64); {
	case isNumber && v.CanInt() && !v.OverflowInt(n):
		v.SetInt(n)
	case isNumber && v.CanUint() && n >= 0 && !v.OverflowUint(uint64(n)):
		v.SetUint(uint64(n))
	case v.Kind() == reflect.String:
		var text sql.NullString
		if err := text.Scan(raw); err != nil {
			return err
		}
		v.SetString(text.String)
	default:
		return fmt.Errorf("%w: the database assigned a %T as id, which a %v cannot hold", kmsencrypted.ErrConfig, raw, v.Type())
	}
	return nil
}

// tell gives ent the ids that the database assigned: as the result of the statement if
// there is one row, and otherwise in the specifications, because ent would compute
// those of MySQL.
func (in *inserting[R]) tell() error {
	told := answer{affected: int64(len(in.all))}
	if len(in.ids) > 0 {
		if len(in.all) > 1 {
			told.affected = 0
		}
		for i, c := range in.all {
			id := in.ids[i]
			switch v := c.id(); {
			case v.CanInt():
				id = v.Int()
			case v.CanUint():
				id = int64(v.Uint())
			case len(in.all) > 1:
				return fmt.Errorf("%w: only numbers are assigned to many rows: set the ids of %s", kmsencrypted.ErrNoID, c.name)
			}
			if len(in.all) > 1 {
				c.spec.ID.Value = id
			}
			told.id = id
		}
	}
	switch result := in.result.(type) {
	case *sql.Result:
		*result = told
	case *entsql.Rows:
		told.left = min(len(in.all), 1)
		if len(in.all) > 1 || len(in.ids) == 0 {
			told.left = 0
		}
		result.ColumnScanner = &told
	}
	return nil
}

// answer is the result of a statement as ent expects it.
type answer struct {
	affected int64
	id       any
	left     int // rows with the id
}

func (a answer) RowsAffected() (int64, error) { return a.affected, nil }

func (a answer) LastInsertId() (int64, error) {
	n, _ := a.id.(int64)
	return n, nil
}

func (*answer) Close() error                            { return nil }
func (*answer) ColumnTypes() ([]*sql.ColumnType, error) { return nil, errors.ErrUnsupported }
func (*answer) Columns() ([]string, error)              { return []string{"id"}, nil }
func (*answer) Err() error                              { return nil }
func (*answer) NextResultSet() bool                     { return false }

func (a *answer) Next() bool {
	a.left--
	return a.left >= 0
}

func (a *answer) Scan(dest ...any) error {
	if len(dest) != 1 {
		return fmt.Errorf("kment: the result has one column, not %d", len(dest))
	}
	if s, ok := dest[0].(sql.Scanner); ok {
		return s.Scan(a.id)
	}
	v := reflect.ValueOf(dest[0]).Elem()
	id := reflect.ValueOf(a.id)
	if !id.IsValid() || !id.CanConvert(v.Type()) {
		return fmt.Errorf("kment: an id is a %T, not a %v", a.id, v.Type())
	}
	v.Set(id.Convert(v.Type()))
	return nil
}
