package kment_test

import (
	"testing"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/kmsencrypted/kmsencrypted"
	kment "github.com/kmsencrypted/kmsencrypted/ent"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop/customer"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop/note"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop/predicate"
	"github.com/kmsencrypted/kmsencrypted/field"
)

func init() {
	suite = append(suite,
		test{"LookupHits", lookupHits},
		test{"LookupFalseHits", lookupFalseHits},
		test{"LookupElsewhere", lookupElsewhere},
		test{"QueryLazily", queryLazily},
		test{"QueryDamaged", queryDamaged},
		test{"SelectAndGroup", selectAndGroup},
		test{"RowLocks", rowLocks},
	)
}

// byEmail finds customers by their blind index.
func (s *store) byEmail(address ...any) predicate.Customer {
	return kment.Lookup(s.customers.Lookup("Email", address...))
}

func lookupHits(t *testing.T, e *env) {
	s := e.store(t)
	all := s.create(t, 4)
	must(t, s.client.Customer.Create().SetName("none").Exec(t.Context()))
	got, err := s.client.Customer.Query().Where(s.byEmail("CUSTOMER2@"+secret), customer.NameNEQ("x")).Only(t.Context())
	must(t, err)
	if got.ID != all[2].ID || got.Email.Must() != email(2) {
		t.Errorf("found %v", got)
	}
	n := func(p ...predicate.Customer) int {
		t.Helper()
		list, err := s.client.Customer.Query().Where(p...).All(t.Context())
		must(t, err)
		if count := s.client.Customer.Query().Where(p...).CountX(t.Context()); count != len(list) {
			t.Errorf("Count = %d, and there are %d", count, len(list))
		}
		return len(list)
	}
	for what, got := range map[string][2]int{
		"two":     {n(s.byEmail(email(1), email(3))), 2},
		"none":    {n(s.byEmail("nobody@" + secret)), 0},
		"no list": {n(s.byEmail()), 0},
		"NULL":    {n(s.byEmail(nil)), 1},
		"or NULL": {n(s.byEmail(nil, email(0))), 2},
		"both":    {n(s.byEmail(email(0), email(1)), s.byEmail(email(1), email(2))), 1},
		"indexes": {n(customer.Or(customer.EmailBidxIn(s.customers.Lookup("Email", email(1)).Indexes()...), customer.Name("none"))), 2},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: found %d, want %d", what, got[0], got[1])
		}
	}
	list, err := s.client.Customer.Query().Where(s.byEmail(email(0), email(1), email(2))).Order(shop.Asc(customer.FieldID)).Offset(1).Limit(1).All(t.Context())
	must(t, err)
	if len(list) != 1 || list[0].ID != all[1].ID {
		t.Errorf("the second is %v", list)
	}
	affected, err := s.client.Customer.Update().Where(s.byEmail(email(0))).SetName("found").Save(t.Context())
	must(t, err)
	deleted, err := s.client.Customer.Delete().Where(s.byEmail(email(1))).Exec(t.Context())
	must(t, err)
	if affected != 1 || deleted != 1 || s.get(t, all[0].ID).Name != "found" {
		t.Errorf("updated %d, deleted %d", affected, deleted)
	}
}

// What the index finds and the value does not match is removed before the limit.
func lookupFalseHits(t *testing.T, e *env) {
	s := e.store(t)
	all := s.create(t, 3)
	index, err := s.client.Customer.Query().Where(customer.ID(all[2].ID)).Only(t.Context())
	must(t, err)
	value, err := index.EmailBidx.Value()
	must(t, err)
	mark := map[string]string{"postgres": "$1", "mysql": "?", "sqlite3": "?"}[s.dialect]
	_, err = s.db.ExecContext(t.Context(), "UPDATE customers SET email_bidx = "+mark, value)
	must(t, err)
	got, err := s.client.Customer.Query().Where(s.byEmail(email(2))).Order(shop.Asc(customer.FieldID)).First(t.Context())
	must(t, err)
	if got.ID != all[2].ID {
		t.Errorf("found %v", got)
	}
	_, err = s.client.Customer.Query().Where(s.byEmail(email(2))).Select(customer.FieldName, customer.FieldEncryptedKmsKey).All(t.Context())
	wantError(t, "a value that was not read", err, kmsencrypted.ErrNotLoaded)
}

func lookupElsewhere(t *testing.T, e *env) {
	s := e.store(t)
	all := s.create(t, 2)
	n, err := s.client.Note.Create().SetText(field.New(secret)).SetCustomer(all[1]).Save(t.Context())
	must(t, err)
	got, err := s.client.Note.Query().Where(note.HasCustomerWith(s.byEmail(email(1)))).Only(t.Context())
	must(t, err)
	if got.ID != n.ID || got.Text.Must() != secret {
		t.Errorf("found %v", got)
	}
	through, err := n.QueryCustomer().Where(s.byEmail(email(1))).Only(t.Context())
	must(t, err)
	if through.Email.Must() != email(1) {
		t.Errorf("found %v", through)
	}
	for what, p := range map[string]predicate.Customer{
		"Or":  customer.Or(s.byEmail(email(1)), customer.Name("name0")),
		"Not": customer.Not(s.byEmail(email(1))),
	} {
		s.wantRefused(t, what, func() error { _, err := s.client.Customer.Query().Where(p).All(t.Context()); return err }, kmsencrypted.ErrConfig)
	}
	s.wantRefused(t, "a zero lookup", func() error {
		_, err := s.client.Customer.Query().Where(kment.Lookup(field.Lookup{})).All(t.Context())
		return err
	}, kmsencrypted.ErrConfig)
}

