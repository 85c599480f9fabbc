package tables

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// DB is a [*sql.DB] or [*sql.Conn]. A transaction does not work: a statement fails
// if another process was faster, which would end the transaction.
type DB interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Create makes what is missing of the sets, in a database that has none of it or
// an older version. Several processes may call it at once, and releases that know
// an older version may go on working meanwhile.
func Create(ctx context.Context, db DB, d sqldialect.Dialect, sets ...Set) error {
	if err := d.Check(); err != nil {
		return err
	}
	if missing.Is(db) {
		return fmt.Errorf("%w: the database is nil", kmsencrypted.ErrConfig)
	}
	c := creation{db: db, dialect: d}
	recorded, err := Recorded(ctx, db) // none if the table is missing
	hidden := sqldialect.Denied(err)
	for _, s := range sets {
		// Usually nothing is missing, and the role may not be allowed to create tables.
		if recorded[s.Name] >= s.Version() && Check(ctx, db, d, s) == nil {
			continue
		}
		if hidden && Check(ctx, db, d, s) == nil {
			return fmt.Errorf("%w: the tables exist, and the database user may not read %s: %w", kmsencrypted.ErrConfig, Registry, err)
		}
		c.table(ctx, registry)
		for _, t := range s.Tables {
			c.table(ctx, t)
		}
		c.record(ctx, s)
	}
	return c.err
}

// creation keeps the first error; later calls then do nothing.
type creation struct {
	db      DB
	dialect sqldialect.Dialect
	err     error
}

func (c *creation) table(ctx context.Context, t Table) {
	c.ensure(ctx, t.create(), func() bool {
		existing, err := columns(ctx, c.db, c.dialect, t.Name)
		return err == nil && len(existing) > 0
	})
	for _, added := range t.Added {
		c.ensure(ctx, "ALTER TABLE "+t.Name+" ADD COLUMN "+added.definition(), func() bool {
			existing, err := columns(ctx, c.db, c.dialect, t.Name)
			return err == nil && slices.Contains(existing, added.Name)
		})
	}
	for _, x := range t.Indexes {
		c.ensure(ctx, x.create(c.dialect, t.Name), func() bool { return c.hasIndex(ctx, t.Name, x.Name) })
	}
}

// ensure runs a statement unless its result exists. If another process creates it
// at the same time, the error of the statement does not count, and a deadlock
// between the two is retried.
func (c *creation) ensure(ctx context.Context, statement string, there func() bool) {
	const tries = 5
	for try := 1; c.err == nil && !there(); try++ {
		_, err := c.db.ExecContext(ctx, types[c.dialect].Replace(statement))
		if err == nil || there() {
			return
		}
		if try == tries || ctx.Err() != nil {
			c.err = err
		}
	}
}

func (c *creation) hasIndex(ctx context.Context, table, name string) bool {
	query := map[sqldialect.Dialect]string{
		sqldialect.Postgres: "SELECT 1 FROM pg_indexes WHERE schemaname = ANY (current_schemas(false)) AND tablename = '%s' AND indexname = '%s'",
		sqldialect.MySQL:    "SELECT 1 FROM information_schema.statistics WHERE table_schema = database() AND table_name = '%s' AND index_name = '%s'",
		sqldialect.SQLite:   "SELECT 1 FROM sqlite_master WHERE type = 'index' AND tbl_name = '%s' AND name = '%s'",
	}[c.dialect]
	rows, err := c.db.QueryContext(ctx, fmt.Sprintf(query, table, name))
	if err != nil {
		return false
	}
	defer rows.Close()
	return rows.Next()
}

// record raises the version in kms_tables. It keeps a higher one of a newer
// release.
func (c *creation) record(ctx context.Context, s Set) {
	has := func(least int) func() bool {
		return func() bool {
			recorded, err := Recorded(ctx, c.db)
			return err == nil && recorded[s.Name] >= least
		}
	}
	c.ensure(ctx, s.record(), has(1))
	c.ensure(ctx, fmt.Sprintf("UPDATE %[1]s SET version = %[2]d WHERE name = '%[3]s' AND version < %[2]d", Registry, s.Version(), s.Name), has(s.Version()))
}

// Recorded returns the version of each set in the database, by name. It does not
// include tables that were created before sets had versions.
func Recorded(ctx context.Context, db DB) (map[string]int, error) {
	rows, err := db.QueryContext(ctx, "SELECT name, version FROM "+Registry)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	versions := make(map[string]int)
	for rows.Next() {
		var name string
		var version int
		if err := rows.Scan(&name, &version); err != nil {
			return nil, err
		}
		versions[name] = version
	}
	return versions, rows.Err()
}

// Check returns [kmsencrypted.ErrConfig] with what to do if a table of the set is
// missing, or lacks a column that this release uses. A newer version of the
// tables is fine.
func Check(ctx context.Context, db DB, d sqldialect.Dialect, s Set) error {
	for _, t := range s.Tables {
		existing, err := columns(ctx, db, d, t.Name)
		if err != nil {
			return err
		}
		missing := ""
		if len(existing) == 0 {
			missing = "missing table " + t.Name
		}
		for _, added := range t.Added {
			if missing == "" && !slices.Contains(existing, added.Name) {
				missing = fmt.Sprintf("the table %s has no column %s", t.Name, added.Name)
			}
		}
		if missing != "" {
			return fmt.Errorf("%w: %s; this release needs version %d of its tables: call CreateTables, or run the command \"tables --create\"",
				kmsencrypted.ErrConfig, missing, s.Version())
		}
	}
	return nil
}

// catalogs ask for the columns of a table. SELECT * would do, but PostgreSQL
// refuses a prepared one once the table has changed.
var catalogs = map[sqldialect.Dialect]string{
	sqldialect.Postgres: "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('%s') AND attnum > 0 AND NOT attisdropped",
	sqldialect.MySQL:    "SELECT column_name FROM information_schema.columns WHERE table_schema = database() AND table_name = '%s'",
	sqldialect.SQLite:   "SELECT name FROM pragma_table_info('%s')",
}

// Columns lists the columns of a table: none if there is no such table.
func Columns(ctx context.Context, db DB, d sqldialect.Dialect, table string) (names []string, err error) {
	return columns(ctx, db, d, table)
}

func columns(ctx context.Context, db DB, d sqldialect.Dialect, table string) (names []string, err error) {
	rows, err := db.QueryContext(ctx, fmt.Sprintf(catalogs[d], table))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
