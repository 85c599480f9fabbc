package vault_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// What programs do with records and a real server.

type customer struct {
	ID    int64            `db:"id" kms:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext" kms:"lockbox"`
	Phone field.Of[string] `db:"phone_ciphertext" kms:"lockbox"`
}

func customers(t *testing.T, current int, versions map[int]kmsencrypted.Version) *field.Model[customer] {
	t.Helper()
	box, err := kmsencrypted.Config{Current: current, Versions: versions}.Box()
	must(t, err)
	m, err := field.NewModel[customer](box, field.Config{Table: "customers", Complete: true})
	must(t, err)
	return m
}

func database(t *testing.T) *sqlx.DB {
	t.Helper()
	db, err := sqlx.Open("sqlite", ":memory:")
	must(t, err)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	_, err = db.ExecContext(t.Context(), `CREATE TABLE customers (id INTEGER PRIMARY KEY, encrypted_kms_key TEXT, email_ciphertext TEXT, phone_ciphertext TEXT)`)
	must(t, err)
	return db
}

// requests counts the requests to a server.
type requests struct {
	http.RoundTripper
	mu    sync.Mutex
	paths []string // "decrypt/k"
}

func (r *requests) RoundTrip(request *http.Request) (*http.Response, error) {
	parts := strings.Split(request.URL.Path, "/")
	r.mu.Lock()
	r.paths = append(r.paths, strings.Join(parts[len(parts)-2:], "/"))
	r.mu.Unlock()
	return r.RoundTripper.RoundTrip(request)
}

func (r *requests) taken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.paths = nil }()
	return r.paths
}

// counted is a provider whose requests are counted.
func (e *engine) counted(t *testing.T, name string) (*vault.Provider, *requests) {
	t.Helper()
	config := api.DefaultConfig()
	config.Address, config.MaxRetries = e.server.Addr, 0
	r := &requests{RoundTripper: config.HttpClient.Transport}
	config.HttpClient.Transport = r
	client, err := api.NewClient(config)
	must(t, err)
	client.SetToken(e.token)
	p, err := vault.New(client, "vault/"+name, vault.Options{Mount: e.mount})
	must(t, err)
	return p, r
}

func formats(t *testing.T, run func(*testing.T, kmsencrypted.Format)) {
	for _, format := range []kmsencrypted.Format{kmsencrypted.Native, kmsencrypted.Ruby} {
		t.Run(format.String(), func(t *testing.T) { run(t, format) })
	}
}

// page inserts records 1 to n and reads them back, closed.
func page(t *testing.T, db *sqlx.DB, m *field.Model[customer], n int) []customer {
	t.Helper()
	rows := make([]*customer, n)
	for i := range rows {
		rows[i] = &customer{Email: field.New(fmt.Sprintf("%d@example.org", i+1)), Phone: field.New("555")}
	}
	must(t, kmssqlx.Insert(t.Context(), db, m, rows...))
	return read(t, db)
}

func read(t *testing.T, db *sqlx.DB) (rows []customer) {
	t.Helper()
	must(t, db.SelectContext(t.Context(), &rows, `SELECT * FROM customers ORDER BY id`))
	return rows
}

// testPageWithBadRecords: 100 records of which three do not open.
func testPageWithBadRecords(t *testing.T, e *engine) {
	e.newKey(t, "k", true)
	p, sent := e.counted(t, "k")
	formats(t, func(t *testing.T, format kmsencrypted.Format) {
		m := customers(t, 1, map[int]kmsencrypted.Version{1: {Provider: p, Format: format}})
		db := database(t)
		rows := page(t, db, m, 100)
		if got := sent.taken(); !slices.Equal(got, []string{"encrypt/k"}) {
			t.Errorf("inserting 100 records takes the requests %v, want one", got)
		}
		// A key of another record, a damaged one, and a record that got another id.
		bad := map[int]func(*customer){
			13: func(c *customer) { must(t, c.Key.Scan(value(t, rows[14].Key))) },
			50: func(c *customer) {
				text := value(t, c.Key)
				middle := len(text) * 3 / 4
				flipped := "A"
				if text[middle] == 'A' {
					flipped = "B"
				}
				must(t, c.Key.Scan(text[:middle]+flipped+text[middle+1:]))
			},
			99: func(c *customer) { c.ID = 1000 },
		}
		for i, spoil := range bad {
			spoil(&rows[i])
		}
		err := m.Open(t.Context(), field.Pointers(rows)...)
		if got := sent.taken(); !slices.Equal(got, []string{"decrypt/k"}) {
			t.Errorf("opening 100 records takes the requests %v, want one", got)
		}
		failed, ok := errors.AsType[field.Failures](err)
		if !ok || len(failed) != len(bad) {
			t.Fatalf("Open: %v, want three failures", err)
		}
		for _, f := range failed {
			if bad[f.Index] == nil || !errors.Is(f.Err, kmsencrypted.ErrDecrypt) {
				t.Errorf("record %d: %v", f.Index, f.Err)
			}
			located, ok := errors.AsType[*kmsencrypted.Error](f.Err)
			if want := fmt.Sprintf("customers id=%d", rows[f.Index].ID); !ok || located.Record != want || located.Column != "encrypted_kms_key" {
				t.Errorf("record %d: %+v, want it to name %s", f.Index, f.Err, want)
			}
		}
		opened := 0
		for i := range rows {
			email, err := rows[i].Email.Get()
			switch {
			case bad[i] != nil:
				if err == nil {
					t.Errorf("record %d has an email: %q", i, email)
				}
			case err != nil || email != fmt.Sprintf("%d@example.org", i+1):
				t.Errorf("email of record %d = %q, %v", i, email, err)
			default:
				opened++
			}
		}
		if opened != 97 {
			t.Errorf("%d records opened, want 97", opened)
		}
	})
}

