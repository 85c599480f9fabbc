package branch

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// NewSQL returns the key store in the tables of [Tables]. It does not call the database.
//
// db must be a pool that no transaction of the program uses: see the package
// documentation. The store does not close it. The error is [kmsencrypted.ErrConfig] for a nil db or an unknown dialect.
func NewSQL(db *sql.DB, d field.Dialect) (Store, error) {
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("branch: %w", err)
	}
	if db == nil {
		return nil, fmt.Errorf("branch: %w: the database is nil", kmsencrypted.ErrConfig)
	}
	return &sqlStore{db, d}, nil
}

type sqlStore struct {
	db      *sql.DB
	dialect field.Dialect
}

// placed returns the table of a branch with the condition that selects its rows, and the
// arguments of that.
func (s *sqlStore) placed(n Name) (table, where string, args []any) {
	if n.Parent == "" {
		return topTable, "branch = ?", []any{s.exact(n.Branch)}
	}
	return subTable, "parent = ? AND branch = ?", []any{s.exact(n.Parent), s.exact(n.Branch)}
}

// exact returns a name as the argument for its column, which holds bytes in MySQL.
func (s *sqlStore) exact(name string) any {
	if s.dialect == sqldialect.MySQL {
		return []byte(name)
	}
	return name
}

func (s *sqlStore) Read(ctx context.Context, name Name) (state State, rows []Row, err error) {
	table, where, args := s.placed(name)
	query := "SELECT s.store, s.max_age, s.stale_for, s.epoch, k.version, k.encrypted_kms_key, k.created, k.closing, k.erased" +
		" FROM kms_branch_store s LEFT JOIN " + table + " k ON " + where + " WHERE s.id = 1 ORDER BY k.version"
	result, err := s.db.QueryContext(ctx, s.dialect.SQL(query), args...)
	if err != nil {
		return state, nil, unavailable("read", err)
	}
	defer result.Close()
	found := false
	for result.Next() {
		var store stateRow
		var row sqlRow
		if err := result.Scan(&store.id, &store.maxAge, &store.staleFor, &store.epoch, &row.version, &row.key, &row.created, &row.closing, &row.erased); err != nil {
			return state, nil, unavailable("read", err)
		}
		if !found {
			if state, err = store.state(); err != nil {
				return state, nil, fmt.Errorf("branch: %w: %w", kmsencrypted.ErrConfig, err)
			}
			found = true
		}
		if !row.version.Valid { // the branch has no rows
			continue
		}
		one, err := row.row(name)
		if err != nil {
			return state, nil, err
		}
		rows = append(rows, one)
	}
	if err := result.Err(); err != nil {
		return state, nil, unavailable("read", err)
	}
	if !found {
		return state, nil, fmt.Errorf("branch: %w: the key store has no identity: call CreateTables", kmsencrypted.ErrConfig)
	}
	return state, rows, nil
}

// sqlRow holds the columns of a row, which are NULL for a branch without rows.
type sqlRow struct {
	key                               sql.Null[string]
	version, created, closing, erased sql.Null[int64]
}

func (r sqlRow) row(name Name) (Row, error) {
	if r.version.V < 1 || r.version.V > math.MaxUint32 {
		return Row{}, fmt.Errorf("branch: %w: branch %s has version %d", kmsencrypted.ErrMalformed, name, r.version.V)
	}
	return Row{
		Name: name, Version: uint32(r.version.V), WrappedKey: r.key.V,
		Created: ofMillis(r.created), Closing: ofMillis(r.closing), Erased: ofMillis(r.erased),
	}, nil
}

func ofMillis(n sql.Null[int64]) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMilli(n.V).UTC()
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func (s *sqlStore) Insert(ctx context.Context, row Row) (added bool, err error) {
	table, where, args := s.placed(row.Name)
	names, marks := "branch", "?"
	if row.Parent != "" {
		names, marks = "parent, branch", "?, ?"
	}
	_, err = s.db.ExecContext(ctx, s.dialect.SQL("INSERT INTO "+table+" ("+names+", version, encrypted_kms_key, created) VALUES ("+marks+", ?, ?, ?)"),
		append(args, int64(row.Version), row.WrappedKey, row.Created.UnixMilli())...)
	if err == nil {
		return true, nil
	}
	if sqldialect.RefusesRow(err) { // because another process was quicker, or for another reason
		var n int
		query := s.dialect.SQL("SELECT count(*) FROM " + table + " WHERE " + where + " AND version = ?")
		if s.db.QueryRowContext(ctx, query, append(args, int64(row.Version))...).Scan(&n) == nil && n > 0 {
			return false, nil
		}
	}
	return false, unavailable("insert", err)
}

