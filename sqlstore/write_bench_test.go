package sqlstore

import (
	"database/sql/driver"
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/dbserver"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

type keyed struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

// What writing 1,000 rewrapped keys costs as a batch, with an UPDATE for each row
// in one transaction, and in the way of the gem, with a transaction for each row.
// The promises are 6 times the second and 10 times the third, on loopback.
//
//	go test ./sqlstore -run '^$' -bench 'Write(Postgres|MariaDB)'
func BenchmarkWritePostgres(b *testing.B) {
	benchmarkWrite(b, "pgx", dbserver.Postgres(b), field.Postgres)
}

func BenchmarkWriteMariaDB(b *testing.B) {
	benchmarkWrite(b, "mysql", dbserver.MariaDB(b), field.MySQL)
}

func benchmarkWrite(b *testing.B, name, dsn string, d field.Dialect) {
	const n = 1000
	db, err := sqlx.Open(name, dsn)
	check(b, err)
	defer db.Close()
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
		check(b, s.transaction(b.Context(), func(tx *sqlx.Tx) error { return s.updateEach(b.Context(), tx, w) }))
	})
	run("gem", func(w *swap) {
		query := db.Rebind("UPDATE keyed SET encrypted_kms_key = ? WHERE id = ?")
		for i, u := range w.updates {
			result, err := db.Exec(query, u.set[0], u.id[0])
			check(b, err)
			changed, err := result.RowsAffected()
			check(b, err)
			w.written[i] = changed == 1
		}
	})
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