func value(t *testing.T, k field.Key) string {
	t.Helper()
	v, err := k.Value()
	must(t, err)
	return v.(string)
}

// testRewrapPage: a page of records goes to the newest version of the key in one
// request, and no data key leaves the server.
func testRewrapPage(t *testing.T, e *engine) {
	e.newKey(t, "k", true)
	p, sent := e.counted(t, "k")
	formats(t, func(t *testing.T, format kmsencrypted.Format) {
		versions := map[int]kmsencrypted.Version{1: {Provider: p, Format: format}, 2: {Provider: p, Format: format}}
		db := database(t)
		rows := page(t, db, customers(t, 1, versions), 100)
		e.write(t, "keys/k/rotate", nil)
		sent.taken()
		m := customers(t, 2, versions)
		must(t, m.Rewrap(t.Context(), field.Pointers(rows)...))
		if got := sent.taken(); !slices.Equal(got, []string{"rewrap/k"}) {
			t.Errorf("rewrapping 100 records takes the requests %v, want one", got)
		}
		must(t, m.Open(t.Context(), field.Pointers(rows)...))
		for i := range rows {
			version, _ := rows[i].Key.Version()
			if email, err := rows[i].Email.Get(); err != nil || email != fmt.Sprintf("%d@example.org", i+1) || version != 2 {
				t.Errorf("email of record %d at version %d = %q, %v", i, version, email, err)
			}
		}
	})
}

// testLeastPrivilege: a program that only writes, and one that only reads.
func testLeastPrivilege(t *testing.T, e *engine) {
	e.newKey(t, "k", true)
	formats(t, func(t *testing.T, format kmsencrypted.Format) {
		program := func(rules map[string]string) *field.Model[customer] {
			decrypts := rules["decrypt/k"] != ""
			return customers(t, 1, map[int]kmsencrypted.Version{1: {Provider: e.limited(t, rules), Format: format, EncryptOnly: !decrypts}})
		}
		writer := program(map[string]string{"encrypt/k": `["update"]`})
		reader := program(map[string]string{"decrypt/k": `["update"]`})
		db := database(t)
		ctx := t.Context()

		row := &customer{Email: field.New("ada@example.org"), Phone: field.New("555")}
		must(t, kmssqlx.Insert(ctx, db, writer, row))
		var seen customer
		must(t, kmssqlx.Get(ctx, db, reader, &seen, `SELECT * FROM customers WHERE id = ?`, row.ID))
		wants(t, seen, "ada@example.org", "555")

		// Replacing every field needs no decryption.
		stored := read(t, db)[0]
		stored.Email.Set("countess@example.org")
		stored.Phone.Set("777")
		must(t, kmssqlx.Update(ctx, db, writer, &stored))
		must(t, kmssqlx.Get(ctx, db, reader, &seen, `SELECT * FROM customers WHERE id = ?`, row.ID))
		wants(t, seen, "countess@example.org", "777")

		// A part of it does, and so does reading; the row stays as it is.
		stored = read(t, db)[0]
		stored.Email.Set("nobody@example.org")
		err := kmssqlx.Update(ctx, db, writer, &stored)
		fails(t, err, kmsencrypted.ErrNeedsDecrypt)
		fails(t, err, kmsencrypted.ErrDenied)
		fails(t, kmssqlx.Get(ctx, db, writer, &seen, `SELECT * FROM customers WHERE id = ?`, row.ID), kmsencrypted.ErrDenied)

		// Who reads makes no record, but changes one: its data key stays.
		fails(t, kmssqlx.Insert(ctx, db, reader, &customer{Email: field.New("eve@example.org"), Phone: field.New("1")}), kmsencrypted.ErrDenied)
		stored = read(t, db)[0]
		stored.Email.Set("lovelace@example.org")
		must(t, kmssqlx.Update(ctx, db, reader, &stored))
		must(t, kmssqlx.Get(ctx, db, reader, &seen, `SELECT * FROM customers WHERE id = ?`, row.ID))
		wants(t, seen, "lovelace@example.org", "777")
		if n := len(read(t, db)); n != 1 {
			t.Errorf("%d rows, want 1: a refused insert left one behind", n)
		}
	})
}

func wants(t *testing.T, c customer, email, phone string) {
	t.Helper()
	gotEmail, err := c.Email.Get()
	must(t, err)
	gotPhone, err := c.Phone.Get()
	must(t, err)
	if gotEmail != email || gotPhone != phone {
		t.Errorf("record = %q, %q, want %q, %q", gotEmail, gotPhone, email, phone)
	}
}

// limited is a provider with a token that may do what the rules say.
func (e *engine) limited(t *testing.T, rules map[string]string) *vault.Provider {
	t.Helper()
	policy := fmt.Sprintf("%s-%d", e.mount, engines.Add(1))
	var text strings.Builder
	for path, list := range rules {
		fmt.Fprintf(&text, "path %q { capabilities = %s }\n", e.mount+"/"+path, list)
	}
	must(t, e.root.Sys().PutPolicyWithContext(t.Context(), policy, text.String()))
	created, err := e.root.Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{Policies: []string{policy}, TTL: "10m"})
	must(t, err)
	p, err := vault.New(e.server.Client(t, created.Auth.ClientToken), "vault/k", vault.Options{Mount: e.mount})
	must(t, err)
	return p
}
