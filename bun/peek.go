package kmsbun

import (
	"reflect"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"
)

// bun gives the hooks of a model its query, but not all that the query holds: not the
// connection that it runs on, without which the statements of a record could not be in
// the transaction of the program, nor what the program set beside the record. So these
// fields are read by reflection. [fits] looks at the release of bun before anything
// depends on it.

// peek returns a pointer to a field of a query, nil if there is none of this type.
func peek[T any](q any, name string) *T {
	f := reflect.ValueOf(q).Elem().FieldByName(name)
	if !f.IsValid() || f.Type() != reflect.TypeFor[T]() {
		return nil
	}
	return (*T)(f.Addr().UnsafePointer())
}

func columnsOf(q any) *[]schema.QueryWithArgs { return peek[[]schema.QueryWithArgs](q, "columns") }
func setOf(q any) *[]schema.QueryWithArgs     { return peek[[]schema.QueryWithArgs](q, "set") }
func whereOf(q any) *[]schema.QueryWithSep    { return peek[[]schema.QueryWithSep](q, "where") }
func whereFieldsOf(q any) *[]*schema.Field    { return peek[[]*schema.Field](q, "whereFields") }
func onOf(q any) *schema.QueryWithArgs        { return peek[schema.QueryWithArgs](q, "on") }
func ignoreOf(q any) *bool                    { return peek[bool](q, "ignore") }
func replaceOf(q any) *bool                   { return peek[bool](q, "replace") }

func returningOf(q any) *[]schema.QueryWithArgs {
	return peek[[]schema.QueryWithArgs](q, "returning")
}

func valuesOf(q any) *map[string]schema.QueryWithArgs {
	return peek[map[string]schema.QueryWithArgs](q, "modelValues")
}

// connOf returns the connection of a query, which is the database if it names none.
func connOf(q any, db *bun.DB) bun.IConn {
	if conn := *peek[bun.IConn](q, "conn"); conn != nil {
		return conn
	}
	return db.DB
}

// fits returns an error if this release of bun has other fields.
func fits(db *bun.DB) error {
	insert, update, query := db.NewInsert(), db.NewUpdate(), db.NewSelect()
	for _, q := range []any{insert, update, query} {
		if !reflect.ValueOf(q).Elem().FieldByName("with").IsValid() || peek[bun.IConn](q, "conn") == nil || columnsOf(q) == nil || whereOf(q) == nil || whereFieldsOf(q) == nil {
			return configError("this release of bun is unknown: %T has other fields", q)
		}
	}
	if onOf(insert) == nil || ignoreOf(insert) == nil || replaceOf(insert) == nil || valuesOf(insert) == nil || setOf(update) == nil || valuesOf(update) == nil || returningOf(insert) == nil || returningOf(update) == nil {
		return configError("this release of bun is unknown: its queries have other fields")
	}
	if r := reflect.ValueOf(db).Elem().FieldByName("resolver"); r.IsValid() && !r.IsNil() {
		return configError("bun.WithConnResolver is not supported: a record would be read from one database and written to another")
	}
	return nil
}

// named lists the columns that a query names, if it names any, and reports whether
// all of them are names and no expressions.
func named(q any, t *schema.Table) (columns []string, plain bool) {
	plain = true
	for _, c := range *columnsOf(q) {
		f := t.FieldMap[c.Query]
		if f == nil || len(c.Args) > 0 {
			plain = false
			continue
		}
		columns = append(columns, f.Name)
	}
	return columns, plain
}
