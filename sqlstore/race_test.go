package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// account has a column for each of six clients, two of which begin as NULL.
type account struct {
	ID  int64            `db:"id"`
	Key field.Key        `db:"encrypted_kms_key"`
	C0  field.Of[*int64] `db:"c0_ciphertext"`
	C1  field.Of[*int64] `db:"c1_ciphertext"`
	C2  field.Of[*int64] `db:"c2_ciphertext"`
	C3  field.Of[*int64] `db:"c3_ciphertext"`
	C4  field.Of[*int64] `db:"c4_ciphertext"`
	C5  field.Of[*int64] `db:"c5_ciphertext"`
}

func (a *account) column(i int) *field.Of[*int64] {
	return reflect.ValueOf(a).Elem().Field(i + 2).Addr().Interface().(*field.Of[*int64])
}

const clients = 6

func TestRacePostgres(t *testing.T) { testRace(t, postgres) }
func TestRaceMariaDB(t *testing.T)  { testRace(t, mariadb) }
func TestRaceMySQL(t *testing.T)    { testRace(t, mysql) }
func TestRaceMySQLish(t *testing.T) { testRace(t, mysqlLike) }
func TestRaceSQLite(t *testing.T)   { testRace(t, sqlite) }

// Six clients count up a column each in rows at random - read, think, write with
// what Model.Write says - while all rows are rewrapped, then rekeyed. In the end
// every row opens and every column holds what its client wrote last.
func testRace(t *testing.T, d database) {
	dir, db := t.TempDir(), d.open(t)
	first := model[account](t, box(t, dir, 1), "accounts")
	create(t, d, db, first, "id bigint PRIMARY KEY")
	rows := make([]*account, d.rows)
	for i := range rows {
		rows[i] = &account{ID: int64(i + 1)}
		for c := range clients - 2 {
			rows[i].column(c).Set(new(int64(0)))
		}
	}
	insert(t, db, first, rows)
	var last [clients]map[int64]int64
	for c := range last {
		last[c] = make(map[int64]int64)
	}
	for _, step := range []struct {
		version int
		kind    rotation.Kind
	}{{2, rotation.Rewrap}, {3, rotation.Rekey}} {
		b := box(t, dir, step.version)
		m := model[account](t, b, "accounts")
		r := rotator(t, d, db, b, m, rotation.Options{Kind: step.kind, BatchSize: 250, Workers: 2})
		ctx, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		var updates, retries atomic.Int64
		for c := range clients {
			group.Go(func() {
				client := client{db: db, model: m, dialect: d, column: c, retries: &retries}
				for ctx.Err() == nil {
					id := rand.Int64N(int64(d.rows)) + 1
					now, err := client.countUp(id)
					if err != nil {
						t.Errorf("client %d: row %d: %v", c, id, err)
						return
					}
					last[c][id] = now
					updates.Add(1)
				}
			})
		}
		result, err := r.Run(t.Context())
		stop()
		group.Wait()
		must(t, err)
		unreadable, lost := 0, 0
		var all []account
		must(t, db.Select(&all, "SELECT * FROM accounts"))
		for i := range all {
			if err := m.Open(t.Context(), &all[i]); err != nil {
				unreadable++
				t.Logf("%v", err)
				continue
			}
			for c := range clients {
				want := last[c][all[i].ID]
				if got := all[i].column(c).Must(); got == nil && want != 0 || got != nil && *got != want {
					lost++
				}
			}
		}
		t.Logf("%s of %d rows beside %d updates, %d of them tried again; %d conflicts in %d passes",
			step.kind, d.rows, updates.Load(), retries.Load(), result.Conflicts, result.Pass)
		if unreadable+lost > 0 || !result.Done {
			t.Errorf("%s: %d unreadable, %d lost updates, want none; %+v", step.kind, unreadable, lost, result)
		}
		if got := versions(t, db, "accounts"); got[step.version] != d.rows {
			t.Errorf("versions after %s = %v", step.kind, got)
		}
		if updates.Load() < 50 {
			t.Errorf("only %d updates were made beside the %s", updates.Load(), step.kind)
		}
	}
}

// client changes one column of accounts, as an application does.
type client struct {
	db      *sqlx.DB
	model   *field.Model[account]
	dialect database
	column  int
	retries *atomic.Int64
}

// countUp repeats the change until no conflict is in the way. It returns the new value.
func (c client) countUp(id int64) (int64, error) {
	for {
		var row account
		ctx := context.Background()
		if err := c.db.Get(&row, fmt.Sprintf("SELECT * FROM accounts WHERE id = %d", id)); err != nil {
			return 0, err
		}
		if err := c.model.Open(ctx, &row); err != nil {
			return 0, err
		}
		value := int64(1)
		if before := row.column(c.column).Must(); before != nil {
			value = *before + 1
		}
		time.Sleep(rand.N(4 * time.Millisecond))
		row.column(c.column).Set(&value)
		if err := c.model.Seal(ctx, &row); err != nil {
			return 0, err
		}
		err := c.update(ctx, &row)
		if errors.Is(err, kmsencrypted.ErrConflict) {
			c.retries.Add(1)
			continue
		}
		return value, err
	}
}

// update writes a sealed row; if its key column changed, once more under the new one.
func (c client) update(ctx context.Context, row *account) error {
	for range 2 {
		w, err := c.model.Adapter().Write(row)
		if err != nil {
			return err
		}
		var set, where []string
		var args []any
		for _, a := range w.Set {
			set, args = append(set, a.Column+" = ?"), append(args, a.Value)
		}
		where, args = append(where, "id = ?"), append(args, row.ID)
		for _, a := range w.Where {
			where, args = append(where, a.Column+" "+c.dialect.same+" ?"), append(args, a.Value)
		}
		result, err := c.db.Exec(c.db.Rebind("UPDATE accounts SET "+strings.Join(set, ", ")+" WHERE "+strings.Join(where, " AND ")), args...)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 1 {
			return err
		}
		c.retries.Add(1)
		var now any
		if err := c.db.QueryRow(fmt.Sprintf("SELECT encrypted_kms_key FROM accounts WHERE id = %d", row.ID)).Scan(&now); err != nil {
			return err
		}
		if err := c.model.Adapter().KeyChanged(ctx, row, "encrypted_kms_key", now); err != nil {
			return err
		}
	}
	return kmsencrypted.ErrConflict
}
