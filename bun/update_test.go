package kmsbun_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/kmsencrypted/kmsencrypted"
	kmsbun "github.com/kmsencrypted/kmsencrypted/bun"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/inplace"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func (s store[R]) insert(t *testing.T, rows ...*R) {
	t.Helper()
	for _, r := range rows {
		_, err := s.db.NewInsert().Model(r).Exec(t.Context())
		must(t, err)
	}
}

func affected(t *testing.T, r sql.Result, err error) int64 {
	t.Helper()
	must(t, err)
	n, err := r.RowsAffected()
	must(t, err)
	return n
}

// Conditions of the program decide whether anything is written.
func TestUpdateConditions(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		m := members(t, s)
		a, other := &member{Name: "Ada", State: "new", Email: field.New(mail(0))}, &member{Name: "Grace", Email: field.New(mail(9))}
		m.insert(t, a, other)
		update := func() *bun.UpdateQuery { return m.db.NewUpdate().Model(a) }
		a.Email.Set(mail(1))
		r, err := update().WherePK().Where("name = ?", "nobody").Exec(t.Context())
		if n := affected(t, r, err); n != 0 || m.byID(t, a.ID).Email.Must() != mail(0) {
			t.Errorf("a condition that does not hold: %d rows", n)
		}
		r, err = update().Where("name = ?", "Ada").Exec(t.Context())
		if n := affected(t, r, err); n != 1 || m.byID(t, a.ID).Email.Must() != mail(1) {
			t.Errorf("a condition that holds: %d rows", n)
		}
		// Another row meets the conditions; it is not this record.
		a.Email.Set(mail(2))
		r, err = update().Where("name = ?", "Grace").Exec(t.Context())
		if n := affected(t, r, err); n != 0 || m.byID(t, other.ID).Name != "Grace" {
			t.Errorf("the conditions of another row: %d rows", n)
		}
		_, err = update().Where("id = ?", a.ID).WhereOr("name = ?", "Grace").Exec(t.Context())
		wantError(t, "WhereOr", err, errors.ErrUnsupported)
		if _, err = update().Exec(t.Context()); err == nil {
			t.Error("an update without conditions")
		}
		r, err = update().WhereGroup(" AND ", func(q *bun.UpdateQuery) *bun.UpdateQuery {
			return q.Where("name = ?", "Ada").WhereOr("name = ?", "Grace")
		}).Exec(t.Context())
		if n := affected(t, r, err); n != 1 || m.byID(t, a.ID).Email.Must() != mail(2) || m.byID(t, other.ID).Name != "Grace" {
			t.Errorf("WhereGroup: %d rows", n)
		}
		q := update().WherePK()
		_, err = q.Exec(t.Context())
		must(t, err)
		_, err = q.Exec(t.Context())
		wantError(t, "a query that is made twice", err, errors.ErrUnsupported)
		// Only an encrypted column changes, and then none at all.
		a.Email.Set(mail(3))
		r, err = update().Column("email_ciphertext").WherePK().Exec(t.Context())
		if n := affected(t, r, err); n != 1 || m.byID(t, a.ID).Email.Must() != mail(3) {
			t.Errorf("one column: %d rows", n)
		}
		_, err = update().Column("email_ciphertext").WherePK().Exec(t.Context())
		must(t, err)
		// An encrypted column that was set and is left out stays set.
		a.Email.Set(mail(4))
		a.Name = "Countess"
		_, err = update().ExcludeColumn("email_ciphertext", "encrypted_kms_key", "email_bidx").WherePK().Exec(t.Context())
		must(t, err)
		if got := m.byID(t, a.ID); got.Name != "Countess" || got.Email.Must() != mail(3) {
			t.Errorf("without encrypted columns: %q", got.Name)
		}
		_, err = update().OmitZero().WherePK().Exec(t.Context())
		must(t, err)
		if m.byID(t, a.ID).Email.Must() != mail(4) {
			t.Error("a column that was left out was lost")
		}
		if s.dialect != field.MySQL { // which returns nothing from an UPDATE
			_, err = update().WherePK().Returning("email_ciphertext").Exec(t.Context())
			wantError(t, "RETURNING an encrypted column", err, kmsencrypted.ErrNotOpened)
			_, err = m.db.NewInsert().Model(&member{Name: "x"}).Returning("id, ?", bun.Ident("email_ciphertext")).Exec(t.Context())
			wantError(t, "RETURNING it from an INSERT", err, kmsencrypted.ErrNotOpened)
			var state string
			a.Email.Set(mail(5))
			must(t, update().WherePK().Returning("state").Scan(t.Context(), &state))
			a.Email.Set(mail(6))
			_, err = update().WherePK().Returning("*").Exec(t.Context())
			must(t, err)
			if state != "new" || m.byID(t, a.ID).Email.Must() != mail(6) || a.Email.Must() != mail(6) {
				t.Errorf("RETURNING: %q", state)
			}
		}
	})
}

