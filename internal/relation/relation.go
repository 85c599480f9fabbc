// Package relation asks a database what stands behind the name of a table: a table by
// itself, a partition, a table that inherits, or a view. Whoever counts the rows of a
// name must know of which others it shows only a part, and whether a row may be met
// twice.
package relation

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Relation is what a name stands for.
type Relation struct {
	// ID is the same for two names of one relation.
	ID string
	// View reports a view, whose rows are those of other tables.
	View bool
	// Fixed reports a view that takes no UPDATE, or what is like one.
	Fixed bool
	// Keyed reports that the database itself allows no two rows with the same primary
	// key, and none without one.
	Keyed bool
	// Wholes are the relations of which this may be a part: the parents of a partition
	// or of a table that inherits, and what a view reads its keys from. Only those that
	// have a key column themselves count.
	Wholes []Whole
}

// Whole is a relation of which another may be a part.
type Whole struct {
	ID   string
	Name string // in quotes if it needs them, for SQL
	// Top reports a table that is no part of anything itself.
	Top bool
	// Secured reports that row level security may hide rows of it from the view.
	Secured bool
}

// Tops are the tables of which the relation may be a part.
func (r Relation) Tops() (names []string) {
	for _, w := range r.Wholes {
		if w.Top {
			names = append(names, w.Name)
		}
	}
	return names
}

// Querier is a [*sql.DB] or [*sql.Tx].
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Of looks at a table, whose name may have its schema before a dot. ids are the columns
// of its primary key, as a program declares it, and keys those of wrapped data keys. A
// table that does not exist is [sql.ErrNoRows].
func Of(ctx context.Context, db Querier, d sqldialect.Dialect, table string, ids, keys []string) (Relation, error) {
	schema, name, qualified := strings.Cut(table, ".")
	if !qualified {
		schema, name = "", table
	}
	var r Relation
	var err error
	switch d {
	case sqldialect.Postgres:
		r, err = postgres(ctx, db, d.QuotedTable(table), ids, keys)
	case sqldialect.MySQL:
		r, err = mysql(ctx, db, schema, name, ids, keys)
	default:
		r, err = sqlite(ctx, db, schema, name, ids)
	}
	if err != nil {
		return r, fmt.Errorf("what %s is: %w", table, err)
	}
	return r, nil
}

// separator joins names to one argument, which every driver can send.
const separator = "\x1f"

// first reads the first row of a query.
func first(ctx context.Context, db Querier, query string, args []any, targets ...any) error {
	found := false
	err := each(ctx, db, query, args, targets, func() { found = true })
	if err == nil && !found {
		err = sql.ErrNoRows
	}
	return err
}

// each reads the rows of a query, one after the other.
func each(ctx context.Context, db Querier, query string, args, targets []any, do func()) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		do()
	}
	return rows.Err()
}
