package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// note is a record with two encrypted columns. The table has one more, writes, so
// that a row that was written twice shows.
type note struct {
	ID    int64             `db:"id"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Title field.Of[string]  `db:"title_ciphertext"`
	Body  field.Of[*string] `db:"body_ciphertext"`
}

// title and body are what row id holds; each third body is NULL.
func title(id int64) string { return fmt.Sprintf("note %d", id) }

func body(id int64) *string {
	if id%3 == 0 {
		return nil
	}
	return new(fmt.Sprintf("what note %d says", id))
}

// boxOf has two versions, which differ in nothing but their number: the test key
// costs no time, so that what is measured and killed is the rotation.
func boxOf(current int, provider kmsencrypted.Provider) (*kmsencrypted.Box, error) {
	return kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{
		1: {Provider: provider}, 2: {Provider: provider},
	}}.Box()
}

func notesOf(box *kmsencrypted.Box) (*field.Model[note], error) {
	return field.NewModel[note](box, field.Config{Table: "notes"})
}

// rotatorOf moves the table to the version.
func rotatorOf(ctx context.Context, db *sql.DB, version int, provider kmsencrypted.Provider, o rotation.Options) (*rotation.Rotator, error) {
	box, err := boxOf(version, provider)
	if err != nil {
		return nil, err
	}
	notes, err := notesOf(box)
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.New(ctx, db, field.Postgres, notes, sqlstore.Options{})
	if err != nil {
		return nil, err
	}
	o.WritersAreOurs = true
	return rotation.New(box, store, o)
}

// table is a database of its own with the table of notes.
type table struct {
	dsn  string
	rows int64
	pool *pgxpool.Pool
	db   *sql.DB // over the pool
}

// connect opens enough connections for the workers and the queue.
func connect(ctx context.Context, dsn string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 16
	return pgxpool.NewWithConfig(ctx, config)
}

// newTable makes a table of so many rows at version 1.
func newTable(t testing.TB, rows int64) *table {
	t.Helper()
	dsn := dbserver.Postgres(t)
	pool, err := connect(t.Context(), dsn)
	must(t, err)
	t.Cleanup(pool.Close)
	made := &table{dsn: dsn, rows: rows, pool: pool, db: stdlib.OpenDBFromPool(pool)}
	t.Cleanup(func() { made.db.Close() })
	box, err := boxOf(1, testkey.New())
	must(t, err)
	notes, err := notesOf(box)
	must(t, err)
	columns, err := notes.DDL(field.Postgres)
	must(t, err)
	made.exec(t, "CREATE TABLE notes (id bigint PRIMARY KEY, writes int NOT NULL DEFAULT 0, "+strings.Join(columns, ", ")+")")
	made.eachPage(t, func(from, to int64) error { return made.fill(t.Context(), notes, from, to) })
	made.exec(t, "VACUUM ANALYZE notes")
	store, err := sqlstore.New(t.Context(), made.db, field.Postgres, notes, sqlstore.Options{})
	must(t, err)
	must(t, store.CreateTables(t.Context()))
	return made
}

// countWrites makes a trigger count the writes of each row.
func (n *table) countWrites(t testing.TB) {
	t.Helper()
	n.exec(t, "CREATE FUNCTION count_writes() RETURNS trigger AS 'BEGIN NEW.writes = OLD.writes + 1; RETURN NEW; END' LANGUAGE plpgsql")
	n.exec(t, "CREATE TRIGGER count_writes BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION count_writes()")
}

func (n *table) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	_, err := n.db.ExecContext(t.Context(), query, args...)
	must(t, err)
}

// eachPage calls a function for ranges of ids, several of them concurrently.
func (n *table) eachPage(t testing.TB, do func(from, to int64) error) {
	t.Helper()
	eachPageOf(t, n.rows, do)
}

func eachPageOf(t testing.TB, rows int64, do func(from, to int64) error) {
	t.Helper()
	const page, atOnce = 2000, 4
	var next atomic.Int64
	var group sync.WaitGroup
	for range atOnce {
		group.Go(func() {
			for {
				from := next.Add(page) - page + 1
				if from > rows {
					return
				}
				if err := do(from, min(from+page-1, rows)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func (n *table) fill(ctx context.Context, notes *field.Model[note], from, to int64) error {
	list := make([]note, to-from+1)
	for i := range list {
		id := from + int64(i)
		list[i] = note{ID: id, Title: field.New(title(id)), Body: field.New(body(id))}
	}
	if err := notes.SealNew(ctx, field.Pointers(list)...); err != nil {
		return err
	}
	_, err := n.pool.CopyFrom(ctx, pgx.Identifier{"notes"}, append([]string{"id"}, notes.Adapter().Columns()...),
		pgx.CopyFromSlice(len(list), func(i int) ([]any, error) {
			return []any{list[i].ID, list[i].Key, list[i].Title, list[i].Body}, nil
		}))
	return err
}

// tally is what became of the rows of a table.
type tally struct {
	rows       int64
	lost       int64 // rows that are gone or hold something else
	unreadable int64
	twice      int64 // rows that were written more than once
	never      int64 // rows that were not written at all
	old        int64 // rows that are not at the version
}

// tally opens every row.
func (n *table) tally(t testing.TB, version int) tally {
	t.Helper()
	box, err := boxOf(version, testkey.New())
	must(t, err)
	notes, err := notesOf(box)
	must(t, err)
	sum := tally{lost: n.rows}
	err = n.db.QueryRowContext(t.Context(), `SELECT count(*), count(*) FILTER (WHERE writes > 1), count(*) FILTER (WHERE writes = 0),
		count(*) FILTER (WHERE encrypted_kms_key NOT LIKE $1) FROM notes`, fmt.Sprintf("v%d:%%", version)).
		Scan(&sum.rows, &sum.twice, &sum.never, &sum.old)
	must(t, err)
	var whole, unreadable atomic.Int64
	n.eachPage(t, func(from, to int64) error {
		rows, err := n.pool.Query(t.Context(), "SELECT id, encrypted_kms_key, title_ciphertext, body_ciphertext FROM notes WHERE id BETWEEN $1 AND $2", from, to)
		if err != nil {
			return err
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByName[note])
		if err != nil {
			return err
		}
		opened := notes.Open(t.Context(), field.Pointers(list)...)
		for i := range list {
			if opened != nil && notes.Open(t.Context(), &list[i]) != nil {
				unreadable.Add(1)
				continue
			}
			if is(&list[i]) {
				whole.Add(1)
			}
		}
		return nil
	})
	sum.unreadable = unreadable.Load()
	sum.lost = n.rows - whole.Load() - sum.unreadable
	return sum
}

// is reports whether a row has the values that it was filled with.
func is(n *note) bool {
	want, got := body(n.ID), n.Body.Must()
	same := want == nil && got == nil || want != nil && got != nil && *want == *got
	return same && n.Title.Must() == title(n.ID)
}

// counted prints the counts of a test for readers of the CI output.
func counted(t testing.TB, format string, args ...any) {
	t.Helper()
	fmt.Printf("counted: %s: %s\n", t.Name(), fmt.Sprintf(format, args...))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
