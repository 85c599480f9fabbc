package kmsbun

import (
	"database/sql/driver"

	"github.com/uptrace/bun"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// Matches returns a condition that finds records by the value of an encrypted field,
// through its blind index:
//
//	l := customers.Lookup("Email", "ada@example.org")
//	err := db.NewSelect().Model(&list).ApplyQueryBuilder(kmsbun.Matches(l)).Scan(ctx)
//
// It fits into the queries SELECT, UPDATE and DELETE of bun. An index may find other
// records too. After a SELECT into a slice those are removed; with several conditions
// of Matches a record must match at least one. A SELECT into a struct returns
// [kmsencrypted.ErrNotOpened] if the index found another record first. An UPDATE or
// DELETE also meets other records: select them first. An error of the look-up is that
// of the query; what is sought nowhere finds nothing.
func Matches(l field.Lookup) func(bun.QueryBuilder) bun.QueryBuilder {
	return func(q bun.QueryBuilder) bun.QueryBuilder {
		// bun ignores an argument without a placeholder; the hooks find it.
		switch {
		case l.Err() != nil:
			return q.Where("?", failing{l.Err()}, sought{l})
		case l.Null:
			return q.Where("?TableAlias.? IS NULL", bun.Ident(l.Name), sought{l})
		}
		return q.Where("?TableAlias.? IN (?)", bun.Ident(l.Name), bun.In(l.Indexes()), sought{l})
	}
}

// sought is the look-up of a condition.
type sought struct{ lookup field.Lookup }

// failing is an argument that cannot be written.
type failing struct{ err error }

// Value implements [driver.Valuer].
func (f failing) Value() (driver.Value, error) { return nil, f.err }

// lookupsOf lists the look-ups in the conditions of a query.
func lookupsOf(q any) (list []field.Lookup) {
	for _, w := range *whereOf(q) {
		for _, arg := range w.Args {
			if s, ok := arg.(sought); ok {
				list = append(list, s.lookup)
			}
		}
	}
	return list
}
