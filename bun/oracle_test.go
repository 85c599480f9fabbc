package kmsbun_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/uptrace/bun"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// bun itself says what a query does: random programs run on a plain struct and on one
// with encrypted columns side by side. Errors, affected rows and all values are equal.

// plainOne is guest without encryption.
type plainOne struct {
	bun.BaseModel `bun:"table:plain_guests"`
	ID            int64   `bun:",pk,autoincrement"`
	Name          string  `bun:",nullzero"`
	Seats         int     `bun:",notnull"`
	Email         *string `bun:"email_ciphertext"`
	Phone         *string `bun:"phone_ciphertext"`
}

type guest struct {
	bun.BaseModel `bun:"table:guests"`
	ID            int64             `bun:",pk,autoincrement" db:"id"`
	Name          string            `bun:",nullzero" db:"name"`
	Seats         int               `bun:",notnull" db:"seats"`
	Key           field.Key         `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
	Email         field.Of[*string] `bun:"email_ciphertext" db:"email_ciphertext"`
	Phone         field.Of[*string] `bun:"phone_ciphertext" db:"phone_ciphertext"`
}

func (g *guest) plain() plainOne {
	return plainOne{ID: g.ID, Name: g.Name, Seats: g.Seats, Email: shown(g.Email.Must()), Phone: shown(g.Phone.Must())}
}

func TestOracle(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		_, err := s.raw.Exec("CREATE TABLE plain_guests (id " + strings.Replace(s.autoID, "ALWAYS", "BY DEFAULT", 1) + ", name varchar(20) UNIQUE, seats int NOT NULL, email_ciphertext varchar(200), phone_ciphertext varchar(200))")
		must(t, err)
		g := storeOf[guest](t, s, "guests", oneKey(), "id "+s.autoID, "name varchar(20) UNIQUE", "seats int NOT NULL")
		ran := make(map[string]int)
		for seed := range uint64(12) {
			o := &oracle{t: t, db: g.db, mysql: s.dialect == field.MySQL, rand: rand.New(rand.NewPCG(seed, 1)), ran: ran}
			must(t, errors.Join(o.empty("guests"), o.empty("plain_guests")))
			for range 40 {
				o.step()
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		}
		t.Logf("ran %v", ran)
	})
}

type oracle struct {
	t      *testing.T
	db     *bun.DB
	rand   *rand.Rand
	guests []*guest
	plains []*plainOne
	n      int
	ran    map[string]int
	mysql  bool // counts rows that changed
}

func (o *oracle) empty(table string) error {
	_, err := o.db.ExecContext(o.t.Context(), "DELETE FROM "+table)
	return err
}

func (o *oracle) step() {
	actions := []struct {
		name string
		do   func()
	}{{"insert", o.insert}, {"update", o.update}, {"update", o.update}, {"update", o.update}, {"set", o.set}, {"delete", o.delete}, {"read", o.read}}
	a := actions[o.rand.IntN(len(actions))]
	if len(o.guests) == 0 {
		a = actions[0]
	}
	o.ran[a.name]++
	a.do()
	o.compare(a.name)
}

// both runs a query on both structs, perhaps in a transaction that is rolled back first.
func (o *oracle) both(what string, do func(ctx context.Context, db bun.IDB, plain bool) (sql.Result, error)) (ok bool) {
	o.t.Helper()
	rolledBack := errors.New("rolled back")
	var affected [2]int64
	var failed [2]error
	again := o.rand.IntN(4) == 0
	for i, plain := range []bool{true, false} {
		run := func(ctx context.Context, db bun.IDB) error {
			r, err := do(ctx, db, plain)
			if err == nil {
				affected[i], err = r.RowsAffected()
			}
			failed[i] = err
			return err
		}
		if again {
			_ = o.db.RunInTx(o.t.Context(), nil, func(ctx context.Context, tx bun.Tx) error { return errors.Join(run(ctx, tx), rolledBack) })
			_ = o.db.RunInTx(o.t.Context(), nil, func(ctx context.Context, tx bun.Tx) error { return run(ctx, tx) })
			o.ran["rolled back"]++
		} else {
			_ = run(o.t.Context(), o.db)
		}
	}
	if o.mysql && strings.HasPrefix(what, "update") && affected[0] == 0 {
		affected[1] = 0 // of a record that is written, the row that was found counts
	}
	if affected[0] != affected[1] || (failed[0] == nil) != (failed[1] == nil) {
		o.t.Errorf("%s (again: %v): %d rows and %v, bun itself %d and %v", what, again, affected[1], failed[1], affected[0], failed[0])
	}
	if failed[0] != nil {
		o.ran["failed"]++
	}
	return failed[0] == nil
}

func (o *oracle) name() string {
	if o.n++; o.rand.IntN(6) == 0 {
		return "taken"
	}
	return fmt.Sprint("name", o.n)
}

// value returns a value for the plain struct, and one that the canary knows.
func (o *oracle) value() (plain, encrypted *string) {
	if o.n++; o.rand.IntN(4) == 0 {
		return nil, nil
	}
	return shown(new(mail(o.n))), new(mail(o.n))
}

// shown is a value without the secret of the canary.
func shown(s *string) *string {
	if s == nil {
		return nil
	}
	return new(strings.ReplaceAll(*s, secret, "plain"))
}

func (o *oracle) setEmail(p *plainOne, g *guest) {
	plain, encrypted := o.value()
	p.Email = plain
	g.Email.Set(encrypted)
}

func (o *oracle) setPhone(p *plainOne, g *guest) {
	plain, encrypted := o.value()
	p.Phone = plain
	g.Phone.Set(encrypted)
}

func (o *oracle) insert() {
	n := 1 + o.rand.IntN(3)
	guests, plains := make([]*guest, n), make([]*plainOne, n)
	for i := range n {
		p := &plainOne{ID: int64(1_000_000 + o.rand.IntN(1_000_000_000)), Name: o.name(), Seats: o.rand.IntN(3)}
		g := &guest{ID: p.ID, Name: p.Name, Seats: p.Seats}
		o.setEmail(p, g)
		o.setPhone(p, g)
		plains[i], guests[i] = p, g
	}
	if o.both("insert", func(ctx context.Context, db bun.IDB, plain bool) (sql.Result, error) {
		if plain {
			var list []plainOne // bun cuts it when the database refuses a row, and counts ids on in MySQL
			for _, p := range plains {
				list = append(list, *p)
			}
			return db.NewInsert().Model(&list).Exec(ctx)
		}
		list := slices.Clone(guests)
		return db.NewInsert().Model(&list).Exec(ctx)
	}) {
		o.guests, o.plains = append(o.guests, guests...), append(o.plains, plains...)
	}
}

func (o *oracle) update() {
	i := o.rand.IntN(len(o.guests))
	g, p := o.guests[i], o.plains[i]
	before := *p
	if o.rand.IntN(2) == 0 {
		p.Name = o.name()
		g.Name = p.Name
	}
	if o.rand.IntN(2) == 0 {
		p.Seats = o.rand.IntN(3)
		g.Seats = p.Seats
	}
	if o.rand.IntN(2) == 0 {
		o.setEmail(p, g)
	}
	if o.rand.IntN(3) == 0 {
		o.setPhone(p, g)
	}
	var columns []string
	switch o.rand.IntN(4) {
	case 0:
		columns = []string{"name"}
	case 1:
		columns = []string{"email_ciphertext", "phone_ciphertext", "seats"}
	case 2:
		columns = []string{"email_ciphertext", "phone_ciphertext"}
	}
	condition := o.rand.IntN(3)
	where := func(q *bun.UpdateQuery) *bun.UpdateQuery {
		if columns != nil {
			q.Column(columns...)
		}
		if condition == 1 {
			return q.WherePK().Where("seats = ?", before.Seats)
		}
		return q.WherePK()
	}
	if !o.both(fmt.Sprint("update of ", columns, condition), func(ctx context.Context, db bun.IDB, plain bool) (sql.Result, error) {
		if plain {
			return where(db.NewUpdate().Model(p)).Exec(ctx)
		}
		return where(db.NewUpdate().Model(g)).Exec(ctx)
	}) || columns != nil || condition != 0 {
		o.reread(i)
	}
}

func (o *oracle) set() {
	seats := o.rand.IntN(4)
	o.both("set", func(ctx context.Context, db bun.IDB, plain bool) (sql.Result, error) {
		q := db.NewUpdate().Model((*guest)(nil))
		if plain {
			q = db.NewUpdate().Model((*plainOne)(nil))
		}
		return q.Set("seats = ?", seats+2).Where("seats = ?", seats).Exec(ctx)
	})
	for i := range o.guests {
		o.reread(i)
	}
}

func (o *oracle) delete() {
	i := o.rand.IntN(len(o.guests))
	o.both("delete", func(ctx context.Context, db bun.IDB, plain bool) (sql.Result, error) {
		if plain {
			return db.NewDelete().Model(o.plains[i]).WherePK().Exec(ctx)
		}
		return db.NewDelete().Model(o.guests[i]).WherePK().Exec(ctx)
	})
	o.guests, o.plains = append(o.guests[:i:i], o.guests[i+1:]...), append(o.plains[:i:i], o.plains[i+1:]...)
}

func (o *oracle) read() { o.reread(o.rand.IntN(len(o.guests))) }

func (o *oracle) reread(i int) {
	o.t.Helper()
	must(o.t, o.db.NewSelect().Model(o.guests[i]).WherePK().Scan(o.t.Context()))
	*o.plains[i] = plainOne{ID: o.guests[i].ID} // bun reads NULL into a pointer that is not nil as a blank value
	must(o.t, o.db.NewSelect().Model(o.plains[i]).WherePK().Scan(o.t.Context()))
}

// compare compares both tables.
func (o *oracle) compare(what string) {
	o.t.Helper()
	var guests []guest
	var plains []plainOne
	must(o.t, o.db.NewSelect().Model(&guests).Order("id").Scan(o.t.Context()))
	must(o.t, o.db.NewSelect().Model(&plains).Order("id").Scan(o.t.Context()))
	if len(guests) != len(plains) {
		o.t.Fatalf("after %s: %d rows, bun itself %d", what, len(guests), len(plains))
	}
	text := func(s *string) string {
		if s == nil {
			return "NULL"
		}
		return *s
	}
	for i := range guests {
		got, want := guests[i].plain(), plains[i]
		if got.ID != want.ID || got.Name != want.Name || got.Seats != want.Seats || text(got.Email) != text(want.Email) || text(got.Phone) != text(want.Phone) {
			o.t.Errorf("after %s: row %d differs: %q %d %s %s, bun itself %q %d %s %s", what, got.ID, got.Name, got.Seats, text(got.Email), text(got.Phone), want.Name, want.Seats, text(want.Email), text(want.Phone))
		}
	}
}
