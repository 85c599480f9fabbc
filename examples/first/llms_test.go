package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// mistake breaks a rule.
type mistake struct {
	want error
	make func() error
}

// Each rule of llms.txt names the error of breaking it. This test breaks each
// rule, and looks for the text of the error that came in the rule.
func TestRulesForAssistants(t *testing.T) {
	ctx := t.Context()
	file, err := os.ReadFile("../../llms.txt")
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(file, []byte("\n")); lines > 200 {
		t.Errorf("llms.txt has %d lines, want at most 200", lines)
	}
	folder := t.TempDir()
	keyFile := filepath.Join(folder, "keys.txt")
	key, err := local.Create(keyFile)
	check(err)
	db := sqlx.MustConnect("sqlite", filepath.Join(folder, "app.sqlite3"))
	defer db.Close()
	db.MustExec(`CREATE TABLE customers (id INTEGER PRIMARY KEY, encrypted_kms_key TEXT, email_ciphertext TEXT)`)
	box, err := kmsencrypted.NewBox(key)
	check(err)
	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
	check(err)
	ada, grace := Customer{Email: field.New("ada@example.org")}, Customer{Email: field.New("grace@example.org")}
	check(kmssqlx.Insert(ctx, db, customers, &ada, &grace))
	load := func(id int64) (c Customer) {
		check(db.Get(&c, `SELECT * FROM customers WHERE id = ?`, id))
		return c
	}

	mistakes := map[string]mistake{
		"R1": {kmsencrypted.ErrUnsealed, func() error {
			_, err := field.New("ada@example.org").Value()
			return err
		}},
		"R2": {kmsencrypted.ErrNotOpened, func() error {
			c := load(1)
			_, err := c.Email.Get()
			return err
		}},
		"R3": {kmsencrypted.ErrNotLoaded, func() error {
			var c Customer
			_, err := c.Email.Get()
			return err
		}},
		"R4": {kmsencrypted.ErrNoID, func() error {
			return customers.Seal(ctx, &Customer{Email: field.New("x")})
		}},
		"R5": {kmsencrypted.ErrOtherDataKey, func() error {
			c := load(2)
			c.Email = load(1).Email
			return customers.Open(ctx, &c)
		}},
		"R6": {kmsencrypted.ErrDecrypt, func() error {
			c := load(1)
			c.ID = 9
			return customers.Open(ctx, &c)
		}},
		"R7": {kmsencrypted.ErrNotCiphertext, func() error {
			c := load(1)
			check(c.Email.Scan("mallory@example.org"))
			return customers.Open(ctx, &c)
		}},
		"R8": {kmsencrypted.ErrConflict, func() error {
			// Two programs read a row; one gives it another data key first.
			mine, theirs := load(1), load(1)
			check(customers.Open(ctx, &mine))
			check(kmssqlx.Rekey(ctx, db, customers, &theirs))
			mine.Email.Set("new@example.org")
			return kmssqlx.Update(ctx, db, customers, &mine)
		}},
		"R9": {kmsencrypted.ErrConfig, func() error {
			type Bad struct {
				ID    int64            `db:"id"`
				Key   field.Key        `db:"encrypted_kms_key"`
				Email field.Of[string] `db:"email_ciphertext" kms:"tpye=date"`
			}
			_, err := field.NewModel[Bad](box, field.Config{Table: "customers"})
			return err
		}},
		"R10": {kmsencrypted.ErrConfig, func() error {
			type Bad struct {
				ID    int64            `db:"id"`
				Key   field.Key        `db:"encrypted_kms_key"`
				Email field.Of[string] `db:"email_ciphertext"`
				Index field.Index      `db:"email_bidx" kms:"of=Email"`
			}
			_, err := field.NewModel[Bad](box, field.Config{Table: "customers", IndexKey: blindindex.MasterKey{}})
			return err
		}},
		"R11": {kmsencrypted.ErrVersionNotActive, func() error {
			c := load(2)
			check(c.Key.Scan("v7" + strings.TrimPrefix(stored(t, c.Key), "v1")))
			return customers.Open(ctx, &c)
		}},
		"R12": {kmsencrypted.ErrConfig, func() error {
			_, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: key}, 2: {Provider: testkey.New()}}}.Box()
			return err
		}},
		"R13": {fs.ErrNotExist, func() error {
			_, err := local.OpenOrCreate(filepath.Join(folder, "gone.txt"), func() (bool, error) { return true, nil })
			return err
		}},
		"R14": {kmsencrypted.ErrConfig, func() error {
			t.Setenv(providers.KeyIDVariable, "")
			_, err := providers.Open(context.Background(), "")
			return err
		}},
	}
	for name, m := range moreMistakes(t, db, key, customers, load) {
		mistakes[name] = m
	}
	_, rules, _ := strings.Cut(string(file), "## Rules")
	for name, m := range mistakes {
		err := m.make()
		if !errors.Is(err, m.want) {
			t.Errorf("%s: error = %v, want %v", name, err, m.want)
			continue
		}
		_, rule, found := strings.Cut(rules, "\n"+name+". ")
		rule, _, _ = strings.Cut(rule, "\nR")
		if text := m.want.Error(); !found || !strings.Contains(strings.Join(strings.Fields(rule), " "), text) {
			t.Errorf("llms.txt, %s does not name %q; the whole error is\n%v", name, text, err)
		}
	}
	if got := strings.Count(rules, "\nR"); got != len(mistakes) {
		t.Errorf("llms.txt has %d rules, of which %d are tried", got, len(mistakes))
	}
}

