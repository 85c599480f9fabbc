package kmssqlx_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func updateWritesWhatChanged(t *testing.T, e *env) {
	s := e.customers(t)
	id := s.insert(t, 1)[0].ID
	c, other := s.get(t, id), s.get(t, id)

	// Two programs change different columns: neither undoes the other's change.
	c.Email.Set(email(1))
	other.Name, other.Status = "Ada", new("gone")
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &other, "name"))
	if got := s.get(t, id); got.Email.Must() != email(1) || got.Name != "Ada" || got.Status != nil || got.Shout != "ADA" {
		t.Errorf("after two updates: %+v", got)
	}
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &other, "*"))
	if got := s.get(t, id); *got.Status != "gone" || got.Email.Must() != email(1) {
		t.Errorf("after an update of all plain columns: %+v", got)
	}
	c.Born.Set(time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC))
	c.Email.SetNull()
	c.Status = nil
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c, "status"))
	if got := s.get(t, id); !got.Email.IsNull() || got.Born.Must().Year() != 1815 || got.Status != nil {
		t.Errorf("after setting NULL: %+v", got)
	}
	for _, name := range []string{"shout", "email_ciphertext", "encrypted_kms_key", "id", "nonsense"} {
		wantError(t, "an update of "+name, kmssqlx.Update(t.Context(), e.db, s.Model, &c, name), kmsencrypted.ErrConfig)
	}

	// Saved twice: the second time there is nothing to write or to encrypt again.
	c.Email.Set(email(2))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c))
	db, before := e.recorder(), stored(t, s.get(t, id).Email)
	must(t, kmssqlx.Update(t.Context(), db, s.Model, &c))
	if after := stored(t, s.get(t, id).Email); len(db.sent) != 0 || after != before {
		t.Errorf("a second update sent %q", db.sent)
	}
}

// A row that already holds what is written has not changed under anybody's
// hands, though MariaDB counts no changed row.
func updateWithoutChange(t *testing.T, e *env) {
	s := e.customers(t)
	id := s.insert(t, 1)[0].ID
	for range 2 {
		c := s.get(t, id)
		must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c, "*"))
	}
	one, other := s.get(t, id), s.get(t, id)
	one.Email.SetNull()
	other.Email.SetNull()
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &one))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &other))
}

// versions are a box at version 1 and one at version 2 for the same table.
func versions(t *testing.T, e *env) (old, current store) {
	t.Helper()
	one, two := kmstest.NewService(kmstest.Memory()), kmstest.NewService(kmstest.Memory())
	config := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: one.Provider()}, 2: {Provider: two.Provider()}}}
	old = store{e, model[customer](t, e, config), one}
	config.Current = 2
	current = store{e, model[customer](t, e, config), two}
	createTable(t, e, old.Model, "id "+e.id+", "+plainColumns)
	return old, current
}

func updateAfterRewrap(t *testing.T, e *env) {
	old, current := versions(t, e)
	id := old.insert(t, 1)[0].ID
	mine, theirs := old.get(t, id), old.get(t, id)
	must(t, kmssqlx.Rewrap(t.Context(), e.db, current.Model, &theirs))
	mine.Email.Set(email(1))
	must(t, kmssqlx.Update(t.Context(), e.db, old.Model, &mine))
	got := current.get(t, id)
	if v, _ := got.Key.Version(); v != 2 || got.Email.Must() != email(1) {
		t.Errorf("after a rewrap and an update: version %d", v)
	}
	mine.Email.Set(email(2)) // the record has learned the new key column
	must(t, kmssqlx.Update(t.Context(), e.db, old.Model, &mine))
	if old.get(t, id).Email.Must() != email(2) {
		t.Error("a second update was lost")
	}
}

func updateAfterRekey(t *testing.T, e *env) {
	old, current := versions(t, e)
	id := old.insert(t, 1)[0].ID
	mine, theirs := old.get(t, id), old.get(t, id)
	must(t, kmssqlx.Rekey(t.Context(), e.db, current.Model, &theirs))
	mine.Email.Set(email(1))
	wantError(t, "update after a rekey", kmssqlx.Update(t.Context(), e.db, old.Model, &mine), kmsencrypted.ErrConflict)
	if got := current.get(t, id); got.Email.Must() != email(0) {
		t.Error("the refused update changed the row")
	}
	mine = old.get(t, id)
	mine.Email.Set(email(1))
	must(t, kmssqlx.Update(t.Context(), e.db, old.Model, &mine))

	// A rekey does not undo an update that came between.
	mine, theirs = old.get(t, id), old.get(t, id)
	mine.Email.Set(email(2))
	must(t, kmssqlx.Update(t.Context(), e.db, old.Model, &mine))
	wantError(t, "rekey after an update", kmssqlx.Rekey(t.Context(), e.db, current.Model, &theirs), kmsencrypted.ErrConflict)
	if got := current.get(t, id); got.Email.Must() != email(2) {
		t.Error("the refused rekey changed the row")
	}
	// Nor one of a column that was NULL when the rekey read it.
	mine, theirs = old.get(t, id), old.get(t, id)
	mine.Phone.Set(new("phone@" + secret))
	must(t, kmssqlx.Update(t.Context(), e.db, old.Model, &mine))
	wantError(t, "rekey after a first value", kmssqlx.Rekey(t.Context(), e.db, current.Model, &theirs), kmsencrypted.ErrConflict)
	theirs = old.get(t, id)
	theirs.Phone.SetNull() // and a rekey may come with changes
	must(t, kmssqlx.Rekey(t.Context(), e.db, current.Model, &theirs))
	if got := current.get(t, id); got.Email.Must() != email(2) || !got.Phone.IsNull() {
		t.Error("a rekey with a change lost something")
	}
}

