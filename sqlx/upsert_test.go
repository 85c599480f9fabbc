package kmssqlx_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// subscriber has columns of Rails' encrypts alone.
type subscriber struct {
	ID    int64             `db:"id"`
	Name  string            `db:"name"`
	Email field.Of[*string] `db:"email" kms:"activerecord,deterministic"`
	Note  field.Of[*string] `db:"note" kms:"activerecord"`
}

// An upsert of the program's own writes columns of Rails' encrypts, which are under no
// data key, and a deterministic one may be what conflicts. It writes no plaintext.
func upsertOfRailsColumns(t *testing.T, e *env) {
	rails, err := activerecord.New(activerecord.Config{PrimaryKeys: activerecord.Passwords("primary"), DeterministicKey: activerecord.Password("deterministic"), Salt: "salt"})
	must(t, err)
	m, err := field.NewModel[subscriber](kmstest.Box(t), field.Config{Table: "subscribers", ActiveRecord: rails})
	must(t, err)
	_, err = e.db.ExecContext(t.Context(), "CREATE TABLE subscribers (id bigint PRIMARY KEY, name text, email varchar(300) UNIQUE, note text)")
	must(t, err)
	conflict := "ON CONFLICT (email) DO UPDATE SET name = EXCLUDED.name, note = EXCLUDED.note"
	if e.dialect == field.MySQL {
		conflict = "ON DUPLICATE KEY UPDATE name = VALUES(name), note = VALUES(note)"
	}
	upsert := func(s *subscriber) error {
		_, err := e.db.NamedExecContext(t.Context(), "INSERT INTO subscribers (id, name, email, note) VALUES (:id, :name, :email, :note) "+conflict, s)
		return err
	}
	of := func(id int64, name, note string) *subscriber {
		return &subscriber{ID: id, Name: name, Email: field.New(new("a@" + secret)), Note: field.New(new(note + secret))}
	}
	if err := upsert(of(1, "plain", "")); !errors.Is(err, kmsencrypted.ErrUnsealed) {
		t.Errorf("an upsert of what is not sealed = %v, want ErrUnsealed", err)
	}
	for i, name := range []string{"first", "second"} {
		s := of(int64(i+1), name, name)
		must(t, m.SealNew(t.Context(), s))
		must(t, upsert(s))
	}
	var found []subscriber
	must(t, kmssqlx.Select(t.Context(), e.db, m, &found, "SELECT * FROM subscribers WHERE email IN (?)", m.Lookup("Email", "a@"+secret)))
	if len(found) != 1 || found[0].ID != 1 || found[0].Name != "second" || *found[0].Note.Must() != "second"+secret {
		t.Fatalf("after two upserts: %d rows", len(found))
	}
	found[0].Note.Set(new("third" + secret))
	must(t, kmssqlx.Update(t.Context(), e.db, m, &found[0]))
	must(t, kmssqlx.Get(t.Context(), e.db, m, &found[0], "SELECT * FROM subscribers WHERE id = 1"))
	if *found[0].Note.Must() != "third"+secret {
		t.Error("an update after the upserts is lost")
	}
}
