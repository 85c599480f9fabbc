package sqlstore_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func TestActiveRecordSQLite(t *testing.T)   { testActiveRecord(t, sqlite) }
func TestActiveRecordPostgres(t *testing.T) { testActiveRecord(t, postgres) }

// railsPerson has columns of Rails' encrypts beside one under a data key.
type railsPerson struct {
	ID    int64             `db:"id"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Name  field.Of[string]  `db:"name_ciphertext"`
	Email field.Of[*string] `db:"email" kms:"activerecord,deterministic"`
	Note  field.Of[*string] `db:"note" kms:"activerecord"`
}

// New data keys leave the columns of Rails as they are. A reindex moves them to the newest
// key of Rails, and only them.
func testActiveRecord(t *testing.T, d database) {
	t.Parallel()
	db, dir := d.open(t), t.TempDir()
	modelAt := func(current int, primary ...string) *field.Model[railsPerson] {
		e, err := activerecord.New(activerecord.Config{PrimaryKeys: activerecord.Passwords(primary...), DeterministicKey: activerecord.Password("d"), Salt: "s"})
		must(t, err)
		m, err := field.NewModel[railsPerson](box(t, dir, current), field.Config{Table: "persons", ActiveRecord: e})
		must(t, err)
		return m
	}
	m := modelAt(1, "old")
	create(t, d, db, m, "id bigint PRIMARY KEY")
	const persons = 25
	for id := int64(1); id <= persons; id++ {
		p := &railsPerson{ID: id, Name: field.New("Ada"), Note: field.New(new("secret"))}
		if id%2 == 0 {
			p.Email = field.New(new("ada@example.org"))
		}
		must(t, kmssqlx.Insert(t.Context(), db, m, p))
	}
	var found []railsPerson
	must(t, kmssqlx.Select(t.Context(), db, m, &found, "SELECT * FROM persons WHERE email = ?", m.Lookup("Email", "ada@example.org")))
	if len(found) != persons/2 || *found[0].Note.Must() != "secret" {
		t.Errorf("%d persons found, want %d", len(found), persons/2)
	}

	column := func(name string) (text string) {
		must(t, db.Get(&text, "SELECT "+name+" FROM persons WHERE id = 2"))
		return text
	}
	email, note := column("email"), column("note")
	after := modelAt(2, "old", "new")
	verify := func() rotation.Verification {
		v, err := rotator(t, d, db, after.Adapter().Box(), after, rotation.Options{}).Verify(t.Context(), rotation.VerifyOptions{Derived: true})
		must(t, err)
		return v
	}
	for _, c := range []struct {
		kind  rotation.Kind
		stale int
		moved bool
	}{{rotation.Rewrap, persons, false}, {rotation.Reindex, 0, true}} {
		r, err := rotator(t, d, db, after.Adapter().Box(), after, rotation.Options{Kind: c.kind, BatchSize: 10}).Run(t.Context())
		if err != nil || r.Written != persons || r.Failed > 0 {
			t.Errorf("%s = %+v, %v", c.kind, r, err)
		}
		v := verify()
		if len(v.Failures) != c.stale || c.stale > 0 && !errors.Is(v.Failures[0].Err, kmsencrypted.ErrStaleIndex) {
			t.Errorf("%d failures after a %s, want %d: %v", len(v.Failures), c.kind, c.stale, v.Failures)
		}
		if moved := column("note") != note; moved != c.moved || column("email") != email {
			t.Errorf("after a %s the note moved: %t, want %t; and the email: %t", c.kind, moved, c.moved, column("email") != email)
		}
	}
	after = modelAt(3, "old", "new")
	note = column("note")
	r, err := rotator(t, d, db, after.Adapter().Box(), after, rotation.Options{Kind: rotation.Rekey}).Run(t.Context())
	if err != nil || r.Written != persons || column("note") != note || column("email") != email || len(verify().Failures) > 0 {
		t.Errorf("rekey = %+v, %v; the note is unchanged: %t", r, err, column("note") == note)
	}
}
