package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// Patient is a record with one encrypted column.
type Patient struct {
	ID   int64            `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Name field.Of[string] `db:"name_ciphertext"`
}

// A table moves from one key to another: plan, run, verify.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	oldKey, err := local.Create(filepath.Join(dir, "old.txt"))
	if err != nil {
		log.Fatal(err)
	}
	newKey, err := local.Create(filepath.Join(dir, "new.txt"))
	if err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "clinic.sqlite3"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	admit(ctx, db, oldKey)

	box, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{
		1: {Provider: oldKey}, 2: {Provider: newKey},
	}}.Box()
	if err != nil {
		log.Fatal(err)
	}
	patients, err := field.NewModel[Patient](box, field.Config{Table: "patients"})
	if err != nil {
		log.Fatal(err)
	}
	store, err := sqlstore.New(ctx, db, field.SQLite, patients, sqlstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := store.CreateTables(ctx); err != nil {
		log.Fatal(err)
	}
	rotator, err := rotation.New(box, store, rotation.Options{Workers: 1})
	if err != nil {
		log.Fatal(err)
	}
	plan, err := rotator.Plan(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.Keys, "keys,", plan.Calls, "calls")
	result, err := rotator.Run(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Written, "rewrapped,", result.Failed, "failed, done:", result.Done)
	verified, err := rotator.Verify(ctx, rotation.VerifyOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(verified.Opened, "opened, clean:", verified.Clean(box.Current()))
	// Output:
	// 3 keys, 9 calls
	// 3 rewrapped, 0 failed, done: true
	// 3 opened, clean: true
}

// admit makes the table and writes three patients under the old key.
func admit(ctx context.Context, db *sql.DB, key kmsencrypted.Provider) {
	box, err := kmsencrypted.NewBox(key)
	if err != nil {
		log.Fatal(err)
	}
	patients, err := field.NewModel[Patient](box, field.Config{Table: "patients"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = db.ExecContext(ctx, "CREATE TABLE patients (id integer PRIMARY KEY, encrypted_kms_key text, name_ciphertext text)")
	if err != nil {
		log.Fatal(err)
	}
	for id := range int64(3) {
		p := Patient{ID: id + 1, Name: field.New("Ada")}
		if err := patients.Seal(ctx, &p); err != nil {
			log.Fatal(err)
		}
		if _, err := db.ExecContext(ctx, "INSERT INTO patients VALUES (?, ?, ?)", p.ID, p.Key, p.Name); err != nil {
			log.Fatal(err)
		}
	}
}
