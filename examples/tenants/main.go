// Tenants: a key for each tenant. All begin with a branch key each, below one key of the key service;
// acme then moves to a key of its own while the others stand still; its key is
// disabled, which stops acme alone; and globex leaves, and is erased.
//
//	go run ./examples/tenants
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// Invoice is a row of the table invoices.
type Invoice struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant" kms:"context"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Text   field.Of[string] `db:"text_ciphertext"`
}

// invoiceContext names tenant and row. A key service logs it, and the tenant chooses the key.
func invoiceContext(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
	return kmsencrypted.Context{"tenant": s.Record.(*Invoice).Tenant, "invoice": s.ID[0]}, nil
}

var tenants = []string{"acme", "globex", "initech"}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "tenants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	a, err := open(ctx, dir)
	if err != nil {
		return err
	}
	defer a.close()

	fmt.Fprintln(out, "Each tenant has a branch key:")
	if err := a.seed(ctx); err != nil {
		return err
	}
	a.show(ctx, out)

	fmt.Fprintln(out, "\nacme moves to a key of its own:")
	program := rotatecli.Program{Name: "ops", Stdout: io.Discard, Stderr: out, Open: func(context.Context) (*rotatecli.Database, error) {
		return &rotatecli.Database{DB: a.db, Dialect: field.SQLite, Models: []field.AnyModel{a.invoices}}, nil
	}}
	if code := program.Run(ctx, []string{"rotate", "run", "--to", "2", "--tenant", "acme"}); code != 0 {
		return fmt.Errorf("rotate run: exit code %d", code)
	}
	a.show(ctx, out)

	fmt.Fprintln(out, "\nacme's key is disabled:")
	a.acme.Set(kmstest.Fail(kmsencrypted.ErrKeyUnusable, 1))
	a.show(ctx, out)
	a.acme.Set()

	fmt.Fprintln(out, "\nglobex is erased:")
	if _, err := a.branches.Erase(ctx, branch.EraseOptions{Records: []rotation.BranchEraser{a.store}}, branch.Name{Branch: "globex"}); err != nil {
		return err
	}
	a.show(ctx, out)
	return nil
}

// app is the application.
type app struct {
	db, keysDB *sql.DB
	acme       *kmstest.Service // the key service with acme's key
	branches   *branch.Provider
	invoices   *field.Model[Invoice]
	store      *sqlstore.Store[Invoice]
}

func open(ctx context.Context, dir string) (a *app, err error) {
	a = new(app)
	database := func(name string) (*sql.DB, error) {
		return sql.Open("sqlite", "file:"+filepath.Join(dir, name)+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
	}
	if a.db, err = database("invoices.sqlite3"); err != nil {
		return nil, err
	}
	if a.keysDB, err = database("keys.sqlite3"); err != nil {
		return nil, err
	}
	if err := a.openBranches(ctx, dir); err != nil {
		return nil, err
	}
	own, err := local.Create(filepath.Join(dir, "acme.key"))
	if err != nil {
		return nil, err
	}
	a.acme = kmstest.NewService(own)
	ownKeys := map[string]kmsencrypted.Provider{"acme": a.acme.Provider()}
	box, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{
		1: {Provider: a.branches},
		2: {ProviderFor: func(_ kmsencrypted.Subject, ec kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
			tenant, _ := ec.Value("tenant")
			if p, ok := ownKeys[tenant]; ok {
				return p, nil
			}
			return a.branches, nil
		}},
	}}.Box()
	if err != nil {
		return nil, err
	}
	if a.invoices, err = field.NewModel[Invoice](box, field.Config{Table: "invoices", Context: invoiceContext}); err != nil {
		return nil, err
	}
	_, err = a.db.ExecContext(ctx, "CREATE TABLE invoices (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, encrypted_kms_key TEXT, text_ciphertext TEXT)")
	if err == nil {
		err = sqlstore.CreateTables(ctx, a.db, field.SQLite)
	}
	if err == nil {
		a.store, err = sqlstore.New(ctx, a.db, field.SQLite, a.invoices, sqlstore.Options{})
	}
	return a, err
}

// openBranches opens the key store in a database of its own, and its receipts, which no backup of the
// databases contains.
func (a *app) openBranches(ctx context.Context, dir string) error {
	shared, err := local.Create(filepath.Join(dir, "shared.key")) // AWS KMS, Google Cloud KMS or Vault in earnest
	if err != nil {
		return err
	}
	kms, err := kmsencrypted.NewBox(shared)
	if err != nil {
		return err
	}
	// A minute in earnest; an erasure waits for it.
	if err := branch.CreateTables(ctx, a.keysDB, field.SQLite, branch.Limits{MaxAge: 50 * time.Millisecond}); err != nil {
		return err
	}
	store, err := branch.NewSQL(a.keysDB, field.SQLite)
	if err != nil {
		return err
	}
	receipts, err := branch.CreateReceipts(ctx, filepath.Join(dir, "receipts"), store)
	if err != nil {
		return err
	}
	a.branches, err = branch.Open(ctx, store, kms, branch.Options{Of: branch.ByPair("tenant"), Receipts: receipts})
	return err
}

func (a *app) close() {
	a.db.Close()
	a.keysDB.Close()
}

// seed writes two invoices of each tenant at version 1, as the application did before it listed version 2.
func (a *app) seed(ctx context.Context) error {
	box, err := kmsencrypted.NewBox(a.branches)
	if err != nil {
		return err
	}
	before, err := field.NewModel[Invoice](box, field.Config{Table: "invoices", Context: invoiceContext})
	if err != nil {
		return err
	}
	for i := range 6 {
		row := &Invoice{ID: int64(i + 1), Tenant: tenants[i%3], Text: field.New("a secret")}
		if err := before.SealNew(ctx, row); err != nil {
			return err
		}
		_, err := a.db.ExecContext(ctx, "INSERT INTO invoices (id, tenant, encrypted_kms_key, text_ciphertext) VALUES (?, ?, ?, ?)", row.ID, row.Tenant, row.Key, row.Text)
		if err != nil {
			return err
		}
	}
	return nil
}

// show says for each tenant how many invoices open, and at which version they are.
func (a *app) show(ctx context.Context, out io.Writer) {
	for _, tenant := range tenants {
		opened, version, why := 0, 0, error(nil)
		rows, err := a.db.QueryContext(ctx, "SELECT id, tenant, encrypted_kms_key, text_ciphertext FROM invoices WHERE tenant = ? ORDER BY id", tenant)
		if err != nil {
			fmt.Fprintln(out, err)
			return
		}
		for rows.Next() {
			var row Invoice
			if err := rows.Scan(&row.ID, &row.Tenant, &row.Key, &row.Text); err != nil {
				fmt.Fprintln(out, err)
				break
			}
			if stored, err := row.Key.Value(); err == nil {
				version = kmsencrypted.ColumnVersion(fmt.Sprint(stored))
			}
			if err := a.invoices.Open(ctx, &row); err != nil {
				why = err
			} else {
				opened++
			}
		}
		rows.Close()
		fmt.Fprintf(out, "  %-8s %d of 2 open, version %d%s\n", tenant, opened, version, reason(why))
	}
}

// reason is an error in short.
func reason(err error) string {
	for _, known := range []error{kmsencrypted.ErrKeyUnusable, branch.ErrErased} {
		if errors.Is(err, known) {
			return ": " + known.Error()
		}
	}
	if err != nil {
		return ": " + err.Error()
	}
	return ""
}
