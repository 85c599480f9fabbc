// Package sqlstore lets a [rotation.Rotator] rotate the records of a SQL table in
// PostgreSQL, MariaDB, MySQL or SQLite.
//
//	users, err := field.NewModel[User](box, field.Config{Table: "users"})
//	…
//	store, err := sqlstore.New(ctx, db, field.Postgres, users, sqlstore.Options{})
//	…
//	err = store.CreateTables(ctx) // once
//	…
//	rotator, err := rotation.New(box, store, rotation.Options{})
//	…
//	result, err := rotator.Run(ctx)
//
// Records are read in the order of their primary key, which may have several
// columns: integers, texts, UUIDs or bytes. Each batch is written in one
// transaction together with the position of its shard, so that a process may die
// at any point. A rewrap writes a row only if its key column is unchanged since
// it was read. A rekey writes a row only if every column of the model is
// unchanged. Both keep the replaced wrapped keys in the table
// kms_rotation_journal.
//
// SQLite needs a busy timeout in its DSN when several workers or processes write.
package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/jmoiron/sqlx/reflectx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Store is a [rotation.Store] of the records of a model. It is safe for
// concurrent use.
type Store[R any] struct {
	db      *sqlx.DB
	model   field.Adapter[R]
	dialect field.Dialect
	ids     []column // primary key, in the order of the model
	keys    []column // that hold wrapped data keys
	managed []column // everything that the model writes
	read    []column // every column of the struct that the table has
	// witnesses are plain columns that a column of the model is made from.
	witnesses []column
	types     map[string]columnType
	// ledgerName is the name of the table in the ledger: that of the model, with the
	// schema if it is not the ledger's own.
	ledgerName string
	trust      trust
	width      width
	packet     packet
	sessions   sessions
	seen       lastSeen
	// takesLists means that the driver takes lists as arguments, for arrays.
	takesLists  bool
	unknown     []string // columns that look encrypted and are not the model's
	independent []string // such columns that [Options.Independent] lists
	// dependents manage other data under the data keys, such as files.
	dependents []field.Dependents
	// writes makes a batch of conditional updates.
	writes func(ctx context.Context, tx *sqlx.Tx, s *swap) error
	// rows is the query for columns of the rows of a batch; nil: they are read one
	// by one.
	rows func(updates []update, columns string) (query string, args []any)
}

// column is a field of the struct with a column.
type column struct {
	name  string
	index []int
	// witness means that the column is compared by its text in the database, because
	// Go may write a time or a fraction differently.
	witness bool
}

// columnType is the type of a column in the database.
type columnType struct {
	name      string
	collation string // of a text in MariaDB and MySQL
}

// isText reports whether the column compares and orders values as texts.
func (t columnType) isText() bool {
	name := strings.ToLower(t.name)
	return t.collation != "" || slices.ContainsFunc([]string{"char", "text", "clob"}, func(kind string) bool { return strings.Contains(name, kind) })
}

// of returns the field in a row.
func (c column) of(row any) reflect.Value {
	v := reflect.ValueOf(row).Elem()
	if v.Kind() == reflect.Interface { // a row of a dynamic model
		v = v.Elem().Elem()
	}
	return v.FieldByIndex(c.index)
}

// value returns the driver value of a column of the model.
func (c column) value(row any) (driver.Value, error) {
	return c.of(row).Addr().Interface().(driver.Valuer).Value()
}

