package rotatecli_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// client's ids come from a sequence, and the encryption context has its tenant.
type client struct {
	ID     int64            `db:"id"`
	Tenant string           `db:"tenant" kms:"context"`
	Name   string           `db:"name"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Email  field.Of[string] `db:"email_ciphertext"`
}

// memo's ids are texts that the program chooses.
type memo struct {
	Code string           `db:"code" kms:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Body field.Of[string] `db:"body_ciphertext"`
}

// A policyWorld is a database with a user who has some lines of a policy.
type policyWorld struct {
	dialect  field.Dialect
	admin    *sqlx.DB
	role, db *sqlx.DB // db is role or admin, whichever acts
}

// models returns those of a version; a writer may only encrypt.
func (w *policyWorld) models(version int, encryptOnly bool) (*field.Model[client], *field.Model[memo]) {
	versions := make(map[int]kmsencrypted.Version)
	for n := range version {
		versions[n+1] = kmsencrypted.Version{Provider: testkey.New(), EncryptOnly: encryptOnly, Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			if c, ok := s.Record.(*client); ok {
				return kmsencrypted.Context{"model_name": s.Model, "model_id": s.ID[0], "tenant": c.Tenant}, nil
			}
			return kmsencrypted.ModelContext{Name: s.Model, ID: s.ID[0]}, nil
		}}
		if encryptOnly {
			v := versions[n+1]
			v.Provider = testkey.EncryptOnly()
			versions[n+1] = v
		}
	}
	box, err := kmsencrypted.Config{Current: version, Versions: versions}.Box()
	if err != nil {
		panic(err)
	}
	clients, err := field.NewModel[client](box, field.Config{Table: "clients", Complete: encryptOnly})
	if err != nil {
		panic(err)
	}
	memos, err := field.NewModel[memo](box, field.Config{Table: "memos", Complete: encryptOnly})
	if err != nil {
		panic(err)
	}
	return clients, memos
}

// run runs a command as whoever acts.
func (w *policyWorld) run(ctx context.Context, version int, words ...string) (string, error) {
	var out bytes.Buffer
	clients, memos := w.models(version, false)
	p := rotatecli.Program{Name: "ops", Stdout: &out, Stderr: &out, Open: func(context.Context) (*rotatecli.Database, error) {
		return &rotatecli.Database{DB: w.db.DB, Dialect: w.dialect, Models: []field.AnyModel{clients, memos}, Ledger: w.ledger()}, nil
	}}
	if code := p.Run(ctx, words); code != 0 {
		return out.String(), fmt.Errorf("%s: exit code %d: %s", strings.Join(words, " "), code, &out)
	}
	return out.String(), nil
}

// reset leaves three clients and two memos of version 1 and nothing of rotations.
func (w *policyWorld) reset(ctx context.Context) error {
	for _, table := range []string{"clients", "memos", "kms_rotation_journal", "kms_rotation_failures", "kms_rotation_shards", "kms_rotations", "kms_rate_limits", "kms_audits"} {
		if _, err := w.admin.ExecContext(ctx, "DELETE FROM "+table); err != nil {
			return err
		}
	}
	clients, memos := w.models(1, false)
	for i := range int64(3) {
		if err := kmssqlx.Insert(ctx, w.admin, clients, &client{ID: 1000 + i, Tenant: "acme", Name: "Ada", Email: field.New(secretEmail)}); err != nil {
			return err
		}
	}
	return kmssqlx.Insert(ctx, w.admin, memos, &memo{Code: "a", Body: field.New(secretBody)}, &memo{Code: "b", Body: field.New(secretBody)})
}

// as lets somebody act.
func (w *policyWorld) as(db *sqlx.DB) *policyWorld {
	other := *w
	other.db = db
	return &other
}

// capability is something that a role must be able to do. What it needs of others is
// done by the administrator.
type capability struct {
	name    string
	prepare func(ctx context.Context, w *policyWorld) error // nil: goes on where the one before ended
	do      func(ctx context.Context, w *policyWorld) error
}

func fresh(ctx context.Context, w *policyWorld) error { return w.reset(ctx) }

// commands prepares by commands of the administrator.
func commands(first func(context.Context, *policyWorld) error, lines ...string) func(context.Context, *policyWorld) error {
	return func(ctx context.Context, w *policyWorld) error {
		if first != nil {
			if err := first(ctx, w); err != nil {
				return err
			}
		}
		for _, line := range lines {
			if _, err := w.as(w.admin).run(ctx, 2, strings.Fields(line)...); err != nil {
				return err
			}
		}
		return nil
	}
}

