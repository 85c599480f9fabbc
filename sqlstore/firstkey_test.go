package sqlstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func TestFirstKeySQLite(t *testing.T)   { testFirstKey(t, sqlite) }
func TestFirstKeyPostgres(t *testing.T) { testFirstKey(t, postgres) }
func TestFirstKeyMariaDB(t *testing.T)  { testFirstKey(t, mariadb) }

type member struct {
	ID       int64             `db:"id"`
	Key      field.Key         `db:"encrypted_kms_key"`
	Email    field.Of[*string] `db:"email_ciphertext" kms:"lockbox"`
	SSN      field.Of[*string] `db:"encrypted_ssn" kms:"attr_encrypted"`
	SSNIV    field.Part        `db:"encrypted_ssn_iv"`
	PhoneKey field.Key         `db:"encrypted_kms_key_phone" kms:"name=phone"`
	Phone    field.Of[*string] `db:"phone_ciphertext" kms:"lockbox,key=phone"`
}

// Every member gets its keys while Rails, which compares nothing, gives some of them
// theirs. What Rails wrote is there afterwards.
func testFirstKey(t *testing.T, d database) {
	t.Parallel()
	db := d.open(t)
	b, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.New(), Format: kmsencrypted.Ruby}}}.Box()
	must(t, err)
	m, err := field.NewModel[member](b, field.Config{Table: "members", Name: "Member", NoFirstKeys: true})
	must(t, err)
	rails, err := field.NewModel[member](b, field.Config{Table: "members", Name: "Member"})
	must(t, err)
	create(t, d, db, m, "id bigint PRIMARY KEY")
	const members = 300
	for id := 1; id <= members; id++ {
		blank, iv := []string{"NULL", "''"}[id%2], []string{"NULL", "'bWFkZSBiZWZvcmU=\n'"}[id%2] // the gem makes an iv for "" too, in lines
		_, err := db.Exec(fmt.Sprintf("INSERT INTO members (id, email_ciphertext, phone_ciphertext, encrypted_ssn, encrypted_ssn_iv) VALUES (%d, %s, NULL, %s, %s)", id, blank, blank, iv))
		must(t, err)
	}

	// Without the kind first-key a program with NoFirstKeys writes none of them.
	u := new(member)
	must(t, kmssqlx.Get(t.Context(), db, m, u, "SELECT * FROM members WHERE id = 1"))
	u.Phone.Set(new("1"))
	unread := &member{ID: 1, Phone: field.New(new("1"))}
	for name, row := range map[string]*member{"read": u, "not read": unread} {
		if err := kmssqlx.Update(t.Context(), db, m, row); !errors.Is(err, field.ErrFirstKey) {
			t.Errorf("Update() of a row %s without a key = %v, want ErrFirstKey", name, err)
		}
	}
	must(t, kmssqlx.Insert(t.Context(), db, m, &member{ID: members + 1, Email: field.New(new("new@example.org"))}))
	_, err = db.Exec("INSERT INTO members (id, email_ciphertext) VALUES (999, 'c29tZSBjaXBoZXJ0ZXh0IHdpdGhvdXQga2V5')")
	must(t, err)

	wrote := make(chan map[int64]string)
	go func() {
		values := make(map[int64]string)
		for id := int64(1); id <= members; id += 3 {
			if value, ok := railsWrites(t, db, rails, id); ok {
				values[id] = value
			}
		}
		wrote <- values
	}()
	r := rotator(t, d, db, b, m, rotation.Options{Kind: rotation.FirstKey, BatchSize: 20, Workers: 2})
	result, err := r.Run(t.Context())
	if err != nil || result.Failed == 0 {
		t.Errorf("Run() = %+v, %v, want the ciphertext without its key to fail", result, err)
	}
	values := <-wrote
	classes, err := r.Failures(t.Context(), 0)
	must(t, err)
	if len(classes) != 1 || classes[0].Class != "no-data-key" {
		t.Errorf("Failures() = %v", classes)
	}
	_, err = db.Exec("DELETE FROM members WHERE id = 999")
	must(t, err)
	var left int
	must(t, db.Get(&left, "SELECT count(*) FROM members WHERE encrypted_kms_key IS NULL OR encrypted_kms_key_phone IS NULL"))
	if left > 0 || len(values) == 0 {
		t.Errorf("%d rows without a key, %d written by Rails", left, len(values))
	}
	for _, row := range load(t, db, m) {
		if want, ok := values[row.ID]; ok && *row.Email.Must() != want {
			t.Errorf("member %d: email %q, want %q of Rails", row.ID, *row.Email.Must(), want)
		}
	}
	must(t, kmssqlx.Get(t.Context(), db, m, u, "SELECT * FROM members WHERE id = 2"))
	u.Phone.Set(new("2"))
	must(t, kmssqlx.Update(t.Context(), db, m, u))
	t.Logf("%d records written, %d conflicts, %d beside by Rails", result.Written, result.Conflicts, len(values))
}

// railsWrites reads a row, and later writes one value and the key that it had then or
// made, on no condition but the id.
func railsWrites(t *testing.T, db *sqlx.DB, m *field.Model[member], id int64) (value string, ok bool) {
	row := new(member)
	if err := kmssqlx.Get(t.Context(), db, m, row, db.Rebind("SELECT * FROM members WHERE id = ?"), id); err != nil {
		t.Errorf("Rails reads member %d: %v", id, err)
		return "", false
	}
	time.Sleep(2 * time.Millisecond)
	value = fmt.Sprintf("rails%d@example.org", id)
	row.Email.Set(&value)
	if err := m.Seal(t.Context(), row); err != nil {
		t.Errorf("Rails seals member %d: %v", id, err)
		return "", false
	}
	_, err := db.Exec(db.Rebind("UPDATE members SET email_ciphertext = ?, encrypted_kms_key = ? WHERE id = ?"), row.Email, row.Key, id)
	if err != nil {
		t.Errorf("Rails writes member %d: %v", id, err)
	}
	return value, err == nil
}
