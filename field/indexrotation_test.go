package field_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// rotated is a table while its index is replaced: programs of before the
// rotation know email_bidx alone.
type rotated struct {
	ID      int64            `db:"id"`
	Key     field.Key        `db:"key"`
	Email   field.Of[string] `db:"email"`
	Index   field.Index      `db:"email_bidx" kms:"of=Email,algorithm=hmac_sha256"`
	IndexV2 field.Index      `db:"email_bidx_v2" kms:"of=Email"`
}

// A blind index moves to another key by a second column while rows are read and
// written, and no look-up ever misses a row.
func TestIndexRotationMissesNothingSQLite(t *testing.T) {
	t.Parallel()
	second, err := blindindex.Derive(masterKey("2"), "users", "email_bidx_v2", blindindex.Options{Algorithm: blindindex.HMAC{}})
	must(t, err)
	m := newModel[rotated](t, nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), field.Config{Table: "users", IndexKey: indexKey,
		Indexes: map[string]*blindindex.Index{"email_bidx_v2": second}})
	db, err := sqlx.Open("sqlite", filepath.Join(t.TempDir(), "db")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
	must(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `CREATE TABLE users (id INTEGER PRIMARY KEY, key TEXT, email TEXT, email_bidx TEXT, email_bidx_v2 TEXT)`)
	must(t, err)

	const users = 60
	// What each row holds; a lock keeps a look-up from falling between the write
	// and its being known. The filling takes no lock.
	var current [users]string
	var locks [users]sync.RWMutex
	for i := range users { // rows from before: without the second index
		r := rotated{ID: int64(i), Email: field.New(fmt.Sprintf("u%d@example.org", i))}
		r.ID++
		must(t, m.Seal(t.Context(), &r))
		_, err := db.ExecContext(t.Context(), `INSERT INTO users VALUES (?, ?, ?, ?, NULL)`, r.ID, r.Key, r.Email, r.Index)
		must(t, err)
		current[i] = r.Email.Must()
	}

	lookUp := atomic.Pointer[string]{} // the index that programs look up under
	lookUp.Store(new("email_bidx"))
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	var found, changed atomic.Int64
	for range 3 {
		busy.Go(func() {
			for i := 0; ctx.Err() == nil; i = (i + 7) % users {
				locks[i].RLock()
				l := m.Lookup(*lookUp.Load(), current[i])
				var id int64
				err := db.GetContext(ctx, &id, "SELECT id FROM users WHERE "+l.Name+" = ?", l.Columns[0])
				locks[i].RUnlock()
				if ctx.Err() != nil {
					return
				}
				if err != nil || id != int64(i)+1 {
					t.Errorf("looking %d up under %s: %d, %v", i+1, l.Name, id, err)
				}
				found.Add(1)
			}
		})
	}
	busy.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			n := i * 11 % users
			email := fmt.Sprintf("u%d-%d@example.org", n, i)
			locks[n].Lock()
			for ctx.Err() == nil {
				r, err := readRotated(ctx, db, m, n)
				if err != nil {
					continue
				}
				r.Email.Set(email)
				if m.Seal(ctx, &r) == nil && writeRotated(ctx, t, db, m, &r) {
					current[n] = email
					break
				}
			}
			locks[n].Unlock()
			changed.Add(1)
		}
	})
	busy.Go(func() {
		defer stop()
		// Every program writes both columns now: fill the second for all rows.
		for i := range users {
			for {
				r, err := readRotated(t.Context(), db, m, i)
				must(t, err)
				must(t, m.Reindex(t.Context(), &r))
				if writeRotated(t.Context(), t, db, m, &r) {
					break
				}
			}
		}
		lookUp.Store(new("email_bidx_v2"))
		for before := found.Load(); found.Load() < before+200 && !t.Failed(); {
			_, _ = readRotated(t.Context(), db, m, 0)
		}
	})
	busy.Wait()
	if found.Load() < 200 || changed.Load() == 0 {
		t.Errorf("%d look-ups beside %d changes: too few to show anything", found.Load(), changed.Load())
	}
}

func readRotated(ctx context.Context, db *sqlx.DB, m *field.Model[rotated], i int) (r rotated, err error) {
	if err := db.GetContext(ctx, &r, `SELECT * FROM users WHERE id = ?`, i+1); err != nil {
		return r, err
	}
	return r, m.Open(ctx, &r)
}

// writeRotated reports whether the row was unchanged since it was read.
func writeRotated(ctx context.Context, t *testing.T, db *sqlx.DB, m *field.Model[rotated], r *rotated) bool {
	w, err := m.Adapter().Write(r)
	if err != nil {
		t.Error(err)
		return true
	}
	if len(w.Set) == 0 {
		return true
	}
	query, args := "UPDATE users SET ", []any{}
	for i, a := range w.Set {
		if i > 0 {
			query += ", "
		}
		query, args = query+a.Column+" = ?", append(args, a.Value)
	}
	query, args = query+" WHERE id = ?", append(args, r.ID)
	for _, a := range w.Where {
		query, args = query+" AND "+a.Column+" IS ?", append(args, a.Value)
	}
	result, err := db.ExecContext(ctx, query, args...)
	if err != nil {
		return false
	}
	n, _ := result.RowsAffected()
	return n == 1
}