func appCapabilities() []capability {
	stored := func(ctx context.Context, w *policyWorld) (*field.Model[client], *client, error) {
		m, _ := w.models(1, false)
		var c client
		err := kmssqlx.Get(ctx, w.admin, m, &c, "SELECT * FROM clients WHERE id = 1001")
		return m, &c, err
	}
	return []capability{
		{"read clients", fresh, readClient}, {"read memos", fresh, readMemo},
		{"insert clients", fresh, func(ctx context.Context, w *policyWorld) error {
			m, _ := w.models(1, false)
			return kmssqlx.Insert(ctx, w.db, m, &client{Tenant: "acme", Email: field.New(secretEmail)})
		}},
		{"insert memos", fresh, func(ctx context.Context, w *policyWorld) error {
			_, m := w.models(1, false)
			return kmssqlx.Insert(ctx, w.db, m, &memo{Code: "c", Body: field.New(secretBody)})
		}},
		{"change clients", fresh, func(ctx context.Context, w *policyWorld) error {
			m, c, err := stored(ctx, w)
			if err != nil {
				return err
			}
			c.Email.Set("other")
			c.Tenant, c.Name = "globex", "Grace"
			return kmssqlx.Update(ctx, w.db, m, c, "tenant", "name")
		}},
		{"change memos", fresh, func(ctx context.Context, w *policyWorld) error {
			_, m := w.models(1, false)
			var c memo
			if err := kmssqlx.Get(ctx, w.admin, m, &c, "SELECT * FROM memos WHERE code = 'a'"); err != nil {
				return err
			}
			c.Body.Set("other")
			return kmssqlx.Update(ctx, w.db, m, &c)
		}},
		{"delete clients", fresh, func(ctx context.Context, w *policyWorld) error {
			m, c, err := stored(ctx, w)
			if err != nil {
				return err
			}
			return kmssqlx.Delete(ctx, w.db, m, c)
		}},
		{"delete memos", fresh, func(ctx context.Context, w *policyWorld) error {
			_, m := w.models(1, false)
			return kmssqlx.Delete(ctx, w.db, m, &memo{Code: "a"})
		}},
		{"Store.Forget", fresh, func(ctx context.Context, w *policyWorld) error {
			if _, err := w.as(w.admin).run(ctx, 2, "rotate", "run"); err != nil {
				return err
			}
			m, _ := w.models(2, false)
			store, err := sqlstore.New(ctx, w.db.DB, w.dialect, m, sqlstore.Options{})
			if err != nil {
				return err
			}
			if err := store.Forget(ctx, w.db, &client{ID: 1001}); err != nil {
				return err
			}
			return w.counts(ctx, "SELECT count(*) FROM kms_rotation_journal WHERE table_name = 'clients'", 2)
		}},
		{"audit.Log", fresh, logAudit}, {"audit.Open", fresh, openAudited},
	}
}

func (w *policyWorld) counts(ctx context.Context, query string, want int) error {
	var got int
	if err := w.admin.GetContext(ctx, &got, query); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s = %d, want %d", query, got, want)
	}
	return nil
}

func logAudit(ctx context.Context, w *policyWorld) error {
	return audit.Log(ctx, w.db, w.dialect, audit.Entry{Viewer: "eve", Table: "clients", ID: "1001", Fields: []string{"Email"}})
}

// openAudited opens a record that the administrator read.
func openAudited(ctx context.Context, w *policyWorld) error {
	_, m := w.models(1, false)
	var c memo
	if err := w.admin.GetContext(ctx, &c, "SELECT * FROM memos WHERE code = 'a'"); err != nil {
		return err
	}
	_, err := audit.Open(ctx, w.ledger(), m, &c, audit.Entry{Viewer: "eve", Fields: []string{"Body"}, Reason: "T-1"})
	return err
}

func (w *policyWorld) ledger() *audit.Ledger {
	l, err := audit.NewLedger(w.db.DB, w.dialect, bytes.Repeat([]byte{1}, audit.KeySize), audit.Limit{})
	if err != nil {
		panic(err)
	}
	return l
}

