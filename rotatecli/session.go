package rotatecli

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// Session is one call of a [Program], for its commands.
type Session struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// OpenKey is the function of the Program.
	OpenKey func(ctx context.Context, keyID string) (kmsencrypted.Provider, error)

	name     string
	parser   *kong.Kong
	open     func(context.Context) (*Database, error)
	database *Database
	tables   []*table
}

// table is a model with its records.
type table struct {
	name     string
	model    field.Adapter[any]
	store    *sqlstore.Store[any]
	database *Database
}

// printf writes to standard output.
func (s *Session) printf(format string, args ...any) { fmt.Fprintf(s.Stdout, format, args...) }

// Database connects on first use.
func (s *Session) Database(ctx context.Context) (*Database, error) {
	if s.database != nil {
		return s.database, nil
	}
	if s.open == nil {
		return nil, usage("this command needs a database, and the program has none")
	}
	d, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	if len(d.Models) == 0 {
		return nil, fmt.Errorf("%w: no table is known", kmsencrypted.ErrConfig)
	}
	s.database = d
	return d, nil
}

// some returns the tables with these names, or all if there are no names.
func (s *Session) some(ctx context.Context, names []string) ([]*table, error) {
	all, err := s.all(ctx)
	if err != nil || len(names) == 0 {
		return all, err
	}
	var chosen []*table
	for _, name := range names {
		i := slices.IndexFunc(all, func(t *table) bool { return t.name == name })
		if i < 0 {
			return nil, usage("no table %s; there are %s", name, strings.Join(tableNames(all), ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func tableNames(tables []*table) []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.name
	}
	return names
}

func (s *Session) all(ctx context.Context) ([]*table, error) {
	if s.tables != nil {
		return s.tables, nil
	}
	d, err := s.Database(ctx)
	if err != nil {
		return nil, err
	}
	var tables []*table
	for _, m := range d.Models {
		model := m.Dynamic()
		store, err := sqlstore.New(ctx, d.DB, d.Dialect, model, optionsOf(m))
		if err != nil {
			return nil, err
		}
		tables = append(tables, &table{name: model.Table(), model: model.Adapter(), store: store, database: d})
	}
	s.tables = tables
	return tables, nil
}

// rotator returns the engine of a table.
func (t *table) rotator(options rotation.Options) (*rotation.Rotator, error) {
	return rotation.New(t.model.Box(), t.store, options)
}

// hasLedger reports whether the tables of rotations exist. It returns
// [kmsencrypted.ErrConfig] if the user may not read them, or they are of an older
// release.
func (d *Database) hasLedger(ctx context.Context) (bool, error) {
	rows, err := d.DB.QueryContext(ctx, "SELECT id, part, no_journal FROM kms_rotations WHERE 1 = 0")
	switch {
	case err == nil:
		return true, rows.Close()
	case sqldialect.NoTable(err):
		return false, nil
	case sqldialect.NoColumn(err):
		return false, fmt.Errorf("%w: the tables of rotations are older than this release: rotate init", kmsencrypted.ErrConfig)
	case sqldialect.Denied(err):
		return false, fmt.Errorf("%w: the database user may not read kms_rotations, if it exists: docs/cli.md lists the rights: %w", kmsencrypted.ErrConfig, err)
	}
	return false, err
}

// DialectOf returns the database for the driver of a *sql.DB: pgx and pq, the
// drivers of MySQL and MariaDB, and those of SQLite. It returns
// [kmsencrypted.ErrConfig] for another driver.
func DialectOf(db *sql.DB) (field.Dialect, error) {
	if db == nil {
		return "", fmt.Errorf("rotatecli: %w: the database is nil", kmsencrypted.ErrConfig)
	}
	if d, known := sqldialect.OfDriver(db.Driver()); known {
		return d, nil
	}
	return "", fmt.Errorf("rotatecli: %w: unknown database driver %T: use Program and set Database.Dialect", kmsencrypted.ErrConfig, db.Driver())
}
