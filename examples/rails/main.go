// Rails: a Go program on the database of a Rails application that goes on
// running. It reads every row that Rails wrote, adds and changes rows in Ruby's
// form, moves rows to other keys, and takes one row to the native format and back.
//
//	go run ./examples/rails
//
// The database is a copy of testdata/rails/rails.sqlite3, written by Rails 7.2
// with kms_encrypted 1.8, Lockbox 2.1, attr_encrypted 4.2 and blind_index 2.8
// under the insecure test key. Rails can read all that is written here, because
// what each gem expects of a column is kept to the byte:
//
//   - a key column is "v", the version, ":" and strict base64, and its context is
//     the JSON that Rails makes of it: Ruby's order, Rails' escapes;
//   - a Lockbox column is strict base64, or bytes in a binary column; the empty
//     text is an empty column unless it is padded; dates, times, numbers, JSON and
//     YAML inside are written as Ruby writes them;
//   - attr_encrypted's value, iv and salt are base64 in lines of 60 characters
//     with a newline at the end, and the salt has an underscore in front;
//   - a blind index is the hash that Ruby computes, so that each side finds the
//     other's rows and a unique index holds for both;
//   - what Rails keeps beside it is written as Rails does: created_at and
//     updated_at are UTC with six decimals.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "rails")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, err := openCopy(dir)
	if err != nil {
		return err
	}
	defer db.Close()
	native, err := local.Create(filepath.Join(dir, "keys.txt"))
	if err != nil {
		return err
	}
	keys, err := exampleKeys()
	if err != nil {
		return err
	}
	a, err := newApp(db, native, keys, out)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"What Rails wrote (some of the columns; all were opened)", a.read},
		{"Rows of our own, in Ruby's form", a.insert},
		{"An update writes what was set, and its indexes", a.update},
		{"Rewrap: another version and context, the same data keys. Safe beside Rails", a.rewrap},
		{"Rewrap: key columns from before kms_encrypted 1.0", a.rewrapLegacy},
		{"Rekey: new data keys. Rails must not write meanwhile; if it does, we notice", a.rekey},
		{"A user to the native format and back", a.thereAndBack},
		{"In the end", a.count},
	} {
		fmt.Fprintf(out, "\n%s:\n", step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// openCopy opens a copy of the database, so that the original stays as it is.
func openCopy(dir string) (*sqlx.DB, error) {
	_, source, _, _ := runtime.Caller(0)
	original, err := os.ReadFile(filepath.Join(filepath.Dir(source), "../../testdata/rails/rails.sqlite3"))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "rails.sqlite3")
	if err := os.WriteFile(path, original, 0o600); err != nil {
		return nil, err
	}
	return sqlx.Open("sqlite", path)
}

func (a *app) read(ctx context.Context) error {
	users, err := load(ctx, a.db, a.users, "")
	if err != nil {
		return err
	}
	accounts, err := load(ctx, a.db, a.accounts, "")
	if err != nil {
		return err
	}
	people, err := load(ctx, a.db, a.people, "")
	if err != nil {
		return err
	}
	notes, err := load(ctx, a.db, a.notes, "")
	if err != nil {
		return err
	}
	a.line("user", "email", "phone", "born", "visits", "balance", "tags", "status", "badge", "note", "ssn", "pin")
	for _, u := range users {
		a.line(u.ID, text(u.Email), text(u.Phone), date(u.Birthday), text(u.Visits), text(u.Balance), cut(u.Tags.Must()),
			text(u.Status), text(u.Badge), text(u.Note), text(u.SSN), text(u.PIN))
	}
	a.line("\naccount", "version", "tenant", "secret", "iban")
	for _, c := range accounts {
		a.line(c.ID, version(c.Key), cut(c.Tenant), text(c.Secret), text(c.IBAN))
	}
	a.line("\nperson", "class", "email")
	for _, p := range people {
		a.line(p.ID, p.class(), text(p.Email))
	}
	a.line("\nnote", "body")
	for _, n := range notes {
		a.line(n.ID, text(n.Body))
	}
	return a.flush()
}

// insert adds a user, a subclass of Person and an account, and finds the user
// and the account by their indexes.
func (a *app) insert(ctx context.Context) error {
	now := time.Now().UTC().Format("2006-01-02 15:04:05.000000")
	grace := User{
		Name:     new("Grace"),
		Email:    field.New(new("Grace@Example.org")),
		Phone:    field.New(new("+1 555 0906 1906")),
		Birthday: field.New(new(time.Date(1906, 12, 9, 0, 0, 0, 0, time.UTC))),
		Tags:     field.New([]any{"navy", "cobol"}),
		Note:     field.New(new("found the first bug")),
		SSN:      field.New(new("123-45-6789")),
		PIN:      field.New(new("1952")),

		CreatedAt: now, UpdatedAt: now,
	}
	// As in Rails the row comes first, which gives the id, and its encrypted columns
	// second, in one transaction.
	if err := kmssqlx.Insert(ctx, a.db, a.users, &grace); err != nil {
		return err
	}
	joan := Person{Type: new("Employee"), Email: field.New(new("joan@example.org"))}
	if err := kmssqlx.Insert(ctx, a.db, a.people, &joan); err != nil {
		return err
	}
	account := Account{UUID: "0d1f9c3e-0000-4000-8000-000000000007", Tenant: "Bücher & Co <x>", IBAN: field.New(new("DE00 6 1234"))}
	if err := kmssqlx.Insert(ctx, a.db, a.accounts, &account); err != nil {
		return err
	}
	if err := a.show(ctx, `SELECT encrypted_kms_key, birthday_ciphertext, email_ci_bidx, encrypted_pin, encrypted_pin_iv, encrypted_pin_salt
		FROM users WHERE id = ?`, grace.ID); err != nil {
		return err
	}
	var u User
	for _, find := range []struct {
		what string
		by   field.Lookup
	}{
		{"GRACE@EXAMPLE.ORG, in any case", a.users.Lookup("email_ci_bidx", "GRACE@EXAMPLE.ORG")},
		{"1906, the last four digits", a.users.Lookup("phone_last4_bidx", "1906")},
	} {
		if err := kmssqlx.Get(ctx, a.db, a.users, &u, `SELECT * FROM users WHERE `+find.by.Name+` IN (?)`, find.by); err != nil {
			return fmt.Errorf("by %s: %w", find.what, err)
		}
		fmt.Fprintf(a.out, "  found by %s: users %d\n", find.what, u.ID)
	}
	var c Account
	err := kmssqlx.Get(ctx, a.db, a.accounts, &c, `SELECT * FROM accounts WHERE iban_bidx_v2 IN (?)`, a.accounts.Lookup("iban_bidx_v2", "DE00 6 1234"))
	fmt.Fprintf(a.out, "  found by DE00 6 1234, in the second version of the index: accounts %d\n", c.ID)
	return err
}

func (a *app) update(ctx context.Context) error {
	users, err := load(ctx, a.db, a.users, "WHERE id = 1")
	if err != nil {
		return err
	}
	u := &users[0]
	u.Email.Set(new("alice@example.org"))
	if err := a.users.Seal(ctx, u); err != nil { // no call: the record was opened
		return err
	}
	w, err := a.users.Adapter().Write(u)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "  SET %s WHERE id = 1 AND %s\n", names(w.Set), names(w.Where))
	return kmssqlx.Update(ctx, a.db, a.users, u)
}