func readClient(ctx context.Context, w *policyWorld) error {
	m, _ := w.models(1, false)
	var c client
	if err := kmssqlx.Get(ctx, w.db, m, &c, "SELECT * FROM clients WHERE id = 1001"); err != nil {
		return err
	}
	if c.Email.Must() != secretEmail {
		return errors.New("another value")
	}
	return nil
}

func readMemo(ctx context.Context, w *policyWorld) error {
	_, m := w.models(1, false)
	var c memo
	if err := kmssqlx.Get(ctx, w.db, m, &c, "SELECT * FROM memos WHERE code = 'a'"); err != nil {
		return err
	}
	if c.Body.Must() != secretBody {
		return errors.New("another value")
	}
	return nil
}

func readerCapabilities() []capability {
	return []capability{{"read clients", fresh, readClient}, {"read memos", fresh, readMemo}, {"audit.Log", fresh, logAudit}, {"audit.Open", fresh, openAudited}}
}

// A server that only encrypts inserts records, and replaces whole ones.
func writerCapabilities() []capability {
	return []capability{
		{"insert clients", fresh, func(ctx context.Context, w *policyWorld) error {
			m, _ := w.models(1, true)
			return kmssqlx.Insert(ctx, w.db, m, &client{Tenant: "acme", Email: field.New(secretEmail)})
		}},
		{"insert memos", fresh, func(ctx context.Context, w *policyWorld) error {
			_, m := w.models(1, true)
			return kmssqlx.Insert(ctx, w.db, m, &memo{Code: "c", Body: field.New(secretBody)})
		}},
		{"change clients", fresh, func(ctx context.Context, w *policyWorld) error {
			m, _ := w.models(1, true)
			var c client
			if err := w.db.GetContext(ctx, &c, "SELECT id, tenant, encrypted_kms_key FROM clients WHERE id = 1001"); err != nil {
				return err
			}
			c.Email.Set("other")
			return kmssqlx.Update(ctx, w.db, m, &c)
		}},
		{"change memos", fresh, func(ctx context.Context, w *policyWorld) error {
			_, m := w.models(1, true)
			var c memo
			if err := w.db.GetContext(ctx, &c, "SELECT code, encrypted_kms_key FROM memos WHERE code = 'a'"); err != nil {
				return err
			}
			c.Body.Set("other")
			return kmssqlx.Update(ctx, w.db, m, &c)
		}},
	}
}

// Those of ops follow one another, so that few rotations are enough.
func opsCapabilities() []capability {
	command := func(version int, words ...string) func(context.Context, *policyWorld) error {
		return func(ctx context.Context, w *policyWorld) error {
			_, err := w.run(ctx, version, words...)
			return err
		}
	}
	rewrap := func(table string) func(context.Context, *policyWorld) error {
		return command(2, "rotate", "run", "--table", table)
	}
	rekey := func(table string) func(context.Context, *policyWorld) error {
		return command(2, "rotate", "run", "--kind", "rekey", "--writers-are-ours", "--table", table)
	}
	return []capability{
		{"rotate plan", fresh, command(2, "rotate", "plan")},
		{"check", nil, command(2, "check")},
		{"inspect clients", nil, command(1, "inspect", "--table", "clients", "--id", "1001")},
		{"inspect memos", nil, command(1, "inspect", "--table", "memos", "--id", "a")},
		{"open clients", nil, command(1, "open", "--table", "clients", "--id", "1001", "--column", "email_ciphertext", "--reason", "T-1")},
		{"open memos", nil, command(1, "open", "--table", "memos", "--id", "a", "--column", "body_ciphertext", "--reason", "T-1")},
		{"audit verify", nil, command(1, "audit", "verify")},
		{"--kms-rate", nil, limitRate},
		{"--max-connections", nil, seeConnections},
		{"--max-lag", nil, seeLag},
		{"rewrap clients", nil, rewrap("clients")},
		{"rewrap memos", nil, rewrap("memos")},
		{"rekey clients", nil, rekey("clients")},
		{"rekey memos", nil, rekey("memos")},
		{"rotate pause", commands(fresh, "rotate run --limit 1 --batch 1 --table clients"), func(ctx context.Context, w *policyWorld) error {
			if _, err := w.run(ctx, 2, "rotate", "pause"); err != nil {
				return err
			}
			return w.counts(ctx, "SELECT count(*) FROM kms_rotations WHERE state = 'paused'", 1)
		}},
		{"rotate status", commands(fresh, "rotate run"), command(2, "rotate", "status", "--failures")},
		{"rotate history", nil, command(2, "rotate", "history")},
		{"rotate heal", nil, command(2, "rotate", "heal")},
		{"rotate verify", nil, command(2, "rotate", "verify")},
		{"rotate clear-journal", commands(nil, "rotate verify"), func(ctx context.Context, w *policyWorld) error {
			if _, err := w.run(ctx, 2, "rotate", "clear-journal", "--grace", "0s"); err != nil {
				return err
			}
			return w.counts(ctx, "SELECT count(*) FROM kms_rotation_journal", 0)
		}},
		{"versions retire", commands(nil, "rotate clear-journal --grace 0s"), command(2, "versions", "retire", "1")},
	}
}