func updateGone(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 1)
	c := s.get(t, all[0].ID)
	must(t, kmssqlx.Delete(t.Context(), e.db, s.Model, &all[0]))
	c.Email.Set(email(1))
	wantError(t, "update of a row that is gone", kmssqlx.Update(t.Context(), e.db, s.Model, &c), sql.ErrNoRows)
	wantError(t, "the same of a plain column", kmssqlx.Update(t.Context(), e.db, s.Model, &all[0], "name"), sql.ErrNoRows)
	wantError(t, "delete of a row that is gone", kmssqlx.Delete(t.Context(), e.db, s.Model, &c), sql.ErrNoRows)
	if s.count(t) != 0 {
		t.Error("an update made a row")
	}
}

// After an error the record still has its changes to write.
func updateFailedIsRepeated(t *testing.T, e *env) {
	s := e.customers(t)
	all := s.insert(t, 2)
	c := s.get(t, all[0].ID)
	c.Email.Set(email(5))
	c.Name = "name1"
	wantError(t, "unique violation", kmssqlx.Update(t.Context(), e.db, s.Model, &c, "name"))
	if got := s.get(t, c.ID); got.Email.Must() != email(0) {
		t.Error("a failed update wrote the encrypted column")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "context ended", kmssqlx.Update(ended, e.db, s.Model, &c), context.Canceled)
	c.Name = "free"
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &c, "name"))
	if got := s.get(t, c.ID); got.Email.Must() != email(5) || got.Name != "free" {
		t.Errorf("the repeated update wrote %+v", got)
	}
}

// A column that is bound to a plain one takes it along into the database.
func updateBoundTo(t *testing.T, e *env) {
	type user struct {
		ID    int64            `db:"id"`
		Name  string           `db:"name"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext" kms:"lockbox,ad=Name"`
	}
	m := model[user](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory(), Format: kmsencrypted.Ruby}}})
	createTable(t, e, m, "id "+e.id+", name varchar(20)")
	u := user{Name: "Ada", Email: field.New(email(0))}
	must(t, kmssqlx.Insert(t.Context(), e.db, m, &u))
	u.Name = "Countess"
	u.Email.Set(email(1))
	must(t, kmssqlx.Update(t.Context(), e.db, m, &u)) // the name is not mentioned
	var read user
	must(t, kmssqlx.Get(t.Context(), e.db, m, &read, "SELECT * FROM "+e.table))
	if read.Name != "Countess" || read.Email.Must() != email(1) {
		t.Errorf("after the update: %+v", read)
	}
}

// Two processes give a row its first data key: one of them learns that it lost.
func firstKeyRace(t *testing.T, e *env) {
	s := e.customers(t)
	c := customer{Name: "Ada"}
	must(t, kmssqlx.Insert(t.Context(), e.db, s.Model, &c))
	one, other := s.get(t, c.ID), s.get(t, c.ID)
	one.Email.Set(email(1))
	other.Phone.Set(new("phone@" + secret))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &one))
	wantError(t, "the second first key", kmssqlx.Update(t.Context(), e.db, s.Model, &other), kmsencrypted.ErrConflict)
	other = s.get(t, c.ID)
	other.Phone.Set(new("phone@" + secret))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &other))
	if got := s.get(t, c.ID); got.Email.Must() != email(1) || *got.Phone.Must() != "phone@"+secret {
		t.Errorf("after the race: %+v", got)
	}
}

// With a record seal every update rewrites the key column, so that two writers
// of different columns are in each other's way.
func recordSeal(t *testing.T, e *env) {
	s := e.customers(t, func(v *kmsencrypted.Version) { v.RecordSeal = true })
	id := s.insert(t, 1)[0].ID
	one, other := s.get(t, id), s.get(t, id)
	one.Email.Set(email(1))
	other.Phone.Set(new("phone@" + secret))
	must(t, kmssqlx.Update(t.Context(), e.db, s.Model, &one))
	wantError(t, "a second writer under a record seal", kmssqlx.Update(t.Context(), e.db, s.Model, &other), kmsencrypted.ErrConflict)
	e.db.MustExec("UPDATE " + e.table + " SET email_ciphertext = NULL")
	var c customer
	wantError(t, "a column emptied", kmssqlx.Get(t.Context(), e.db, s.Model, &c, "SELECT * FROM "+e.table), kmsencrypted.ErrRecordSeal)
}