// moreMistakes are those that need a model or a Box of their own, or a stored
// record that was damaged.
func moreMistakes(t *testing.T, db *sqlx.DB, key kmsencrypted.Provider, customers *field.Model[Customer], load func(id int64) Customer) map[string]mistake {
	ctx := t.Context()
	box := customers.Adapter().Box()
	boxOf := func(c kmsencrypted.Config) *kmsencrypted.Box {
		b, err := c.Box()
		check(err)
		return b
	}
	return map[string]mistake{
		"R15": {kmsencrypted.ErrVersionRetired, func() error {
			two := boxOf(kmsencrypted.Config{Current: 2, MinVersion: 2, Versions: map[int]kmsencrypted.Version{2: {Provider: key}}})
			later, err := field.NewModel[Customer](two, field.Config{Table: "customers"})
			check(err)
			c := load(2)
			return later.Open(ctx, &c)
		}},
		"R16": {kmsencrypted.ErrMalformed, func() error {
			c := load(2)
			check(c.Key.Scan(stored(t, c.Key)[:40]))
			return customers.Open(ctx, &c)
		}},
		"R17": {kmsencrypted.ErrNoDataKey, func() error {
			c := load(2)
			check(c.Key.Scan(nil))
			return customers.Open(ctx, &c)
		}},
		"R18": {kmsencrypted.ErrAlreadyEncrypted, func() error {
			c := load(2)
			check(customers.Open(ctx, &c))
			ciphertext, err := c.Email.Value()
			check(err)
			c.Email.Set(fmt.Sprint(ciphertext))
			return customers.Seal(ctx, &c)
		}},
		"R19": {kmsencrypted.ErrLossy, func() error {
			type Note struct {
				ID   int64         `db:"id"`
				Key  field.Key     `db:"encrypted_kms_key"`
				Text field.Of[any] `db:"text_ciphertext"`
			}
			notes, err := field.NewModel[Note](box, field.Config{Table: "notes"})
			check(err)
			return notes.Seal(ctx, &Note{ID: 1, Text: field.New[any]([]string{"a typed slice"})})
		}},
		"R20": {kmsencrypted.ErrContext, func() error {
			price := func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
				return kmsencrypted.Context{"price": 1.5}, nil
			}
			m, err := field.NewModel[Customer](box, field.Config{Table: "customers", Context: price})
			check(err)
			return m.Seal(ctx, &Customer{ID: 1, Email: field.New("x")})
		}},
		"R21": {kmsencrypted.ErrConfig, func() error {
			type Untagged struct {
				ID     int64            `db:"id"`
				Tenant string           `db:"tenant"`
				Key    field.Key        `db:"encrypted_kms_key"`
				Email  field.Of[string] `db:"email_ciphertext"`
			}
			tenant := func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
				return kmsencrypted.Context{"tenant": s.Record.(*Untagged).Tenant}, nil
			}
			m, err := field.NewModel[Untagged](box, field.Config{Table: "customers", Context: tenant})
			check(err)
			c := Untagged{ID: 1, Tenant: "a", Email: field.New("x")}
			check(m.SealNew(ctx, &c))
			m.Adapter().Saved(&c)
			c.Tenant = "b"
			c.Email.Set("y")
			return m.Seal(ctx, &c)
		}},
		"R22": {kmsencrypted.ErrNotLoaded, func() error {
			var c Customer
			return kmssqlx.Get(ctx, db, customers, &c, `SELECT id, email_ciphertext FROM customers WHERE id = 2`)
		}},
		"R23": {kmsencrypted.ErrConfig, func() error {
			ruby := boxOf(kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: key, Format: kmsencrypted.Ruby}}})
			_, err := field.NewModel[Customer](ruby, field.Config{Table: "customers"})
			return err
		}},
		"R24": {kmsencrypted.ErrNeedsRekey, func() error {
			type User struct {
				ID    int64            `db:"id"`
				Key   field.Key        `db:"encrypted_kms_key"`
				Email field.Of[string] `db:"email_ciphertext" kms:"lockbox"`
			}
			versions := map[int]kmsencrypted.Version{1: {Provider: key, Format: kmsencrypted.Ruby}, 2: {Provider: key}}
			before, err := field.NewModel[User](boxOf(kmsencrypted.Config{Current: 1, Versions: versions}), field.Config{Table: "users"})
			check(err)
			after, err := field.NewModel[User](boxOf(kmsencrypted.Config{Current: 2, Versions: versions}), field.Config{Table: "users"})
			check(err)
			u := User{ID: 1, Email: field.New("x")}
			check(before.SealNew(ctx, &u))
			return after.Rewrap(ctx, &u)
		}},
		"R25": {kmsencrypted.ErrNeedsFiles, func() error {
			m, err := field.NewModel[Customer](box, field.Config{Table: "customers", Files: true})
			check(err)
			c := load(2)
			return m.Rekey(ctx, &c)
		}},
		"R26": {kmsencrypted.ErrConfig, func() error { return customers.Lookup("Email", "ada@example.org").Err() }},
		"R27": {kmsencrypted.ErrDenied, func() error {
			m, err := field.NewModel[Customer](boxOf(kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.EncryptOnly()}}}), field.Config{Table: "customers"})
			check(err)
			c := Customer{ID: 1, Email: field.New("x")}
			check(m.SealNew(ctx, &c))
			var read Customer
			read.ID = 1
			check(read.Key.Scan(stored(t, c.Key)))
			email, err := c.Email.Value()
			check(err)
			check(read.Email.Scan(email))
			return m.Open(ctx, &read)
		}},
		"R28": {kmsencrypted.ErrRecordSeal, func() error {
			m, err := field.NewModel[Customer](boxOf(kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: key, RecordSeal: true}}}), field.Config{Table: "customers"})
			check(err)
			c := Customer{ID: 1, Email: field.New("x")}
			check(m.SealNew(ctx, &c))
			var read Customer
			read.ID = 1
			check(read.Key.Scan(stored(t, c.Key)))
			check(read.Email.Scan(nil))
			return m.Open(ctx, &read)
		}},
		"R29": {kmsencrypted.ErrConfig, func() error { return customers.Seal(ctx, nil) }},
	}
}

func stored(t *testing.T, key field.Key) string {
	t.Helper()
	value, err := key.Value()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s", value)
}
