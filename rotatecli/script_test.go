package rotatecli_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// customer has two keys; document has a text as its primary key.
type customer struct {
	ID       int64            `db:"id"`
	Key      field.Key        `db:"encrypted_kms_key"`
	PhoneKey field.Key        `db:"encrypted_kms_key_phone" kms:"name=phone"`
	Email    field.Of[string] `db:"email_ciphertext"`
	Phone    field.Of[string] `db:"phone_ciphertext" kms:"key=phone"`
}

type document struct {
	Code   string           `db:"code" kms:"id"`
	Tenant string           `db:"tenant" kms:"context"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Body   field.Of[[]byte] `db:"body_ciphertext" kms:"binary"`
}

const (
	secretEmail = "countess@example.org"
	secretBody  = "the analytical engine has no pretensions"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		// A team's own program, as short as the package says.
		"ops": func() {
			db, customers, documents := application()
			rotatecli.Main(context.Background(), db, customers, documents)
		},
		// The same with a key service that has a bad day.
		"badday": func() {
			db, customers, _ := application()
			rotatecli.Main(context.Background(), db, customers)
		},
		// And one whose documents have files.
		"withfiles": func() {
			db, _, documents := application()
			rotatecli.Main(context.Background(), db,
				rotatecli.With(documents, sqlstore.Options{Dependents: []field.Dependents{manager{}}}))
		},
		"branches":       branchesProgram,
		"seedbranches":   seedBranches,
		"readbranches":   readBranches,
		"chosenbranches": chosenProgram,
		"erasehalf":      eraseHalf,

		"seed":     seed,
		"spoil":    spoil,
		"contacts": contactsProgram,
		"rails":    railsProgram,
		"members":  membersProgram,
	})
}

// application opens what a program has: a database and models. VERSION is the
// current version, BADDAY gives its key a bad day.
func application() (*sql.DB, *field.Model[customer], *field.Model[document]) {
	current, err := strconv.Atoi(os.Getenv("VERSION"))
	check(err)
	box, db := boxIn(".", current), openIn(".")
	customers, err := field.NewModel[customer](box, field.Config{Table: "customers"})
	check(err)
	documents, err := field.NewModel[document](box, field.Config{Table: "documents"})
	check(err)
	return db, customers, documents
}

// boxIn has three versions under keys of their own in a folder. With SPARE set the
// current one wraps under a second key too, which then is the one with bad days.
// With TENANTS set each version chooses its key by the record.
func boxIn(dir string, current int) *kmsencrypted.Box {
	versions := make(map[int]kmsencrypted.Version)
	for n := 1; n <= 3; n++ {
		versions[n] = kmsencrypted.Version{Provider: keyIn(dir, fmt.Sprintf("v%d.key", n))}
	}
	provider := versions[current].Provider
	day := badDays[os.Getenv("BADDAY")]
	switch spare := os.Getenv("SPARE"); {
	case spare != "":
		spare := kmstest.Faulty(keyIn(dir, spare), day...)
		provider = multi.New([]kmsencrypted.Provider{provider, spare}, multi.Options{Quorum: 1, Tags: []string{"first", "spare"}})
	case day != nil:
		provider = kmstest.Faulty(provider, day...)
	}
	versions[current] = kmsencrypted.Version{Provider: provider}
	if os.Getenv("TENANTS") != "" {
		for n, v := range versions {
			versions[n] = kmsencrypted.Version{ProviderFor: func(kmsencrypted.Subject, kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
				return v.Provider, nil
			}}
		}
	}
	box, err := kmsencrypted.Config{Current: current, Versions: versions}.Box()
	check(err)
	return box
}

func keyIn(dir, name string) kmsencrypted.Provider {
	path := filepath.Join(dir, name)
	if os.Getenv("NOKEYS") != "" { // as when Vault is away
		var none *local.Provider
		return rotatecli.OrAbsent("local:"+name, none, fmt.Errorf("open %s: %w", name, kmsencrypted.ErrUnavailable))
	}
	key, err := local.Open(path)
	if err != nil {
		key, err = local.Create(path)
	}
	check(err)
	return key
}

func openIn(dir string) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "app.sqlite3")+"?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	check(err)
	return db
}

// manager is a fake manager of attached files: it prints what it should move.
type manager struct{}

func (manager) KeyColumn() string { return "encrypted_kms_key" }

func (manager) Covers(string) bool { return true }

func (manager) Rotated(_ context.Context, _ *sql.Tx, records []field.Rotated) error {
	fmt.Println("files of", len(records), "records follow")
	return nil
}

// badDays are what BADDAY may name.
var badDays = map[string][]kmstest.Fault{
	"denied":  {kmstest.Revoke(1).On(kmsencrypted.OpWrap)},
	"revoked": {kmstest.Revoke(100).On(kmsencrypted.OpWrap)},
	"absent":  {kmstest.Unavailable(1)},
	"busy":    {kmstest.Throttle(1).On(kmsencrypted.OpWrap)},
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// seed fills both tables with as many records as its argument says, or 120.
func seed() {
	ctx, n := context.Background(), 120
	if len(os.Args) > 1 {
		var err error
		n, err = strconv.Atoi(os.Args[1])
		check(err)
	}
	db, customers, documents := application()
	_, err := db.Exec(`CREATE TABLE kms_attachments (record_table text); INSERT INTO kms_attachments VALUES ('documents');
		CREATE TABLE customers (id integer PRIMARY KEY, encrypted_kms_key text, encrypted_kms_key_phone text, email_ciphertext text, phone_ciphertext text);
		CREATE TABLE documents (code text PRIMARY KEY, tenant text, encrypted_kms_key text, body_ciphertext blob)`)
	check(err)
	c, d := make([]customer, n), make([]document, n)
	for i := range n {
		c[i] = customer{ID: int64(i + 1), Email: field.New(secretEmail), Phone: field.New("+44 20")}
		d[i] = document{Code: fmt.Sprintf("D-%d", i), Tenant: []string{"acme", "other"}[i%2], Body: field.New([]byte(secretBody))}
	}
	check(customers.Seal(ctx, field.Pointers(c)...))
	check(documents.Seal(ctx, field.Pointers(d)...))
	tx, err := db.Begin()
	check(err)
	for i := range n {
		_, err := tx.Exec("INSERT INTO customers VALUES (?, ?, ?, ?, ?)", c[i].ID, c[i].Key, c[i].PhoneKey, c[i].Email, c[i].Phone)
		check(err)
		_, err = tx.Exec("INSERT INTO documents VALUES (?, ?, ?, ?)", d[i].Code, d[i].Tenant, d[i].Key, d[i].Body)
		check(err)
	}
	check(tx.Commit())
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup:               func(e *testscript.Env) error { e.Setenv("VERSION", "1"); return nil },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"lists": lists,
			"finds": finds,
		},
	})
}

// exits CODE COMMAND… runs a command that must end with this code, and whose
// output must hold no plaintext and no key.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var atoi error
		if code, atoi = strconv.Atoi(strings.TrimPrefix(err.Error(), "exit status ")); atoi != nil {
			ts.Fatalf("%v", err)
		}
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
	output := ts.ReadFile("stdout") + ts.ReadFile("stderr")
	forbidden := []string{secretEmail, secretBody}
	keys, err := filepath.Glob(filepath.Join(ts.Getenv("WORK"), "*.key"))
	ts.Check(err)
	for _, key := range keys {
		_, digits, _ := strings.Cut(strings.TrimSpace(ts.ReadFile(key)), " ")
		forbidden = append(forbidden, digits)
	}
	for _, secret := range forbidden {
		if strings.Contains(output, secret) {
			ts.Fatalf("the output holds a secret of %d bytes", len(secret))
		}
	}
}