// rewrap moves the accounts of version 1 to version 2. Rails changes one of them
// between our reading and writing, and nothing is lost.
func (a *app) rewrap(ctx context.Context) error {
	accounts, err := load(ctx, a.db, a.accounts, `WHERE encrypted_kms_key NOT LIKE 'v2:%'`)
	if err != nil {
		return err
	}
	meanwhile := accounts[0] // as a Rails process has it in memory
	if err := a.accounts.Rewrap(ctx, field.Pointers(accounts)...); err != nil {
		return err
	}
	meanwhile.Secret.Set(new("set by Rails"))
	if err := saveAsRails(ctx, a.db, a.accounts, &meanwhile, meanwhile.ID); err != nil {
		return err
	}
	for i := range accounts {
		if err := kmssqlx.Update(ctx, a.db, a.accounts, &accounts[i]); err != nil {
			return err
		}
	}
	accounts, err = load(ctx, a.db, a.accounts, "")
	for _, c := range accounts {
		a.line(fmt.Sprintf("  account %d", c.ID), version(c.Key), text(c.Secret))
	}
	return errors.Join(err, a.flush())
}

// rewrapLegacy gives notes a version and the context that upgrade_context did
// without: {} becomes {model_name, model_id}.
func (a *app) rewrapLegacy(ctx context.Context) error {
	notes, err := load(ctx, a.db, a.notes, "")
	if err != nil {
		return err
	}
	if err := a.show(ctx, `SELECT encrypted_kms_key FROM legacy_notes WHERE id = 1`); err != nil {
		return err
	}
	if err := a.notes.Rewrap(ctx, field.Pointers(notes)...); err != nil {
		return err
	}
	for i := range notes {
		if err := kmssqlx.Update(ctx, a.db, a.notes, &notes[i]); err != nil {
			return err
		}
	}
	return a.show(ctx, `SELECT encrypted_kms_key FROM legacy_notes WHERE id = 1`)
}

