package rotatecli_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// patient is a record with one encrypted column.
type patient struct {
	ID   int64            `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Name field.Of[string] `db:"name_ciphertext"`
}

// patientsAt returns the model of a program that writes a version. A program would
// list another key as version 2.
func patientsAt(version int) *field.Model[patient] {
	box, err := kmsencrypted.Config{Current: version, Versions: map[int]kmsencrypted.Version{
		1: {Provider: testkey.New()},
		2: {Provider: testkey.New()},
	}}.Box()
	check(err)
	patients, err := field.NewModel[patient](box, field.Config{Table: "patients"})
	check(err)
	return patients
}

// fivePatients makes a database with five records at version 1.
func fivePatients(ctx context.Context) (db *sql.DB, closeAll func()) {
	dir, err := os.MkdirTemp("", "example")
	check(err)
	db, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "clinic.sqlite3")+"?_pragma=busy_timeout(20000)")
	check(err)
	_, err = db.ExecContext(ctx, "CREATE TABLE patients (id integer PRIMARY KEY, encrypted_kms_key text, name_ciphertext text)")
	check(err)
	check(sqlstore.CreateTables(ctx, db, field.SQLite))
	for id := range int64(5) {
		p := patient{ID: id + 1, Name: field.New("Ada")}
		check(patientsAt(1).Seal(ctx, &p))
		_, err = db.ExecContext(ctx, "INSERT INTO patients VALUES (?, ?, ?)", p.ID, p.Key, p.Name)
		check(err)
	}
	return db, func() {
		db.Close()
		os.RemoveAll(dir)
	}
}

// A program of one's own has all commands for its own models. Main is the same for
// the arguments of the process.
func ExampleProgram_Run() {
	ctx := context.Background()
	db, closeAll := fivePatients(ctx)
	defer closeAll()
	ops := rotatecli.Program{
		Name: "ops",
		Open: func(context.Context) (*rotatecli.Database, error) {
			return &rotatecli.Database{DB: db, Dialect: field.SQLite, Models: []field.AnyModel{patientsAt(2)}}, nil
		},
		Stdout: io.Discard, Stderr: io.Discard,
	}
	fmt.Println("rotate run:", ops.Run(ctx, []string{"rotate", "run"}))
	fmt.Println("rotate verify:", ops.Run(ctx, []string{"rotate", "verify"}))
	fmt.Println("rotate backwards:", ops.Run(ctx, []string{"rotate", "backwards"}) == rotatecli.ExitUsage)
	// Output:
	// rotate run: 0
	// rotate verify: 0
	// rotate backwards: true
}

// With gives the table of a model options of its store.
func ExampleWith() {
	patients := rotatecli.With(patientsAt(2), sqlstore.Options{Independent: []string{"encrypted_notes"}})
	fmt.Println(patients.Table())
	// Output: patients
}

func ExampleDialectOf() {
	db, err := sql.Open("sqlite", ":memory:")
	check(err)
	defer db.Close()
	fmt.Println(rotatecli.DialectOf(db))
	// Output: sqlite <nil>
}

// A program shows the state of its rotations while its key service is away.
func ExampleOrAbsent() {
	key, err := local.Open("/nowhere/keys.txt")
	provider := rotatecli.OrAbsent("local:/nowhere/keys.txt", key, err)
	_, err = provider.Encrypt(context.Background(), nil, kmsencrypted.BoundContext{})
	fmt.Println(provider.Info().KeyID, err != nil)
	// Output: local:/nowhere/keys.txt true
}

// Inspect says what a value is, without decrypting it.
func ExampleInspect() {
	p := patient{ID: 7, Name: field.New("Ada")}
	check(patientsAt(1).Seal(context.Background(), &p))
	column, err := p.Key.Value()
	check(err)
	found := rotatecli.Inspect(column.(string))
	fmt.Println(found.Kind, found.Format, "version", found.Version)
	// Output: data key native version 1
}