// New returns a store over the table of a model. It reads the columns of the table
// from the database. It returns [kmsencrypted.ErrConfig] for a column of the model that
// the table does not have, for a model without a primary key, and for a nil db or
// model. Columns are found by the struct tag "db". The store does not close db.
func New[R any](ctx context.Context, db *sql.DB, d field.Dialect, m *field.Model[R], options Options) (*Store[R], error) {
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	if db == nil {
		return nil, errNoDB
	}
	if err := m.Adapter().Check(); err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	s := &Store[R]{db: sqlx.NewDb(db, d.DriverName()), model: m.Adapter(), dialect: d}
	s.db.Mapper = reflectx.NewMapper("db")
	if err := s.learn(ctx, options); err != nil {
		return nil, fmt.Errorf("sqlstore: table %s: %w", m.Table(), markAway(err))
	}
	if err := s.learnPacket(ctx); err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	switch {
	case d == field.Postgres:
		s.learnLists(ctx)
		s.writes, s.rows = s.updateAll, s.unnestedRows
	case d == field.MySQL && s.hasJSONTable(ctx):
		s.writes, s.rows = s.updateInPackets, s.joinedRows
	default:
		s.writes = s.updateEach
	}
	return s, nil
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Store.
func (s *Store[R]) usable() error {
	if s == nil || s.db == nil {
		return fmt.Errorf("sqlstore: %w: the Store was not made by New", kmsencrypted.ErrConfig)
	}
	return nil
}

var errNoDB = fmt.Errorf("sqlstore: %w: the database is nil", kmsencrypted.ErrConfig)

// unknownAmong lists columns that look encrypted and are neither in the model nor
// declared independent.
func (s *Store[R]) unknownAmong(existing []string) []string {
	return slices.DeleteFunc(s.model.UnknownColumns(existing), func(name string) bool { return slices.Contains(s.independent, name) })
}

// plainSources are the columns that the model reads and does not manage: it fills
// others from them, or its encryption context is made of them.
func (s *Store[R]) plainSources() (names []string) {
	managed := s.model.Columns()
	add := func(name string) {
		if !slices.Contains(managed, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, r := range s.model.Replacements() {
		add(r.Old)
	}
	for _, name := range s.model.ContextColumns() {
		add(name)
	}
	for _, x := range s.model.IndexColumns() {
		for _, name := range x.Sources {
			add(name)
		}
	}
	return names
}

// Options configure a store. The zero value suits most programs.
type Options struct {
	// Independent lists columns that are named like encrypted ones but are not
	// sealed under a key of the model. A rekey returns [kmsencrypted.ErrConfig] for
	// a table with such a column that is neither in the model nor in this list,
	// because its content would be lost with the old data key.
	Independent []string
	// Dependents are the managers of data in other tables under the data keys of the
	// records, such as attached files. A rekey without them is [kmsencrypted.ErrConfig]
	// if records have files: if kms_attachments or active_storage_attachments has rows
	// of the table, or the model has [field.Config.Files].
	Dependents []field.Dependents
}

// learn compares the struct with the table.
func (s *Store[R]) learn(ctx context.Context, options Options) error {
	existing, types, err := s.columnTypes(ctx, s.db)
	if err != nil {
		return err
	}
	if len(existing) == 0 {
		return fmt.Errorf("%w: the database has no such table, or does not show it to this user", kmsencrypted.ErrConfig)
	}
	s.types = types
	if s.ledgerName, err = s.nameInLedger(ctx); err != nil {
		return err
	}
	fields := s.db.Mapper.TypeMap(s.model.RowType())
	find := func(names []string) (columns []column, err error) {
		for _, name := range names {
			f, ok := fields.Names[name]
			if !ok || !slices.Contains(existing, name) {
				return nil, fmt.Errorf("%w: no column %s", kmsencrypted.ErrConfig, name)
			}
			columns = append(columns, column{name: name, index: f.Index})
		}
		return columns, nil
	}
	if s.ids, err = find(s.model.IDColumns()); err != nil {
		return err
	}
	if len(s.ids) == 0 {
		return fmt.Errorf("%w: the model has no primary key: tag it `kms:\"id\"`", kmsencrypted.ErrConfig)
	}
	if s.managed, err = find(s.model.Columns()); err != nil {
		return err
	}
	for _, c := range s.managed {
		if fields.Names[c.name].Field.Type != reflect.TypeFor[field.Key]() {
			continue
		}
		if types[c.name].name == "bytea" {
			column := s.dialect.Quoted(c.name)
			return fmt.Errorf("%w: the key column %s is bytea, and must be text: ALTER TABLE %s ALTER COLUMN %s TYPE text USING convert_from(%[4]s, 'UTF8')",
				kmsencrypted.ErrConfig, c.name, s.dialect.QuotedTable(s.Table()), column)
		}
		s.keys = append(s.keys, c)
	}
	if len(s.keys) == 0 {
		return fmt.Errorf("%w: the model has no key column, so there is nothing to rotate", kmsencrypted.ErrConfig)
	}
	if err := s.learnDependents(options); err != nil {
		return err
	}
	if s.witnesses, err = find(s.plainSources()); err != nil {
		return err
	}
	for i := range s.witnesses {
		s.witnesses[i].witness = true
	}
	s.independent = options.Independent
	s.unknown = s.unknownAmong(existing)
	for _, f := range fields.Index {
		if f.Path == f.Name && fields.Names[f.Name] == f && slices.Contains(existing, f.Name) {
			s.read = append(s.read, column{name: f.Name, index: f.Index})
		}
	}
	return nil
}

// nameInLedger tells tables of the same name in several schemas apart: one ledger may
// serve them all. A table has one name, with or without its schema in the model.
func (s *Store[R]) nameInLedger(ctx context.Context) (string, error) {
	var of struct{ Own, Ledger string }
	args := typesOf(s.dialect, s.Table())
	if s.dialect == field.SQLite {
		args = args[:1]
	}
	if err := s.db.GetContext(ctx, &of, dialects[s.dialect].schemas, args...); err != nil {
		return "", err
	}
	name := s.Table()
	if _, table, qualified := strings.Cut(name, "."); qualified {
		name = table
	}
	if of.Own != of.Ledger {
		name = of.Own + "." + name
	}
	return name, nil
}

// columnTypes asks the database for the columns of the table.
func (s *Store[R]) columnTypes(ctx context.Context, db sqlx.QueryerContext) (names []string, types map[string]columnType, err error) {
	var found []struct{ Name, Type, Collation string }
	if err := sqlx.SelectContext(ctx, db, &found, dialects[s.dialect].columnTypes, typesOf(s.dialect, s.Table())...); err != nil {
		return nil, nil, err
	}
	types = make(map[string]columnType, len(found))
	for _, t := range found {
		names, types[t.Name] = append(names, t.Name), columnType{t.Type, t.Collation}
	}
	return names, types, nil
}

// Table returns the name of the model's table.
func (s *Store[R]) Table() string {
	if s == nil {
		return ""
	}
	return s.model.Table()
}

// Count counts the records of a part by the version of each key column; an empty part
// is the whole table. It reads the table once per key column.
func (s *Store[R]) Count(ctx context.Context, part string) (counts []rotation.VersionCount, err error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	if err := s.seesAll(ctx); err != nil {
		return nil, fmt.Errorf("sqlstore: count %s: %w", s.Table(), markAway(err))
	}
	if err := s.countsOnce(ctx); err != nil {
		return nil, fmt.Errorf("sqlstore: count %s: %w", s.Table(), markAway(err))
	}
	for _, key := range s.keys {
		byVersion, err := s.countIn(ctx, key, s.dialect.QuotedTable(s.Table()), part)
		if err != nil {
			return nil, fmt.Errorf("sqlstore: count %s: %w", s.Table(), markAway(err))
		}
		for c, n := range byVersion {
			c.Rows = n
			counts = append(counts, c)
		}
	}
	slices.SortFunc(counts, compareCounts)
	return counts, nil
}

// Selected counts the rows of a selection.
func (s *Store[R]) Selected(ctx context.Context, sel rotation.Selection) (n int64, err error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	q := s.dialect.Statement()
	q.Add("SELECT count(*) FROM ", q.Dialect.QuotedTable(s.Table()), " WHERE 1 = 1")
	if err := s.where(q, sel); err != nil {
		return 0, err
	}
	if err := s.db.GetContext(ctx, &n, q.String(), q.Args...); err != nil {
		return 0, fmt.Errorf("sqlstore: count %s: %w", s.Table(), markAway(err))
	}
	return n, nil
}

func compareCounts(a, b rotation.VersionCount) int {
	return cmp.Or(cmp.Compare(a.Column, b.Column), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Rows, b.Rows))
}

func names(columns []column) []string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = c.name
	}
	return list
}
