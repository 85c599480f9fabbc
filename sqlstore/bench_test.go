package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// What the Rotator costs beside a loop that somebody writes by hand to rewrap one
// table: one worker each, 20,000 rows with two columns, batches of 1,000, keys
// in a local file. Both use the Box and hand PostgreSQL their values in the same
// way, so the difference is the engine: the ledger, the second pass, reading whole
// rows. There are two shards only, because between two of them nothing overlaps,
// and those of a large table have hundreds of batches. The promise is 0.7 of the loop.
//
//	go test ./sqlstore -run '^$' -bench Postgres
func BenchmarkRewrapPostgres(b *testing.B) { benchmark(b, rotation.Rewrap) }

// A rekey also opens and seals both columns and keeps a journal; beside the same
// loop, which only rewraps. The aim is 0.5 of it.
func BenchmarkRekeyPostgres(b *testing.B) { benchmark(b, rotation.Rekey) }

func benchmark(b *testing.B, kind rotation.Kind) {
	const n = 20_000
	dir, db := b.TempDir(), postgres.open(b)
	first := model[person](b, box(b, dir, 1), "people")
	create(b, postgres, db, first, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New("somebody@example.org")}
		people[i].Phone.Set(new("+49 30 1234567"))
	}
	if err := first.SealNew(b.Context(), people...); err != nil {
		b.Fatal(err)
	}
	must(b, insertSealed(b.Context(), db, first, people))
	db.MustExec("VACUUM ANALYZE people")
	current := 1
	rounds := func(rotate func(target int) int64) func(*testing.B) {
		return func(b *testing.B) {
			for b.Loop() {
				current = 3 - current // 1 and 2 take turns
				if written := rotate(current); written != n {
					b.Fatalf("%d rows rewrapped, want %d", written, n)
				}
				b.StopTimer()
				db.MustExec("VACUUM people")
				b.StartTimer()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		}
	}
	b.Run("limit", rounds(func(target int) int64 { return rewrapByHand(b, db, box(b, dir, target)) }))
	b.Run("ours", rounds(func(target int) int64 {
		to := box(b, dir, target)
		result, err := rotator(b, postgres, db, to, model[person](b, to, "people"), rotation.Options{Kind: kind, Workers: 1, Shards: 2}).Run(b.Context())
		must(b, err)
		return result.Written
	}))
}

// rewrapByHand is the loop: no state, no failures, no second look.
func rewrapByHand(b *testing.B, db *sqlx.DB, to *kmsencrypted.Box) (written int64) {
	ctx, after := context.Background(), int64(0)
	for {
		var rows []struct {
			ID  int64
			Key string
		}
		must(b, db.Select(&rows, `SELECT id, encrypted_kms_key AS key FROM people WHERE id > $1 AND encrypted_kms_key NOT LIKE $2 ORDER BY id LIMIT 1000`,
			after, fmt.Sprintf("v%d:%%", to.Current())))
		if len(rows) == 0 {
			return written
		}
		wrapped, keys := make([]kmsencrypted.WrappedKey, len(rows)), make([]kmsencrypted.KeyToWrap, len(rows))
		for i, row := range rows {
			id := strconv.FormatInt(row.ID, 10)
			wrapped[i] = kmsencrypted.WrappedKey{Column: row.Key, Binding: kmsencrypted.Binding{
				Table: "people", Column: "encrypted_kms_key", ID: []string{id},
				Context: kmsencrypted.ModelContext{Name: "people", ID: id, Number: true},
			}}
		}
		for i, result := range to.UnwrapAll(ctx, wrapped) {
			must(b, result.Err)
			keys[i] = kmsencrypted.KeyToWrap{Key: result.Key, Binding: wrapped[i].Binding}
		}
		var ids, before, now strings.Builder
		for i, result := range to.WrapAll(ctx, keys) {
			must(b, result.Err)
			keys[i].Key.Wipe()
			fmt.Fprintf(&ids, ",%d", rows[i].ID)
			before.WriteString("," + rows[i].Key) // no key has a comma
			now.WriteString("," + result.Column)
		}
		list := func(s *strings.Builder) string { return s.String()[1:] }
		tx, err := db.BeginTxx(ctx, &sql.TxOptions{})
		must(b, err)
		_, err = tx.Exec("SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)")
		must(b, err)
		result, err := tx.Exec(`UPDATE people AS t SET encrypted_kms_key = v.now
			FROM unnest(string_to_array($1::text, ',')::bigint[], string_to_array($2::text, ','), string_to_array($3::text, ',')) AS v(id, before, now)
			WHERE t.id = v.id AND t.encrypted_kms_key = v.before`, list(&ids), list(&before), list(&now))
		must(b, err)
		count, err := result.RowsAffected()
		must(b, err)
		must(b, tx.Commit())
		written += count
		after = rows[len(rows)-1].ID
	}
}

// distant is a key service that takes 5 ms to answer.
type distant struct{ kmsencrypted.Provider }

func (d distant) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	time.Sleep(5 * time.Millisecond)
	return d.Provider.Encrypt(ctx, plaintext, ec)
}

func (d distant) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	time.Sleep(5 * time.Millisecond)
	return d.Provider.Decrypt(ctx, ciphertext, ec)
}

// A key service that takes 5 ms, asked one by one and with 256 calls in flight by
// one worker. The promise is 100 times.
func BenchmarkDistantPostgres(b *testing.B) {
	for _, c := range []struct {
		name        string
		rows        int
		concurrency int
	}{{"one by one", 100, 1}, {"256 in flight", 10_000, 256}} {
		b.Run(c.name, func(b *testing.B) {
			dir, db := b.TempDir(), postgres.open(b)
			boxAt := func(current int) *kmsencrypted.Box {
				first, second := keys(b, dir)
				box, err := kmsencrypted.Config{Current: current, Concurrency: c.concurrency, Versions: map[int]kmsencrypted.Version{
					1: {Provider: distant{first}}, 2: {Provider: distant{second}},
				}}.Box()
				must(b, err)
				return box
			}
			near := model[person](b, box(b, dir, 1), "people")
			create(b, postgres, db, near, "id bigint PRIMARY KEY")
			people := make([]*person, c.rows)
			for i := range people {
				people[i] = &person{ID: int64(i + 1), Email: field.New("somebody@example.org")}
			}
			must(b, near.SealNew(b.Context(), people...))
			must(b, insertSealed(b.Context(), db, near, people))
			current := 1
			for b.Loop() {
				current = 3 - current
				to := boxAt(current)
				result, err := rotator(b, postgres, db, to, model[person](b, to, "people"), rotation.Options{Workers: 1, Shards: 1, BatchSize: 2000}).Run(b.Context())
				must(b, err)
				if result.Written != int64(c.rows) {
					b.Fatalf("%d rows rewrapped, want %d", result.Written, c.rows)
				}
			}
			b.ReportMetric(float64(c.rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
