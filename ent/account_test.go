package kment_test

import (
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/kmsencrypted/kmsencrypted"
	kment "github.com/kmsencrypted/kmsencrypted/ent"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop/account"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func init() {
	suite = append(suite,
		test{"IDsInAnotherSpelling", idsInAnotherSpelling},
		test{"MigratingColumns", migratingColumns},
		test{"RecordSeal", recordSeal},
		test{"UnboundID", unboundID},
	)
}

// accounts is a client of the table accounts. Its plain column holds plaintext, so
// nothing of it holds the secret.
func (e *env) accounts(t *testing.T) (*shop.Client, *field.Model[shop.Account]) {
	t.Helper()
	m, err := field.NewModel[shop.Account](kmstest.Box(t), field.Config{Table: "accounts"})
	must(t, err)
	driver, err := kment.Wrap(&logged{entsql.OpenDB(e.dialect, e.db), &e.log}, m)
	must(t, err)
	client := shop.NewClient(shop.Driver(driver))
	_, err = client.Account.Delete().Exec(t.Context())
	must(t, err)
	return client, m
}

// A row under another id than its entity was sealed for would never open.
func idsInAnotherSpelling(t *testing.T, e *env) {
	client, _ := e.accounts(t)
	one := func(id string) *shop.AccountCreate {
		return client.Account.Create().SetID(id).SetPhone(field.New("123"))
	}
	must(t, one("exactly-10").Exec(t.Context()))
	must(t, client.Account.CreateBulk(one("as-long-10"), one("another-10")).Exec(t.Context()))
	n := 3
	if e.dialect == dialect.Postgres {
		wantError(t, "a short id", one("short").Exec(t.Context()), kmsencrypted.ErrLossy)
		wantError(t, "a short id of many", client.Account.CreateBulk(one("nextlong10"), one("short")).Exec(t.Context()), kmsencrypted.ErrLossy)
	} else {
		must(t, one("short").Exec(t.Context()))
		n++
	}
	list, err := client.Account.Query().All(t.Context())
	must(t, err)
	if len(list) != n {
		t.Errorf("%d accounts, want %d", len(list), n)
	}
	// The first key of a row that was not read, under an id that only a collation finds.
	must(t, client.Account.Create().SetID("COLLATED10").Exec(t.Context()))
	if e.dialect == dialect.MySQL {
		err := client.Account.UpdateOneID("collated10").SetPhone(field.New("456")).Exec(t.Context())
		if err == nil {
			_, err = client.Account.Get(t.Context(), "COLLATED10")
			must(t, err)
		}
	}
}

// While a column is migrating, it and the one that it replaces hold the same value.
func migratingColumns(t *testing.T, e *env) {
	client, m := e.accounts(t)
	same := func(what, id, want string) *shop.Account {
		t.Helper()
		a, err := client.Account.Get(t.Context(), id)
		must(t, err)
		if a.Mail != want || a.Email.Must() != want || m.Adapter().CheckReplaced(t.Context(), a) != nil {
			t.Errorf("%s: %q and %q, want %q", what, a.Mail, a.Email.Must(), want)
		}
		return a
	}
	must(t, client.Account.Create().SetID("old-------").SetMail("a@example.org").Exec(t.Context()))
	a := same("the old one is set", "old-------", "a@example.org")
	must(t, client.Account.Create().SetID("new-------").SetEmail(field.New("b@example.org")).Exec(t.Context()))
	b := same("the new one is set", "new-------", "b@example.org")
	must(t, client.Account.CreateBulk(client.Account.Create().SetID("both------").SetMail("x").SetEmail(field.New("c@example.org"))).Exec(t.Context()))
	same("both are set", "both------", "c@example.org")
	must(t, a.Update().SetMail("d@example.org").Exec(t.Context()))
	a = same("the old one is changed", a.ID, "d@example.org")
	must(t, b.Update().SetEmail(field.New("e@example.org")).Exec(t.Context()))
	b = same("the new one is changed", b.ID, "e@example.org")
	must(t, b.Update().SetMail("x").SetEmail(field.New("f@example.org")).Exec(t.Context()))
	same("both are changed", b.ID, "f@example.org")
	must(t, a.Update().SetPhone(field.New("789")).Exec(t.Context()))
	same("neither is changed", a.ID, "d@example.org")
	// The same of entities that are not read before, or are closed.
	must(t, client.Account.UpdateOneID(a.ID).SetMail("g@example.org").Exec(t.Context()))
	same("the old one is changed by its id", a.ID, "g@example.org")
	must(t, client.Account.UpdateOneID(a.ID).SetEmail(field.New("h@example.org")).Exec(t.Context()))
	same("the new one is changed by its id", a.ID, "h@example.org")
	closed, err := client.Account.Get(lazily(t), a.ID)
	must(t, err)
	must(t, closed.Update().SetMail("i@example.org").Exec(t.Context()))
	same("the old one is changed in a closed entity", a.ID, "i@example.org")
	err = client.Account.Update().SetMail("x").Exec(t.Context())
	wantError(t, "the old one of many", err)
	_, err = client.Account.Query().Select(account.FieldEmail, account.FieldEncryptedKmsKey).All(t.Context())
	wantError(t, "the new one alone", err, kmsencrypted.ErrNotLoaded)
}

// Under a record seal every update writes the key column.
func recordSeal(t *testing.T, e *env) {
	s := e.store(t, func(v *kmsencrypted.Version) { v.RecordSeal = true })
	all, err := s.client.Customer.CreateBulk(s.one(0), s.one(1)).Save(t.Context())
	must(t, err)
	a, b := s.wantAll(t, "created", all[0].ID, 0), s.wantAll(t, "created", all[0].ID, 0)
	before, _ := a.EncryptedKmsKey.Value()
	a, err = a.Update().SetPhone(field.New(new(secret))).Save(t.Context())
	must(t, err)
	if after, _ := a.EncryptedKmsKey.Value(); before == after {
		t.Error("the seal was not renewed")
	}
	err = b.Update().SetEmail(field.New(email(5))).Exec(t.Context())
	wantError(t, "another writer", err, kmsencrypted.ErrConflict)
	a, err = a.Update().ClearPhone().SetName("again").Save(t.Context())
	must(t, err)
	s.wantAll(t, "updated twice", a.ID, 0)
	got, err := s.client.Customer.UpdateOneID(a.ID).SetEmail(field.New(email(1))).SetDevices(field.New(devices(1))).Save(t.Context())
	must(t, err)
	s.wantAll(t, "UpdateOneID", got.ID, 1)
}

// If nothing depends on the id, the entity is sealed before the database assigns it.
func unboundID(t *testing.T, e *env) {
	s := e.store(t, func(v *kmsencrypted.Version) {
		v.OmitID = true
		v.Context = func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"app": "shop"}, nil
		}
	})
	c := s.create(t, 1)[0]
	s.wantAll(t, "created", c.ID, 0)
	all, err := s.client.Customer.CreateBulk(s.builders(4)...).Save(t.Context())
	must(t, err)
	for i, c := range all {
		if got := s.wantAll(t, "in a bulk", c.ID, i); got.Name != c.Name {
			t.Errorf("the id %d is that of %s, not of %s", c.ID, got.Name, c.Name)
		}
	}
	_, err = all[2].Update().SetEmail(field.New(email(9))).SetDevices(field.New(devices(9))).Save(t.Context())
	must(t, err)
	s.wantAll(t, "updated", all[2].ID, 9)
}