func severalKeys(t *testing.T, e *env) {
	type user struct {
		ID       int64            `db:"id"`
		Key      field.Key        `db:"encrypted_kms_key"`
		Email    field.Of[string] `db:"email_ciphertext"`
		PhoneKey field.Key        `db:"encrypted_kms_key_phone" kms:"name=phone"`
		Phone    field.Of[string] `db:"phone_ciphertext" kms:"key=phone"`
	}
	one, two := kmstest.Memory(), kmstest.Memory()
	config := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: one}, 2: {Provider: two}}}
	old := model[user](t, e, config)
	config.Current = 2
	current := model[user](t, e, config)
	createTable(t, e, old, "id "+e.id)
	u := user{Email: field.New(email(0)), Phone: field.New("phone@" + secret)}
	must(t, kmssqlx.Insert(t.Context(), e.db, old, &u))
	get := func() (read user) {
		t.Helper()
		must(t, kmssqlx.Get(t.Context(), e.db, current, &read, "SELECT * FROM "+e.table))
		return read
	}
	// Both keys are rewrapped while somebody changes a column under each.
	mine, theirs := get(), get()
	must(t, kmssqlx.Rewrap(t.Context(), e.db, current, &theirs))
	mine.Email.Set(email(1))
	mine.Phone.Set("fax@" + secret)
	must(t, kmssqlx.Update(t.Context(), e.db, old, &mine))
	if got := get(); got.Email.Must() != email(1) || got.Phone.Must() != "fax@"+secret {
		t.Error("an update under two rewrapped keys was lost")
	}
	// One key is rewrapped, by a program that knows no other.
	type mailing struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext"`
	}
	config.Versions[3] = kmsencrypted.Version{Provider: kmstest.Memory()}
	next := model[user](t, e, config)
	config.Current = 3
	mailings := model[mailing](t, e, config)
	var letter mailing
	must(t, next.Open(t.Context(), &mine))
	must(t, kmssqlx.Get(t.Context(), e.db, mailings, &letter, "SELECT id, encrypted_kms_key, email_ciphertext FROM "+e.table))
	must(t, kmssqlx.Rewrap(t.Context(), e.db, mailings, &letter))
	mine.Email.Set(email(2))
	mine.Phone.Set("home@" + secret)
	must(t, kmssqlx.Update(t.Context(), e.db, next, &mine))
	current = next

	// The other key is rekeyed: that concerns only who writes under it.
	mine, theirs = get(), get()
	must(t, kmssqlx.Rekey(t.Context(), e.db, current, &theirs))
	mine.Phone.Set("phone@" + secret)
	wantError(t, "update under a rekeyed key", kmssqlx.Update(t.Context(), e.db, old, &mine), kmsencrypted.ErrConflict)
}

func rotateOne(t *testing.T, e *env) {
	old, current := versions(t, e)
	all := old.insert(t, 2)
	c := old.get(t, all[0].ID)
	must(t, kmssqlx.Rewrap(t.Context(), e.db, current.Model, &c))
	rewrapped := current.get(t, c.ID)
	if v, _ := rewrapped.Key.Version(); v != 2 || stored(t, rewrapped.Email) != stored(t, all[0].Email) || rewrapped.Email.Must() != email(0) {
		t.Errorf("Rewrap: version %d", v)
	}
	must(t, kmssqlx.Rekey(t.Context(), e.db, current.Model, &c))
	rekeyed := current.get(t, c.ID)
	if stored(t, rekeyed.Key) == stored(t, rewrapped.Key) || stored(t, rekeyed.Email) == stored(t, rewrapped.Email) || rekeyed.Email.Must() != email(0) {
		t.Error("Rekey left the key or a column as it was")
	}
	// Two rewraps at once agree.
	one, other := old.get(t, all[1].ID), old.get(t, all[1].ID)
	must(t, kmssqlx.Rewrap(t.Context(), e.db, current.Model, &one))
	if err := kmssqlx.Rewrap(t.Context(), e.db, current.Model, &other); err != nil && !errors.Is(err, kmsencrypted.ErrConflict) {
		t.Errorf("a second rewrap: %v", err)
	}
	if got := current.get(t, all[1].ID); got.Email.Must() != email(1) {
		t.Error("two rewraps made a record unreadable")
	}
	// A record without a key has nothing to rotate.
	empty := customer{Name: "empty"}
	must(t, kmssqlx.Insert(t.Context(), e.db, old.Model, &empty))
	must(t, kmssqlx.Rewrap(t.Context(), e.db, current.Model, &empty))
	must(t, kmssqlx.Rekey(t.Context(), e.db, current.Model, &empty))
}
