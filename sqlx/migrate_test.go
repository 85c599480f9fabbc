package kmssqlx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// moving is a table whose column city becomes an encrypted one with an index.
// Not all that is written there is secret yet, so the canary's text is not.
type moving struct {
	ID      int64             `db:"id"`
	OldCity *string           `db:"city"`
	Key     field.Key         `db:"encrypted_kms_key"`
	Email   field.Of[string]  `db:"email_ciphertext"`
	City    field.Of[*string] `db:"city_ciphertext" kms:"migrating=OldCity"`
	Index   field.Index       `db:"city_bidx" kms:"of=City,algorithm=hmac_sha256"`
}

// moved is the same table when it is done.
type moved struct {
	ID    int64             `db:"id"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Email field.Of[string]  `db:"email_ciphertext"`
	City  field.Of[*string] `db:"city_ciphertext"`
	Index field.Index       `db:"city_bidx" kms:"of=City,algorithm=hmac_sha256"`
}

// migration is a test's table with rows of before.
type migration struct {
	*env
	*field.Model[moving]
	config kmsencrypted.Config
}

func (e *env) migration(t *testing.T, rows int) migration {
	t.Helper()
	config := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}}}
	m := migration{e, model[moving](t, e, config), config}
	createTable(t, e, m.Model, "id "+e.id+", city varchar(40)")
	for i := range rows {
		must2(t)(e.db.Exec(e.db.Rebind("INSERT INTO "+e.table+" (city) VALUES (?)"), fmt.Sprint("city", i)))
	}
	return m
}

func (m migration) get(t *testing.T, id int64) (row moving) {
	t.Helper()
	must(t, kmssqlx.Get(t.Context(), m.db, m.Model, &row, "SELECT * FROM "+m.table+" WHERE id = ?", id))
	return row
}

// asBefore writes the old column alone, as a program of before does.
func (m migration) asBefore(t *testing.T, id int64, city any) {
	t.Helper()
	must2(t)(m.db.Exec(m.db.Rebind("UPDATE "+m.table+" SET city = ? WHERE id = ?"), city, id))
}

// columns are the old and the new value of a row. Of what was read of the new
// column alone nothing is taken from the old one.
func (m migration) columns(t *testing.T, id int64) string {
	t.Helper()
	var row moved
	must(t, kmssqlx.Get(t.Context(), m.db, model[moved](t, m.env, m.config), &row,
		"SELECT id, encrypted_kms_key, city_ciphertext, city_bidx FROM "+m.table+" WHERE id = ?", id))
	var plain *string
	must(t, m.db.Get(&plain, m.db.Rebind("SELECT city FROM "+m.table+" WHERE id = ?"), id))
	text := func(s *string) string {
		if s == nil {
			return "NULL"
		}
		return *s
	}
	return text(plain) + " " + text(row.City.Must())
}

func (m migration) ids(t *testing.T) (ids []int64) {
	t.Helper()
	must(t, m.db.Select(&ids, "SELECT id FROM "+m.table+" ORDER BY id"))
	return ids
}

// While a column replaces another, what the program sets goes into both, and
// what is only taken over goes into the new one.
func migratingWrites(t *testing.T, e *env) {
	m := e.migration(t, 1)
	id := m.ids(t)[0]
	want := func(what, columns string) {
		t.Helper()
		if got := m.columns(t, id); got != columns {
			t.Errorf("%s: the columns hold %s, want %s", what, got, columns)
		}
	}
	row := m.get(t, id)
	if *row.City.Must() != "city0" || m.Migrated(&row) {
		t.Errorf("an old row: migrated = %t", m.Migrated(&row))
	}
	must(t, kmssqlx.Update(t.Context(), e.db, m.Model, &row))
	want("filled", "city0 city0")
	if !m.Migrated(&row) {
		t.Error("a filled row is not migrated")
	}
	row = m.get(t, id)
	row.City.Set(new("Paris"))
	must(t, kmssqlx.Update(t.Context(), e.db, m.Model, &row))
	want("set", "Paris Paris")
	row.City.Set(new("Rome"))
	must(t, kmssqlx.Update(t.Context(), e.db, m.Model, &row, "*"))
	want("set, with all plain columns", "Rome Rome")
	row.City.SetNull()
	must(t, kmssqlx.Update(t.Context(), e.db, m.Model, &row))
	want("set to NULL", "NULL NULL")

	m.asBefore(t, id, "Oslo")
	row = m.get(t, id)
	row.City.SetNull() // the new column is NULL already, the old one has to be
	must(t, kmssqlx.Update(t.Context(), e.db, m.Model, &row))
	want("an old value set to NULL", "NULL NULL")
}

// Filling does not undo what others write meanwhile, whichever column it is.
func migratingGivesWay(t *testing.T, e *env) {
	m := e.migration(t, 1)
	id := m.ids(t)[0]
	row := m.get(t, id)
	row.Email.Set(secret) // the row has a data key for another column
	must(t, kmssqlx.Update(t.Context(), e.db, m.Model, &row))
	m.asBefore(t, id, "Oslo")
	must2(t)(e.db.Exec("UPDATE " + e.table + " SET city_ciphertext = NULL, city_bidx = NULL"))

	mine, theirs := m.get(t, id), m.get(t, id)
	theirs.City.Set(new("Rome"))
	must(t, kmssqlx.Update(t.Context(), e.db, m.Model, &theirs))
	wantError(t, "filling after somebody set both", kmssqlx.Update(t.Context(), e.db, m.Model, &mine), kmsencrypted.ErrConflict)
	if got := m.columns(t, id); got != "Rome Rome" {
		t.Errorf("the columns hold %s", got)
	}
	must2(t)(e.db.Exec("UPDATE " + e.table + " SET city_ciphertext = NULL, city_bidx = NULL"))
	mine = m.get(t, id)
	m.asBefore(t, id, "Bern")
	wantError(t, "filling after a program of before", kmssqlx.Update(t.Context(), e.db, m.Model, &mine), kmsencrypted.ErrConflict)
	if got := m.columns(t, id); got != "Bern NULL" {
		t.Errorf("the columns hold %s", got)
	}
	must(t, kmssqlx.Update(t.Context(), e.db, m.Model, new(m.get(t, id))))

	// Programs of before change the old column of a row that was filled.
	for _, city := range []any{"Wien", nil} {
		m.asBefore(t, id, city)
		mine = m.get(t, id)
		if m.Migrated(&mine) {
			t.Error("columns that differ count as migrated")
		}
		if got := mine.City.Must(); city == nil && got != nil || city != nil && (got == nil || *got != city) {
			t.Errorf("after a program of before: read %v, want %v", got, city)
		}
		must(t, kmssqlx.Update(t.Context(), e.db, m.Model, &mine))
		if want := fmt.Sprintf("%v %v", city, city); m.columns(t, id) != map[any]string{"Wien": want, nil: "NULL NULL"}[city] {
			t.Errorf("after Update: %s", m.columns(t, id))
		}
		if again := m.get(t, id); !m.Migrated(&again) || again.Email.Must() != secret {
			t.Error("after Update the row is not migrated, or lost another column")
		}
	}
}

// A table moves while programs of before and of the first deployment write to it,
// and the filling is interrupted and begun again. Every write that was
// acknowledged is there at the end, and found by the new index.
func migrateTable(t *testing.T, e *env) {
	const rows, rounds = 40, 3
	m := e.migration(t, rows)
	ids := m.ids(t)
	last := make([]string, rows)
	change := func(i, round int, before bool) {
		city := fmt.Sprintf("town%d-%d", i, round)
		if last[i] = city; before {
			m.asBefore(t, ids[i], city)
			return
		}
		for {
			row := m.get(t, ids[i])
			row.City.Set(&city)
			err := kmssqlx.Update(t.Context(), e.db, m.Model, &row)
			if errors.Is(err, kmsencrypted.ErrConflict) {
				continue
			}
			must(t, err)
			return
		}
	}
	// The first deployment rolls out: both kinds of program write, each row by one
	// of them at a time, and the filling has begun already.
	ctx, interrupt := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for w := range 4 {
		busy.Go(func() {
			for round := range rounds {
				for i := w; i < rows/2; i += 4 {
					change(i, round, (i+round)%2 == 0)
				}
			}
		})
	}
	busy.Go(func() {
		defer interrupt()
		_, _ = m.fill(ctx, rows/4)
	})
	busy.Wait()
	if filled, err := m.fill(ctx, rows); filled != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled filling: %d rows, %v", filled, err)
	}

	// No program of before is left. The filling goes on where it stopped, and a
	// pass over all rows finds those that such a program changed after they were filled.
	for range 2 {
		busy.Go(func() { must(t, second(m.fill(t.Context(), rows))) })
	}
	busy.Go(func() {
		for i := rows / 2; i < rows; i++ {
			change(i, rounds, false)
		}
	})
	busy.Wait()
	healed, err := m.verify(t.Context())
	must(t, err)
	t.Log("changed by programs of before, after they were filled:", healed)
	if left, err := m.verify(t.Context()); left != 0 || err != nil {
		t.Errorf("a second pass still finds %d rows, %v", left, err)
	}

	must2(t)(e.db.Exec("ALTER TABLE " + e.table + " DROP COLUMN city"))
	done := model[moved](t, e, m.config)
	for i, id := range ids {
		want := last[i]
		if want == "" {
			want = fmt.Sprint("city", i)
		}
		var row moved
		must(t, kmssqlx.Get(t.Context(), e.db, done, &row, "SELECT * FROM "+e.table+" WHERE city_bidx IN (?)", done.Lookup("City", want)))
		if row.ID != id {
			t.Errorf("row %d holds %s, want %s", id, *row.City.Must(), want)
		}
	}
}

func second(_ int, err error) error { return err }

// fill seals rows that have the old column alone, at most so many. Rows that are
// done do not match again, so it can be interrupted and run twice.
func (m migration) fill(ctx context.Context, most int) (filled int, err error) {
	const batch = 7
	for last := int64(0); filled < most; {
		var page []moving
		if err := kmssqlx.Select(ctx, m.db, m.Model, &page, "SELECT * FROM "+m.table+
			" WHERE id > ? AND city IS NOT NULL AND city_ciphertext IS NULL ORDER BY id LIMIT "+fmt.Sprint(batch), last); err != nil {
			return filled, err
		}
		if len(page) == 0 {
			return filled, nil
		}
		for i := range page {
			switch err := kmssqlx.Update(ctx, m.db, m.Model, &page[i]); {
			case err == nil:
				filled++
			case !errors.Is(err, kmsencrypted.ErrConflict): // who changed the row has filled it, or it comes up again
				return filled, err
			}
		}
		last = page[len(page)-1].ID
	}
	return filled, nil
}

// verify compares both columns of every row and lets the old one win.
func (m migration) verify(ctx context.Context) (healed int, err error) {
	var all []moving
	if err := kmssqlx.Select(ctx, m.db, m.Model, &all, "SELECT * FROM "+m.table); err != nil {
		return 0, err
	}
	for i := range all {
		if m.Migrated(&all[i]) {
			continue
		}
		healed++
		if err := kmssqlx.Update(ctx, m.db, m.Model, &all[i]); err != nil {
			return healed, err
		}
	}
	return healed, nil
}

// A column under Lockbox's master key moves under a data key of the record.
func migrateMasterKey(t *testing.T, e *env) {
	type before struct {
		ID    int64             `db:"id"`
		Email field.Of[*string] `db:"email_ciphertext" kms:"lockbox,master"`
	}
	type between struct {
		ID       int64             `db:"id"`
		OldEmail field.Of[*string] `db:"email_ciphertext" kms:"lockbox,master"`
		Key      field.Key         `db:"encrypted_kms_key"`
		Email    field.Of[*string] `db:"email_kms_ciphertext" kms:"lockbox,migrating=OldEmail"`
	}
	master, err := lockbox.NewMasterKey(bytes.Repeat([]byte{7}, 32))
	must(t, err)
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory(), Format: kmsencrypted.Ruby}}}.Box()
	must(t, err)
	old, err := field.NewModel[before](box, field.Config{Table: e.table, LockboxMasterKey: master})
	must(t, err)
	m, err := field.NewModel[between](box, field.Config{Table: e.table, LockboxMasterKey: master})
	must(t, err)
	createTable(t, e, m, "id "+e.id)

	list := []before{{Email: field.New(new(email(0)))}, {Email: field.New(new(email(1)))}, {}}
	must(t, kmssqlx.Insert(t.Context(), e.db, old, field.Pointers(list)...))
	get := func(i int) (row between) {
		t.Helper()
		must(t, kmssqlx.Get(t.Context(), e.db, m, &row, "SELECT * FROM "+e.table+" WHERE id = ?", list[i].ID))
		return row
	}
	row := get(0)
	if *row.Email.Must() != email(0) || m.Migrated(&row) {
		t.Error("the new field does not read the old column")
	}
	// A Rails process that knows the old column alone changes it meanwhile.
	list[0].Email.Set(new(email(5)))
	must(t, kmssqlx.Update(t.Context(), e.db, old, &list[0]))
	wantError(t, "filling after the old column changed", kmssqlx.Update(t.Context(), e.db, m, &row), kmsencrypted.ErrConflict)
	for i := range list {
		row := get(i)
		must(t, kmssqlx.Update(t.Context(), e.db, m, &row))
	}
	// And once more after the filling.
	list[0].Email.Set(new(email(6)))
	must(t, kmssqlx.Update(t.Context(), e.db, old, &list[0]))
	row = get(0)
	if m.Migrated(&row) || *row.Email.Must() != email(6) {
		t.Error("an old column that changed after the filling is not noticed")
	}
	must(t, kmssqlx.Update(t.Context(), e.db, m, &row))

	row = get(1)
	row.Email.Set(new(email(7)))
	must(t, kmssqlx.Update(t.Context(), e.db, m, &row))
	var asBefore before
	must(t, kmssqlx.Get(t.Context(), e.db, old, &asBefore, "SELECT id, email_ciphertext FROM "+e.table+" WHERE id = ?", row.ID))
	if *asBefore.Email.Must() != email(7) {
		t.Error("a program of before does not see what was set")
	}

	type after struct {
		ID    int64             `db:"id"`
		Key   field.Key         `db:"encrypted_kms_key"`
		Email field.Of[*string] `db:"email_kms_ciphertext" kms:"lockbox"`
	}
	done, err := field.NewModel[after](box, field.Config{Table: e.table})
	must(t, err)
	var all []after
	must(t, kmssqlx.Select(t.Context(), e.db, done, &all, "SELECT id, encrypted_kms_key, email_kms_ciphertext FROM "+e.table+" ORDER BY id"))
	if *all[0].Email.Must() != email(6) || *all[1].Email.Must() != email(7) || !all[2].Email.IsNull() || !all[2].Key.IsNull() {
		t.Error("after the move a row holds another value")
	}
}
