package sqlstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// A rotation that begins without a right stops in the middle, with an error about a
// table that its user never heard of. So it asks before, and names what is missing.

// right is a right on a table, or on some of its columns.
type right struct {
	verb    string // SELECT, INSERT, UPDATE or DELETE
	table   string
	columns []string // nil means all
}

// ledgerRights are those that a run needs on the tables of rotations.
var ledgerRights = []struct {
	table string
	verbs []string
	any   string // a column
}{
	{"kms_rotations", []string{"SELECT", "INSERT", "UPDATE"}, "id"},
	{"kms_rotation_shards", []string{"SELECT", "INSERT", "UPDATE"}, "rotation_id"},
	{"kms_rotation_failures", []string{"SELECT", "INSERT", "DELETE"}, "rotation_id"},
	{"kms_rotation_journal", []string{"SELECT", "INSERT", "DELETE"}, "rotation_id"},
}

// rights are those that a kind of rotation needs: it reads every column of the struct,
// and writes the keys or all columns of the model.
func (s *Store[R]) rights(k rotation.Kind) []right {
	written := s.keys
	if k.ReplacesKeys() {
		written = s.managed
	}
	if k == rotation.FirstKey {
		written = s.keylessColumns()
	}
	if k == rotation.Reindex {
		written = nil
		for _, x := range s.storedIndexes() {
			written = s.with(written, x.Column)
		}
	}
	all := []right{
		{"SELECT", s.Table(), names(slices.Concat(s.read, s.witnesses))},
		{"UPDATE", s.Table(), names(written)},
	}
	for _, own := range ledgerRights {
		for _, verb := range own.verbs {
			all = append(all, right{verb, own.table, []string{own.any}})
		}
	}
	return all
}

// mayWrite returns [kmsencrypted.ErrConfig] for a database that takes no writes, and
// for a user who lacks a right on the table or, if it exists, the ledger.
func (s *Store[R]) mayWrite(ctx context.Context, k rotation.Kind) error {
	replica, err := s.Replica(ctx)
	if err == nil && replica {
		err = fmt.Errorf("%w: the database is a replica or read-only", kmsencrypted.ErrConfig)
	}
	if err != nil || s.dialect == field.SQLite {
		return err
	}
	var lacks []string
	for _, r := range s.rights(k) {
		has, err := s.has(ctx, r)
		if err != nil {
			return err
		}
		if !has {
			lacks = append(lacks, r.verb+" on "+r.table)
		}
	}
	if lacks != nil {
		return fmt.Errorf("%w: the database user lacks %s", kmsencrypted.ErrConfig, strings.Join(lacks, ", "))
	}
	return nil
}

// has reports whether the user has a right. A table of rotations that does not exist
// yet lacks none.
func (s *Store[R]) has(ctx context.Context, r right) (bool, error) {
	if s.dialect == field.Postgres {
		lacking := 0
		question := "has_column_privilege(to_regclass($1::text), c.name, $3::text)" // of the table or of the column
		if r.verb == "DELETE" {
			question = "has_table_privilege(to_regclass($1::text), $3::text)"
		}
		// A function of NULL is NULL: a table that does not exist lacks nothing.
		err := s.db.GetContext(ctx, &lacking, "SELECT count(*) FROM unnest(string_to_array($2::text, E'\\x1f')) AS c(name) WHERE NOT "+question,
			s.dialect.QuotedTable(r.table), strings.Join(r.columns, "\x1f"), r.verb)
		return lacking == 0, err
	}
	// MariaDB and MySQL check the rights of a statement that finds no row.
	q := s.dialect.Statement()
	switch r.verb {
	case "SELECT":
		q.Add("SELECT ")
		q.Names(r.columns)
		q.Add(" FROM ")
		q.Table(r.table)
	case "INSERT":
		q.Add("INSERT INTO ")
		q.Table(r.table)
		q.Add(" (")
		q.Names(r.columns)
		q.Add(") SELECT 'x' FROM (SELECT 1 AS one) AS one")
	case "UPDATE":
		q.Add("UPDATE ")
		q.Table(r.table)
		q.Add(" SET ")
		q.Each(len(r.columns), ", ", func(i int) {
			q.Name(r.columns[i])
			q.Add(" = ")
			q.Name(r.columns[i])
		})
	case "DELETE":
		q.Add("DELETE FROM ")
		q.Table(r.table)
	}
	q.Add(" WHERE 1 = 0")
	_, err := s.db.ExecContext(ctx, q.String())
	switch {
	case err == nil:
		return true, nil
	case sqldialect.Denied(err):
		return false, nil
	case sqldialect.NoTable(err), sqldialect.RefusesRow(err): // other columns have no default
		return true, nil
	}
	return true, err
}

// Replica reports whether the database is a replica, or takes no writes. Rows that it
// does not have yet are not counted, so only a verification may use it, on request:
// see [rotation.VerifyOptions].
func (s *Store[R]) Replica(ctx context.Context) (replica bool, err error) {
	if err := s.usable(); err != nil {
		return false, err
	}
	switch s.dialect {
	case field.Postgres:
		err = s.db.GetContext(ctx, &replica, "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean")
	case field.MySQL:
		err = s.db.GetContext(ctx, &replica, "SELECT @@global.read_only")
	}
	return replica, markAway(err)
}