// Plain columns of many rows, and soft deletes, are bun's business.
func TestPlainUpdates(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		m := members(t, s)
		a, b := &member{Name: "Ada", Email: field.New(mail(0))}, &member{Name: "Grace", Email: field.New(mail(1))}
		m.insert(t, a, b)
		r, err := m.db.NewUpdate().Model((*member)(nil)).Set("state = ?", "old").Where("id > 0").Exec(t.Context())
		if n := affected(t, r, err); n != 2 {
			t.Errorf("Set of many: %d rows", n)
		}
		_, err = m.db.NewUpdate().Model(a).Set("nick = upper(name)").WherePK().Exec(t.Context())
		must(t, err)
		if got := m.byID(t, a.ID); got.Nick != "ADA" || got.State != "old" || got.Email.Must() != mail(0) {
			t.Errorf("Set: %q %q", got.Nick, got.State)
		}
		_, err = m.db.NewDelete().Model(a).WherePK().Exec(t.Context())
		must(t, err)
		var deleted member
		must(t, m.db.NewSelect().Model(&deleted).Where("id = ?", a.ID).WhereDeleted().Scan(t.Context()))
		if deleted.Email.Must() != mail(0) || m.count(t) != 1 {
			t.Error("a soft delete")
		}
		for column, value := range map[string]any{"email_bidx": "x", "encrypted_kms_key": nil, "email_ciphertext": nil} {
			_, err := m.db.NewUpdate().Model((*member)(nil)).Set("? = ?", bun.Ident(column), value).Where("id > 0").Exec(t.Context())
			wantError(t, "Set of "+column, err, kmsencrypted.ErrUnsealed)
		}
		_, err = m.db.NewUpdate().Model(b).Set("id = 99").WherePK().Exec(t.Context())
		wantError(t, "Set of an id", err, errors.ErrUnsupported)
		// SQL of the program may empty columns, and write what is sealed.
		_, err = m.db.NewRaw("SELECT 1 FROM members WHERE email_ciphertext IS NOT NULL AND name = ?", "Grace").DB().ExecContext(t.Context(), "UPDATE members SET email_ciphertext = NULL, email_bidx = NULL WHERE id = ?", b.ID)
		must(t, err)
		if !m.byID(t, b.ID).Email.IsNull() {
			t.Error("SQL of the program")
		}
		_, err = m.db.ExecContext(t.Context(), "UPDATE members SET email_ciphertext = ? WHERE id = ?", b.Email, b.ID)
		must(t, err)
		if m.byID(t, b.ID).Email.Must() != mail(1) {
			t.Error("a sealed field in SQL of the program")
		}
	})
}

