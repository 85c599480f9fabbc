package kmspgx_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

// subscriber has columns of Rails' encrypts alone.
type subscriber struct {
	ID    int64             `db:"id"`
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
	_, err = e.db.Exec(t.Context(), "CREATE TABLE subscribers (id bigint PRIMARY KEY, email text UNIQUE, note text)")
	must(t, err)
	upsert := func(s *subscriber) error {
		_, err := e.db.Exec(t.Context(), "INSERT INTO subscribers (id, email, note) VALUES (@id, @email, @note) ON CONFLICT (email) DO UPDATE SET note = EXCLUDED.note",
			pgx.NamedArgs{"id": s.ID, "email": s.Email, "note": s.Note})
		return err
	}
	of := func(id int64, note string) *subscriber {
		return &subscriber{ID: id, Email: field.New(new("a@" + secret)), Note: field.New(new(note + secret))}
	}
	if err := upsert(of(1, "plain")); !errors.Is(err, kmsencrypted.ErrUnsealed) {
		t.Errorf("an upsert of what is not sealed = %v, want ErrUnsealed", err)
	}
	for i, note := range []string{"first", "second"} {
		s := of(int64(i+1), note)
		must(t, m.SealNew(t.Context(), s))
		must(t, upsert(s))
	}
	rows, err := kmspgx.Query(t.Context(), e.db, "SELECT * FROM subscribers WHERE email = ANY($1)", m.Lookup("Email", "a@"+secret))
	must(t, err)
	found, err := kmspgx.CollectRows(t.Context(), rows, m)
	must(t, err)
	if len(found) != 1 || found[0].ID != 1 || *found[0].Note.Must() != "second"+secret {
		t.Fatalf("after two upserts: %d rows", len(found))
	}
}