func (s *sqlStore) Replace(ctx context.Context, row Row, wrappedKey string) (replaced bool, err error) {
	table, where, args := s.placed(row.Name)
	column, before, after := s.dialect.Exact(keyColumn)
	query := "UPDATE " + table + " SET encrypted_kms_key = ? WHERE " + where + " AND version = ? AND closing IS NULL AND " + column + " = " + before + "?" + after
	args = append(append([]any{wrappedKey}, args...), int64(row.Version), row.WrappedKey)
	result, err := s.db.ExecContext(ctx, s.dialect.SQL(query), args...)
	if err != nil {
		return false, unavailable("replace", err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

func (s *sqlStore) Close(ctx context.Context, name Name, at time.Time) error {
	table, where, args := s.placed(name)
	_, err := s.db.ExecContext(ctx, s.dialect.SQL("UPDATE "+table+" SET closing = ? WHERE "+where+" AND closing IS NULL AND erased IS NULL"),
		append([]any{at.UnixMilli()}, args...)...)
	if err != nil {
		return unavailable("close a branch in", err)
	}
	return nil
}

func (s *sqlStore) Erase(ctx context.Context, name Name, at time.Time) error {
	table, where, args := s.placed(name)
	names, marks := "branch", "?"
	if name.Parent != "" {
		names, marks = "parent, branch", "?, ?"
	}
	millis := at.UnixMilli()
	for {
		result, err := s.db.ExecContext(ctx, s.dialect.SQL("UPDATE "+table+" SET encrypted_kms_key = NULL, closing = coalesce(closing, ?), erased = coalesce(erased, ?) WHERE "+
			where+" AND (erased IS NULL OR encrypted_kms_key IS NOT NULL)"), append([]any{millis, millis}, args...)...)
		if err != nil {
			return unavailable("erase a branch in", err)
		}
		if n, err := result.RowsAffected(); err == nil && n > 0 {
			return nil
		}
		var rows int
		if err := s.db.QueryRowContext(ctx, s.dialect.SQL("SELECT count(*) FROM "+table+" WHERE "+where), args...).Scan(&rows); err != nil {
			return unavailable("erase a branch in", err)
		}
		if rows > 0 {
			return nil // erased before
		}
		_, err = s.db.ExecContext(ctx, s.dialect.SQL("INSERT INTO "+table+" ("+names+", version, created, closing, erased) VALUES ("+marks+", 1, ?, ?, ?)"),
			append(slices.Clone(args), millis, millis, millis)...)
		if err == nil {
			return nil
		}
		if !sqldialect.RefusesRow(err) { // otherwise somebody has just made the branch
			return unavailable("erase a branch in", err)
		}
	}
}

func (s *sqlStore) Raise(ctx context.Context, old, epoch uint64) (raised bool, err error) {
	result, err := s.db.ExecContext(ctx, s.dialect.SQL("UPDATE kms_branch_store SET epoch = ? WHERE id = 1 AND epoch = ?"), int64(epoch), int64(old))
	if err != nil {
		return false, unavailable("raise the epoch of", err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// rowsPerQuery limits a result, so that no connection is held while rows are used.
const rowsPerQuery = 1000

func (s *sqlStore) All(ctx context.Context, parent string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		var after Row // the last one yielded
		for {
			rows, err := s.page(ctx, parent, after)
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
				after = row
			}
			if err != nil {
				yield(Row{}, err)
				return
			}
			if len(rows) < rowsPerQuery {
				return
			}
		}
	}
}

// page returns the rows that follow one.
func (s *sqlStore) page(ctx context.Context, parent string, after Row) (page []Row, err error) {
	table, where := topTable, ""
	var args []any
	if parent != "" {
		table, where, args = subTable, "parent = ? AND ", []any{s.exact(parent)}
	}
	query := fmt.Sprintf("SELECT branch, version, encrypted_kms_key, created, closing, erased FROM %s WHERE %s(branch > ? OR branch = ? AND version > ?) ORDER BY branch, version LIMIT %d",
		table, where, rowsPerQuery)
	args = append(args, s.exact(after.Branch), s.exact(after.Branch), int64(after.Version))
	result, err := s.db.QueryContext(ctx, s.dialect.SQL(query), args...)
	if err != nil {
		return nil, unavailable("list", err)
	}
	defer result.Close()
	for result.Next() {
		var row sqlRow
		name := Name{Parent: parent}
		if err := result.Scan(&name.Branch, &row.version, &row.key, &row.created, &row.closing, &row.erased); err != nil {
			return page, unavailable("list", err)
		}
		one, err := row.row(name)
		if err != nil {
			return page, err
		}
		page = append(page, one)
	}
	if err := result.Err(); err != nil {
		return page, unavailable("list", err)
	}
	return page, nil
}

// unavailable returns the kind of an error of the database: [kmsencrypted.ErrConfig] for
// missing tables or rights, and otherwise ErrUnavailable.
func unavailable(doing string, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case sqldialect.NoTable(err), sqldialect.NoColumn(err):
		return fmt.Errorf("branch: %w: %s the key store: call CreateTables, or run the command \"tables --create\": %w", kmsencrypted.ErrConfig, doing, err)
	case sqldialect.Denied(err):
		return fmt.Errorf("branch: %w: %s the key store: the database user lacks the right: %w", kmsencrypted.ErrConfig, doing, err)
	case sqldialect.Transient(err):
		return fmt.Errorf("%w: %s the key store: another transaction holds it; on SQLite keep it in a file of its own, or call Ensure before: %w", kmsencrypted.ErrUnavailable, doing, err)
	}
	return fmt.Errorf("%w: %s the key store: %w", kmsencrypted.ErrUnavailable, doing, err)
}
