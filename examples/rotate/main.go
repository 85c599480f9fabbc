// Rotate: 100,000 customers in embedded SQLite move to another key, with the
// command line that a program gives its own operators. The run is interrupted in
// the middle, goes on, and is verified.
//
//	go run ./examples/rotate
//
// What would be typed stands behind a $; in a real program all of it is
//
//	func main() { rotatecli.Main(context.Background(), db, customers) }
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// Customer is a row of the table customers.
type Customer struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

const createTable = `CREATE TABLE customers (id INTEGER PRIMARY KEY, encrypted_kms_key TEXT, email_ciphertext TEXT)`

func main() {
	if err := run(context.Background(), 100_000, os.Stdout, os.Stderr); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, rows int, out, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "rotate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	oldKey, err := local.Create(filepath.Join(dir, "2025.key"))
	if err != nil {
		return err
	}
	newKey, err := local.Create(filepath.Join(dir, "2026.key"))
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "app.sqlite3")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
	if err != nil {
		return err
	}
	defer db.Close()
	fmt.Fprintf(out, "%d customers are sealed under version 1 …\n", rows)
	if err := admit(ctx, db, oldKey, rows); err != nil {
		return err
	}

	// The program after its second deployment: version 2 is current. Its key is
	// where this example presses Ctrl-C.
	interrupted, interrupt := context.WithCancel(ctx)
	defer interrupt()
	box, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{
		1: {Provider: oldKey},
		2: {Provider: &interrupting{Provider: newKey, left: int64(rows) * 2 / 5, interrupt: interrupt}},
	}}.Box()
	if err != nil {
		return err
	}
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
	if err != nil {
		return err
	}
	ops := rotatecli.Program{
		Name: "ops", Stdout: out, Stderr: progress,
		Open: func(context.Context) (*rotatecli.Database, error) {
			return &rotatecli.Database{DB: db, Dialect: field.SQLite, Models: []field.AnyModel{customers}}, nil
		},
	}
	for _, step := range []struct {
		ctx  context.Context
		line string
		exit int
	}{
		{ctx, "rotate plan --to 2", rotatecli.ExitDone},
		{interrupted, "rotate run --to 2", rotatecli.ExitPaused}, // ^C
		{ctx, "rotate status", rotatecli.ExitDone},
		{ctx, "versions retire 1", rotatecli.ExitFailures}, // not yet
		{ctx, "rotate run --to 2", rotatecli.ExitDone},     // goes on
		{ctx, "rotate verify", rotatecli.ExitDone},
		{ctx, "rotate clear-journal --grace 0s", rotatecli.ExitDone}, // at once: there are no old backups
		{ctx, "versions retire 1", rotatecli.ExitDone},
	} {
		fmt.Fprintf(out, "\n$ ops %s\n", step.line)
		if code := ops.Run(step.ctx, strings.Fields(step.line)); code != step.exit {
			return fmt.Errorf("%s ended with exit code %d, not %d", step.line, code, step.exit)
		}
	}
	return nil
}

// admit makes the table and fills it as an application does.
func admit(ctx context.Context, db *sql.DB, key kmsencrypted.Provider, rows int) error {
	box, err := kmsencrypted.NewBox(key)
	if err != nil {
		return err
	}
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, createTable); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	insert, err := tx.PrepareContext(ctx, "INSERT INTO customers VALUES (?, ?, ?)")
	if err != nil {
		return err
	}
	page := make([]Customer, 1000)
	for first := 1; first <= rows; first += len(page) {
		page = page[:min(len(page), rows-first+1)]
		for i := range page {
			page[i] = Customer{ID: int64(first + i), Email: field.New(fmt.Sprintf("customer%d@example.org", first+i))}
		}
		if err := customers.SealNew(ctx, field.Pointers(page)...); err != nil {
			return err
		}
		for _, c := range page {
			if _, err := insert.ExecContext(ctx, c.ID, c.Key, c.Email); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

// interrupting is a key whose user presses Ctrl-C after a number of calls.
type interrupting struct {
	kmsencrypted.Provider
	left      int64
	interrupt func()
}

func (p *interrupting) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if atomic.AddInt64(&p.left, -1) == 0 {
		p.interrupt()
	}
	return p.Provider.Encrypt(ctx, plaintext, ec)
}