func limitRate(ctx context.Context, w *policyWorld) error {
	l, err := sqlstore.NewLimiter(ctx, w.db.DB, w.dialect, "key", 1000)
	if err != nil {
		return err
	}
	if err := l.SetRate(ctx, 2000); err != nil {
		return err
	}
	return l.Wait(ctx, 1)
}

func seeConnections(ctx context.Context, w *policyWorld) error {
	check, err := sqlstore.ConnectionsCheck(w.db.DB, w.dialect, 1)
	if err != nil {
		return err
	}
	if reason, err := check(ctx); err != nil || reason == "" {
		return fmt.Errorf("sees only its own connections: %w", err)
	}
	return nil
}

func seeLag(ctx context.Context, w *policyWorld) error {
	check, err := sqlstore.LagCheck(w.db.DB, w.dialect, time.Minute)
	if err != nil {
		return err
	}
	if _, err = check(ctx); err != nil && strings.Contains(err.Error(), "is no replica") {
		err = nil // so it may ask
	}
	return err
}

// wholes are capabilities that consist of others.
var wholes = map[string][]string{
	"every command":            {"check", "inspect clients", "inspect memos", "open clients", "open memos", "rotate plan", "rewrap clients", "rewrap memos", "rekey clients", "rekey memos", "rotate pause", "rotate status", "rotate history", "rotate heal", "rotate verify", "rotate clear-journal", "versions retire"},
	"open":                     {"open clients", "open memos"},
	"rotate run":               {"rewrap clients", "rewrap memos", "rekey clients", "rekey memos"},
	"every command on clients": {"check", "inspect clients", "open clients", "rotate plan", "rewrap clients", "rekey clients", "rotate status", "rotate heal", "rotate verify", "versions retire"},
	"every command on memos":   {"check", "inspect memos", "open memos", "rotate plan", "rewrap memos", "rekey memos", "rotate status", "rotate heal", "rotate verify", "versions retire"},
}

func TestPolicyPostgres(t *testing.T) {
	dsn, _, _ := dbserver.PostgresReplica(t)
	testPolicies(t, policyServer{
		dialect: field.Postgres, driver: "pgx", admin: dsn, create: "CREATE ROLE %s LOGIN PASSWORD '%s'", serial: "bigserial", sleep: "SELECT pg_sleep(600)",
		drop: []string{"DROP OWNED BY %s", "DROP ROLE %s"},
		as: func(user, password string) string {
			u, err := url.Parse(dsn)
			if err != nil {
				t.Fatal(err)
			}
			u.User = url.UserPassword(user, password)
			return u.String() + "&default_query_exec_mode=exec"
		},
	})
}

func TestPolicyMariaDB(t *testing.T) {
	dsn := dbserver.MariaDB(t)
	testPolicies(t, policyServer{
		dialect: field.MySQL, driver: "mysql", admin: dsn, create: "CREATE USER %s IDENTIFIED BY '%s'", drop: []string{"DROP USER %s"}, serial: "bigint AUTO_INCREMENT", sleep: "SELECT sleep(600)",
		as: func(user, password string) string { return user + ":" + password + dsn[strings.LastIndex(dsn, "@"):] },
	})
}

type policyServer struct {
	dialect       field.Dialect
	driver, admin string
	create        string // a user
	drop          []string
	serial, sleep string
	as            func(user, password string) (dsn string)
}