// rekey seals people under new data keys, at a version that Rails has to list.
// Rails changes one of them meanwhile, and we begin again with that one.
func (a *app) rekey(ctx context.Context) error {
	people, err := load(ctx, a.db, a.people, "")
	if err != nil {
		return err
	}
	meanwhile := people[1]
	meanwhile.Email.Set(new("p1@rails.org"))
	if err := saveAsRails(ctx, a.db, a.people, &meanwhile, meanwhile.ID); err != nil {
		return err
	}
	if err := a.people.Rekey(ctx, field.Pointers(people)...); err != nil {
		return err
	}
	for i := range people {
		p := &people[i]
		err := kmssqlx.Update(ctx, a.db, a.people, p)
		if errors.Is(err, kmsencrypted.ErrConflict) {
			fmt.Fprintf(a.out, "  %v\n", err)
			err = a.rekeyAgain(ctx, p)
		}
		if err != nil {
			return err
		}
		a.line(fmt.Sprintf("  person %d", p.ID), version(p.Key), text(p.Email))
	}
	return a.flush()
}

func (a *app) rekeyAgain(ctx context.Context, p *Person) error {
	again, err := load(ctx, a.db, a.people, `WHERE id = ?`, p.ID)
	if err != nil {
		return err
	}
	*p = again[0]
	return kmssqlx.Rekey(ctx, a.db, a.people, p)
}

// thereAndBack changes the format of one user: every column under its keys is
// sealed again in one update, ivs and salts are emptied and filled. The note is
// under Lockbox's master key, which has no version, and stays.
func (a *app) thereAndBack(ctx context.Context) error {
	for _, users := range []*field.Model[User]{a.nativeUsers, a.users} {
		rows, err := load(ctx, a.db, users, "WHERE id = 2")
		if err != nil {
			return err
		}
		u := &rows[0]
		if err := users.Rekey(ctx, u); err != nil {
			return err
		}
		w, err := users.Adapter().Write(u)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "  %d columns set, %d compared\n", len(w.Set), len(w.Where))
		if err := kmssqlx.Update(ctx, a.db, users, u); err != nil {
			return err
		}
		if err := a.show(ctx, `SELECT encrypted_kms_key, email_ciphertext, encrypted_ssn, encrypted_ssn_iv FROM users WHERE id = 2`); err != nil {
			return err
		}
	}
	return nil
}

// count opens everything once more.
func (a *app) count(ctx context.Context) error {
	users, errUsers := load(ctx, a.db, a.users, "")
	accounts, errAccounts := load(ctx, a.db, a.accounts, "")
	people, errPeople := load(ctx, a.db, a.people, "")
	notes, errNotes := load(ctx, a.db, a.notes, "")
	if err := errors.Join(errUsers, errAccounts, errPeople, errNotes); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "  %d users, %d accounts, %d people and %d notes open\n", len(users), len(accounts), len(people), len(notes))
	return nil
}