func queryLazily(t *testing.T, e *env) {
	s := e.store(t)
	s.create(t, 3)
	if wraps, unwraps := s.calls(func() {
		list, err := s.client.Customer.Query().All(lazily(t))
		must(t, err)
		if _, err := list[0].Email.Get(); err == nil {
			t.Error("a field is open")
		}
		if v, err := list[1].Email.Plain(t.Context()); err != nil || v != email(1) {
			t.Errorf("Plain = %v", err)
		}
	}); wraps != 0 || unwraps != 1 {
		t.Errorf("%d unwraps", unwraps)
	}
	got, err := s.client.Customer.Query().Where(s.byEmail(email(2))).Only(lazily(t))
	must(t, err)
	if got.Email.Must() != email(2) { // it had to be opened
		t.Errorf("found %v", got)
	}
}

func queryDamaged(t *testing.T, e *env) {
	s := e.store(t)
	all := s.create(t, 2)
	mark := map[string]string{"postgres": "$1", "mysql": "?", "sqlite3": "?"}[s.dialect]
	_, err := s.db.ExecContext(t.Context(), "UPDATE customers SET email_ciphertext = (SELECT c.e FROM (SELECT devices_ciphertext AS e, id FROM customers) c WHERE c.id = customers.id) WHERE id = "+mark, all[1].ID)
	must(t, err)
	_, err = s.client.Customer.Query().All(t.Context())
	wantError(t, "a damaged entity", err, kmsencrypted.ErrDecrypt)
	list, err := s.client.Customer.Query().Order(shop.Asc(customer.FieldID)).All(lazily(t))
	must(t, err)
	if v, err := list[0].Email.Plain(t.Context()); err != nil || v != email(0) {
		t.Errorf("Plain = %v", err)
	}
}

func selectAndGroup(t *testing.T, e *env) {
	s := e.store(t)
	s.create(t, 3)
	names, err := s.client.Customer.Query().Order(shop.Asc(customer.FieldID)).Select(customer.FieldName).Strings(t.Context())
	must(t, err)
	if len(names) != 3 || names[2] != "name2" {
		t.Errorf("Strings = %q", names)
	}
	_, err = s.client.Customer.Query().Select(customer.FieldEmail).Strings(t.Context())
	wantError(t, "Strings of a ciphertext", err, kmsencrypted.ErrNotOpened)
	var texts []struct {
		Name string
		Mail string `sql:"email_ciphertext"`
		N    int
	}
	err = s.client.Customer.Query().Select(customer.FieldName, customer.FieldEmail).Scan(t.Context(), &texts)
	wantError(t, "Scan of a ciphertext", err, kmsencrypted.ErrNotOpened)
	err = s.client.Customer.Query().GroupBy(customer.FieldEmail).Aggregate(shop.As(shop.Count(), "n")).Scan(t.Context(), &texts)
	wantError(t, "GroupBy of a ciphertext", err, kmsencrypted.ErrNotOpened)
	_, err = s.client.Customer.Query().Aggregate(shop.As(shop.Max(customer.FieldEmail), "latest")).Strings(t.Context())
	wantError(t, "Max of a ciphertext", err, kmsencrypted.ErrNotOpened)
	var fields []struct {
		Name string
		Mail field.Of[string] `sql:"email_ciphertext"`
	}
	must(t, s.client.Customer.Query().Select(customer.FieldName, customer.FieldEmail).Scan(t.Context(), &fields))
	if _, err := fields[0].Mail.Get(); len(fields) != 3 || err == nil {
		t.Errorf("Scan = %v", fields)
	}
	var groups []struct {
		Name string
		N    int
	}
	must(t, s.client.Customer.Query().GroupBy(customer.FieldName).Aggregate(shop.As(shop.Count(), "n")).Scan(t.Context(), &groups))
	if len(groups) != 3 {
		t.Errorf("GroupBy = %v", groups)
	}
}

func rowLocks(t *testing.T, e *env) {
	s := e.store(t)
	if s.dialect == "sqlite3" {
		return // has no such locks
	}
	c := s.create(t, 1)[0]
	tx, err := s.client.Tx(t.Context())
	must(t, err)
	defer tx.Rollback()
	got, err := tx.Customer.Query().Where(customer.ID(c.ID)).ForUpdate(entsql.WithLockAction(entsql.NoWait)).Only(t.Context())
	must(t, err)
	_, err = got.Update().SetEmail(field.New(email(4))).Save(t.Context())
	must(t, err)
	must(t, tx.Commit())
	if got := s.get(t, c.ID); got.Email.Must() != email(4) {
		t.Errorf("Get = %v", got)
	}
}
