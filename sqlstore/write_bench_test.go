package sqlstore

import (
	"database/sql/driver"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

type keyed struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

// What writing 1,000 rewrapped keys costs as a batch; with an UPDATE for each row,
// compared like the batch, committed by itself; and in the way of the gem, which
// for each row opens a transaction, reads it, unwraps, wraps, and makes two
// UPDATEs. The server writes through to the disk, as in production. The
// promises are 6 times the second and 10 times the third with PostgreSQL.
//
//	go test ./sqlstore -run '^$' -bench 'Write(Postgres|MariaDB)'
func BenchmarkWritePostgres(b *testing.B) {
	benchmarkWrite(b, "pgx", dbserver.Postgres(b), field.Postgres, "KMSENCRYPTED_POSTGRES_DSN", func(state string) []string {
		return []string{
			"ALTER SYSTEM SET fsync = " + state, "ALTER SYSTEM SET synchronous_commit = " + state,
			"ALTER SYSTEM SET full_page_writes = " + state, "SELECT pg_reload_conf()",
		}
	})
}

func BenchmarkWriteMariaDB(b *testing.B) {
	benchmarkWrite(b, "mysql", dbserver.MariaDB(b), field.MySQL, "KMSENCRYPTED_MARIADB_DSN", func(state string) []string {
		return []string{"SET GLOBAL innodb_flush_log_at_trx_commit = " + map[string]string{"on": "1", "off": "0"}[state]}
	})
}

// durable makes a server of the tests write through until the benchmark ends;
// one that was given to them is left as it is.
func durable(b *testing.B, db *sqlx.DB, given string, statements func(state string) []string) {
	if os.Getenv(given) != "" {
		return
	}
	set := func(state string) {
		for _, statement := range statements(state) {
			db.MustExec(statement)
		}
	}
	set("on")
	b.Cleanup(func() { set("off") })
}

func benchmarkWrite(b *testing.B, name, dsn string, d field.Dialect, given string, statements func(state string) []string) {
	const n = 1000
	db, err := sqlx.Open(name, dsn)
	check(b, err)
	b.Cleanup(func() { db.Close() })
	durable(b, db, given, statements)
	box, err := kmsencrypted.NewBox(testkey.New())
	check(b, err)
	m, err := field.NewModel[keyed](box, field.Config{Table: "keyed", KeysOnly: true})
	check(b, err)
	db.MustExec("CREATE TABLE keyed (id bigint PRIMARY KEY, encrypted_kms_key text, other text)")
	key := func(id, generation int) string {
		return fmt.Sprintf("v%d:%s%d", generation, strings.Repeat("k", 200), id)
	}
	for id := range 50 * n { // so that reading the whole table would show
		if id%500 == 0 {
			var rows []string
			for i := range 500 {
				rows = append(rows, fmt.Sprintf("(%d, '%s', '%s')", id+i, key(id+i, 0), strings.Repeat("o", 100)))
			}
			db.MustExec("INSERT INTO keyed VALUES " + strings.Join(rows, ","))
		}
	}
	s, err := New(b.Context(), db.DB, d, m, Options{})
	check(b, err)
	generation := 0
	next := func() *swap {
		w := &swap{set: []string{"encrypted_kms_key"}, same: s.keys, written: make([]bool, n)}
		for i := range n {
			id := 7000 + i*3
			w.updates = append(w.updates, update{
				id: []any{int64(id)}, set: []driver.Value{key(id, generation+1)}, same: []driver.Value{key(id, generation)},
			})
		}
		generation++
		return w
	}
	run := func(name string, write func(w *swap)) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				w := next()
				write(w)
				if w.count() != n {
					b.Fatalf("%d rows written, want %d", w.count(), n)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
	run("batch", func(w *swap) {
		check(b, s.transaction(b.Context(), func(tx *sqlx.Tx) error { return s.writes(b.Context(), tx, w) }))
	})
	run("rows", func(w *swap) {
		query := db.Rebind("UPDATE keyed SET encrypted_kms_key = ? WHERE id = ? AND encrypted_kms_key " + s.dialect.Same() + " ?")
		for i, u := range w.updates {
			result, err := db.Exec(query, u.set[0], u.id[0], u.same[0])
			check(b, err)
			changed, err := result.RowsAffected()
			check(b, err)
			w.written[i] = changed == 1
		}
	})
	unwrapped := []kmsencrypted.KeyToWrap{{Binding: kmsencrypted.Binding{Table: "keyed", Column: "encrypted_kms_key", ID: []string{"1"}}}}
	unwrapped[0].Key = kmsencrypted.NewDataKey()
	run("gem", func(w *swap) {
		for i, u := range w.updates {
			check(b, s.transaction(b.Context(), func(tx *sqlx.Tx) error {
				var old string
				if err := tx.Get(&old, tx.Rebind("SELECT encrypted_kms_key FROM keyed WHERE id = ?"), u.id[0]); err != nil {
					return err
				}
				wrapped := box.WrapAll(b.Context(), unwrapped)
				if wrapped[0].Err != nil {
					return wrapped[0].Err
				}
				for _, key := range []driver.Value{wrapped[0].Column, u.set[0]} {
					result, err := tx.Exec(tx.Rebind("UPDATE keyed SET encrypted_kms_key = ? WHERE id = ?"), key, u.id[0])
					if err != nil {
						return err
					}
					changed, err := result.RowsAffected()
					w.written[i] = changed == 1
					if err != nil {
						return err
					}
				}
				return nil
			}))
		}
	})
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
