package rotatecli_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// contact is a table that was not encrypted, with a plaintext column that is
// being replaced and an index of its values.
type contact struct {
	ID         int64             `db:"id"`
	OldEmail   *string           `db:"email"`
	Key        field.Key         `db:"encrypted_kms_key"`
	Email      field.Of[*string] `db:"email_ciphertext" kms:"migrating=OldEmail"`
	EmailIndex field.Index       `db:"email_bidx" kms:"of=Email,algorithm=pbkdf2_sha256"`
}

func contacts(current int, dir string, indexKey byte) (*sql.DB, *field.Model[contact]) {
	box, db := boxIn(dir, current), openIn(dir)
	key, err := blindindex.NewMasterKey(bytes.Repeat([]byte{indexKey}, blindindex.KeySize))
	check(err)
	m, err := field.NewModel[contact](box, field.Config{Table: "contacts", IndexKey: key})
	check(err)
	return db, m
}

// contactsProgram is the team's program, with the words seed and write-old.
func contactsProgram() {
	current, err := strconv.Atoi(os.Getenv("VERSION"))
	check(err)
	db, m := contacts(current, ".", os.Getenv("INDEXKEY")[0])
	switch os.Args[1] {
	default:
		rotatecli.Main(context.Background(), db, m)
	case "write-old": // as a program does that knows the old column only
		_, err = db.Exec("UPDATE contacts SET email = ? WHERE id = 4", "another "+secretEmail)
		check(err)
	case "seed":
		seedContacts(db)
	}
}

// seedContacts makes the table as it was before, with an address in two rows of three.
func seedContacts(db *sql.DB) {
	_, err := db.Exec("CREATE TABLE contacts (id integer PRIMARY KEY, email text, encrypted_kms_key text, email_ciphertext text, email_bidx text)")
	check(err)
	for i := range 150 {
		var email any
		if i%3 > 0 {
			email = fmt.Sprint(i, secretEmail)
		}
		_, err := db.Exec("INSERT INTO contacts (id, email) VALUES (?, ?)", i, email)
		check(err)
	}
}

// finds KEY COUNT looks up each address by the index under a key, and says how
// many records have it.
func finds(ts *testscript.TestScript, _ bool, args []string) {
	version, err := strconv.Atoi(ts.Getenv("VERSION"))
	ts.Check(err)
	db, m := contacts(version, ts.Getenv("WORK"), args[0][0])
	defer db.Close()
	found := 0
	for i := range 150 {
		lookup := m.Lookup("Email", fmt.Sprint(i, secretEmail))
		ts.Check(lookup.Err())
		var id int
		err := db.QueryRow("SELECT id FROM contacts WHERE email_bidx = ?", lookup.Args()...).Scan(&id)
		if err == nil && id == i {
			found++
		}
	}
	if strconv.Itoa(found) != args[1] {
		ts.Fatalf("%d contacts are found, want %s", found, args[1])
	}
}