// testPolicies takes each line of each policy away in turn. What no longer works is what
// the line names, and nothing else.
func testPolicies(t *testing.T, s policyServer) {
	w := &policyWorld{dialect: s.dialect, admin: sqlx.MustConnect(s.driver, s.admin)}
	t.Cleanup(func() { w.admin.Close() })
	w.admin.MustExec("CREATE TABLE clients (id " + s.serial + " PRIMARY KEY, tenant varchar(40), name varchar(40), encrypted_kms_key text, email_ciphertext text)")
	w.admin.MustExec("CREATE TABLE memos (code varchar(40) PRIMARY KEY, encrypted_kms_key text, body_ciphertext text)")
	for _, create := range []func() error{
		func() error { return sqlstore.CreateTables(t.Context(), w.admin.DB, s.dialect) },
		func() error { return audit.CreateTables(t.Context(), w.admin.DB, s.dialect) },
	} {
		if err := create(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // somebody is busy
		conn, err := w.admin.Connx(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go conn.ExecContext(t.Context(), s.sleep)
	}
	for role, capabilities := range map[string][]capability{
		"app": appCapabilities(), "writer": writerCapabilities(), "reader": readerCapabilities(), "ops": opsCapabilities(),
	} {
		t.Run(role, func(t *testing.T) { s.testRole(t, w, role, capabilities) })
	}
}

// runRight are the rights that a run asks for.
var runRight = regexp.MustCompile("^GRANT (INSERT|UPDATE|DELETE)(?: \\(.+\\))? ON [\"`](kms_rotation\\w+|clients|memos)[\"`]")

var policyLine = regexp.MustCompile(`^(GRANT .+;) -- (.+)$`)

func (s policyServer) testRole(t *testing.T, w *policyWorld, role string, capabilities []capability) {
	user, password := role+"_"+strings.ToLower(rand.Text()[:10]), rand.Text()
	w.admin.MustExec(fmt.Sprintf(s.create, user, password))
	t.Cleanup(func() {
		for _, drop := range s.drop {
			w.admin.MustExec(fmt.Sprintf(drop, user))
		}
	})
	said, err := w.as(w.admin).run(t.Context(), 2, "policy", string(s.dialect), "--role", role, "--to", user)
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]string
	for line := range strings.Lines(said) {
		if found := policyLine.FindStringSubmatch(strings.TrimSpace(line)); found != nil {
			lines = append(lines, found[1:])
			w.admin.MustExec(strings.TrimSuffix(found[1], ";"))
		} else if !strings.HasPrefix(line, "-- ") {
			t.Errorf("no line of a policy: %s", line)
		}
	}
	w.role = sqlx.MustConnect(s.driver, s.as(user, password))
	defer func() { w.role.Close() }()
	lost := func() (names []string, said string) {
		for _, c := range capabilities {
			if c.prepare != nil {
				if err := c.prepare(t.Context(), w.as(w.admin)); err != nil {
					t.Fatalf("%s: prepare: %v", c.name, err)
				}
			}
			if err := c.do(t.Context(), w.as(w.role)); err != nil {
				names, said = append(names, c.name), said+err.Error()+"\n"
			}
		}
		return names, said
	}
	if names, said := lost(); names != nil {
		t.Fatalf("with all lines: %q do not work:\n%s", names, said)
	}
	for _, line := range lines {
		w.admin.MustExec(strings.NewReplacer("GRANT ", "REVOKE ", " TO ", " FROM ").Replace(strings.TrimSuffix(line[0], ";")))
		// Rights on the server count from the next connection.
		w.role.Close()
		w.role = sqlx.MustConnect(s.driver, s.as(user, password))
		got, said := lost()
		var want []string
		for _, name := range strings.Split(line[1], ", ") {
			if parts := wholes[name]; parts != nil {
				want = append(want, parts...)
			} else {
				want = append(want, name)
			}
		}
		// A run says what it lacks before it moves anything. Without SELECT the table is hidden.
		if right := runRight.FindStringSubmatch(line[0]); role == "ops" && right != nil && !strings.Contains(said, right[1]+" on "+right[2]) {
			t.Errorf("without %s: no %s on %s in\n%s", line[0], right[1], right[2], said)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("without %s\nlost %q\nwant %q\n%s", line[0], got, want, said)
		}
		w.admin.MustExec(strings.TrimSuffix(line[0], ";"))
	}
	t.Logf("%d lines, %d capabilities", len(lines), len(capabilities))
}