// A program that may not decrypt gives a record a new data key, if nothing is lost.
func TestEncryptOnly(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		k := kmstest.NewService(kmstest.Memory())
		config := func(only bool) kmsencrypted.Config {
			return kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: k.Provider(), EncryptOnly: only}}}
		}
		reader := storeOf[note](t, s, "notes", config(false), "id "+s.autoID, "title varchar(20)")
		box, err := config(true).Box()
		must(t, err)
		complete, err := field.NewModel[note](box, field.Config{Table: "notes", Complete: true})
		must(t, err)
		db := bun.NewDB(s.raw, dialectFor(s.dialect))
		must(t, kmsbun.Use(db, complete))
		n := note{Title: "x", Body: field.New(mail(0))}
		before := k.Count(kmsencrypted.OpUnwrap)
		_, err = db.NewInsert().Model(&n).Exec(t.Context())
		must(t, err)
		n = note{ID: n.ID, Title: "y", Body: field.New(mail(1))}
		must(t, s.raw.QueryRow("SELECT encrypted_kms_key FROM notes").Scan(&n.Key))
		_, err = db.NewUpdate().Model(&n).WherePK().Exec(t.Context())
		must(t, err)
		if n := k.Count(kmsencrypted.OpUnwrap) - before; n != 0 {
			t.Errorf("%d calls to decrypt", n)
		}
		if got := reader.byID(t, n.ID); got.Body.Must() != mail(1) || got.Title != "y" {
			t.Error("a record that was encrypted only")
		}
		// A column that this program does not know would be lost.
		_, err = s.raw.Exec("ALTER TABLE notes ADD fax_ciphertext text")
		must(t, err)
		_, err = s.raw.Exec("UPDATE notes SET fax_ciphertext = body_ciphertext")
		must(t, err)
		n.Body.Set(mail(2))
		n = note{ID: n.ID, Title: "z", Key: n.Key, Body: field.New(mail(2))}
		must(t, s.raw.QueryRow("SELECT encrypted_kms_key FROM notes").Scan(&n.Key))
		_, err = db.NewUpdate().Model(&n).WherePK().Exec(t.Context())
		wantError(t, "beside an unknown column", err, kmsencrypted.ErrNeedsDecrypt)
		if got := reader.byID(t, n.ID); got.Title != "y" {
			t.Error("a refused update wrote plain columns")
		}
	})
}

// An error in the middle of a transaction leaves the rest of it alive.
func TestConflictInTransaction(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s server) {
		config := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}}}
		m := storeOf[note](t, s, "notes", config, "id "+s.autoID, "title varchar(20)")
		n := &note{Title: "x", Body: field.New(mail(0))}
		m.insert(t, n)
		stale := m.byID(t, n.ID)
		rekeyed := m.byID(t, n.ID)
		must(t, m.m.Rekey(t.Context(), rekeyed))
		_, err := m.db.NewUpdate().Model(rekeyed).WherePK().Exec(t.Context())
		must(t, err)
		stale.Title = "changed"
		stale.Body.Set(mail(1))
		must(t, m.db.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewUpdate().Model(stale).WherePK().Exec(ctx)
			wantError(t, "a stale record", err, kmsencrypted.ErrConflict)
			_, err = tx.NewInsert().Model(&note{Title: "y", Body: field.New(mail(2))}).Exec(ctx)
			return err
		}))
		if got := m.byID(t, n.ID); got.Title != "x" || got.Body.Must() != mail(0) || m.count(t) != 2 {
			t.Errorf("after a conflict in a transaction: %q, %d rows", got.Title, m.count(t))
		}
		ended, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		<-ended.Done()
		_, err = m.db.NewUpdate().Model(n).WherePK().Exec(ended)
		wantError(t, "a context that has ended", err, context.DeadlineExceeded)
	})
}

// What random programs change in place is in the row after the next write.
func TestInPlaceSQLite(t *testing.T) {
	t.Parallel()
	raw := openSQLite(t)
	_, err := raw.Exec(inplace.Schema)
	must(t, err)
	config := oneKey()
	newModel := func() *field.Model[inplace.Doc] { return modelOf[inplace.Doc](t, "docs", config) }
	use := func(m *field.Model[inplace.Doc]) *bun.DB {
		db := bun.NewDB(raw, dialectFor(field.SQLite))
		must(t, kmsbun.Use(db, m))
		return db
	}
	m := newModel()
	db := use(m)
	update := func(ctx context.Context, d *inplace.Doc) error {
		_, err := db.NewUpdate().Model(d).WherePK().Exec(ctx)
		return err
	}
	get := func(ctx context.Context, db *bun.DB, id int64) (d inplace.Doc, err error) {
		err = db.NewSelect().Model(&d).Where("id = ?", id).Scan(ctx)
		return d, err
	}
	store := inplace.Store{
		Insert: func(ctx context.Context, d *inplace.Doc) error {
			_, err := db.NewInsert().Model(d).Exec(ctx)
			return err
		},
		Update: update,
		Rekey: func(ctx context.Context, d *inplace.Doc) error {
			if err := m.Rekey(ctx, d); err != nil {
				return err
			}
			return update(ctx, d)
		},
		Read:  func(ctx context.Context, id int64) (inplace.Doc, error) { return get(ctx, db, id) },
		Fresh: func(ctx context.Context, id int64) (inplace.Doc, error) { return get(ctx, use(newModel()), id) },
	}
	for seed := range uint64(100) {
		inplace.Run(t, seed, store)
	}
}
