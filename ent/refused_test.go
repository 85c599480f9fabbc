package kment_test

import (
	"errors"
	"slices"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/kmsencrypted/kmsencrypted"
	kment "github.com/kmsencrypted/kmsencrypted/ent"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop/customer"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop/predicate"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop/tenant"
	"github.com/kmsencrypted/kmsencrypted/field"
)

func init() {
	suite = append(suite,
		test{"PlaintextPredicates", plaintextPredicates},
		test{"ManyAtOnce", manyAtOnce},
		test{"Upserts", upserts},
		test{"Modifiers", modifiers},
		test{"RawStatements", rawStatements},
		test{"Clients", clients},
		test{"ErrorsHoldNoArguments", errorsHoldNoArguments},
	)
}

func plaintextPredicates(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	where := func(f func(*entsql.Selector) *entsql.Predicate) predicate.Customer {
		return func(s *entsql.Selector) { s.Where(f(s)) }
	}
	const mail = customer.FieldEmail
	forms := map[string]predicate.Customer{
		"EQ":           customer.EmailEQ(field.New(email(0))),
		"named":        customer.Email(field.New(email(0))),
		"NEQ":          customer.EmailNEQ(field.New(email(0))),
		"In":           customer.EmailIn(c.Email, field.New(email(0))),
		"GT":           customer.EmailGT(field.New(email(0))),
		"Not":          customer.Not(customer.EmailEQ(field.New(email(0)))),
		"Or":           customer.Or(customer.Name("x"), customer.EmailEQ(field.New(email(0)))),
		"FieldEQ":      predicate.Customer(entsql.FieldEQ(mail, email(0))),
		"text":         where(func(s *entsql.Selector) *entsql.Predicate { return entsql.EQ(s.C(mail), email(0)) }),
		"In texts":     where(func(s *entsql.Selector) *entsql.Predicate { return entsql.In(s.C(mail), email(0), email(1)) }),
		"index":        where(func(s *entsql.Selector) *entsql.Predicate { return entsql.EQ(s.C(customer.FieldEmailBidx), email(0)) }),
		"HasPrefix":    where(func(s *entsql.Selector) *entsql.Predicate { return entsql.HasPrefix(s.C(mail), email(0)) }),
		"ContainsFold": where(func(s *entsql.Selector) *entsql.Predicate { return entsql.ContainsFold(s.C(mail), email(0)) }),
	}
	for _, reversed := range []bool{false, true} {
		forms["expression, "+map[bool]string{false: "as usual", true: "reversed"}[reversed]] = where(func(s *entsql.Selector) *entsql.Predicate {
			return entsql.P(func(b *entsql.Builder) {
				if reversed {
					b.Arg(email(0)).WriteString(" = lower(" + s.C(mail) + ")")
					return
				}
				b.WriteString("lower(" + s.C(mail) + ") = ").Arg(email(0))
			})
		})
	}
	for what, p := range forms {
		for how, call := range map[string]func() error{
			"All":    func() error { _, err := s.client.Customer.Query().Where(p).All(t.Context()); return err },
			"Count":  func() error { _, err := s.client.Customer.Query().Where(p).Count(t.Context()); return err },
			"IDs":    func() error { _, err := s.client.Customer.Query().Where(p).IDs(t.Context()); return err },
			"Update": func() error { return s.client.Customer.Update().Where(p).SetName("x").Exec(t.Context()) },
			"One":    func() error { return c.Update().Where(p).SetName("x").SetEmail(field.New(email(1))).Exec(t.Context()) },
			"Delete": func() error { _, err := s.client.Customer.Delete().Where(p).Exec(t.Context()); return err },
			"Edge": func() error {
				_, err := s.client.Tenant.Query().Where(tenant.HasCustomersWith(p)).All(t.Context())
				return err
			},
			"Not in": func() error {
				_, err := s.client.Tenant.Delete().Where(tenant.Not(tenant.HasCustomersWith(p))).Exec(t.Context())
				return err
			},
		} {
			s.wantRefused(t, what+" in "+how, call, kmsencrypted.ErrUnsealed)
		}
	}
	s.wantRefused(t, "ORDER BY", func() error {
		_, err := s.client.Customer.Query().Order(func(s *entsql.Selector) {
			s.OrderExpr(entsql.P(func(b *entsql.Builder) { b.WriteString(s.C(mail) + " = ").Arg(email(0)) }))
		}).All(t.Context())
		return err
	}, kmsencrypted.ErrUnsealed)
	// A ciphertext, an index and NULL are no plaintext.
	got, err := s.client.Customer.Query().Where(customer.EmailEQ(c.Email), customer.EmailBidxEQ(c.EmailBidx), customer.PhoneIsNil()).Only(t.Context())
	must(t, err)
	if got.ID != c.ID || s.client.Customer.Query().CountX(t.Context()) != 1 || got.Name != "name0" {
		t.Errorf("found %v", got)
	}
}

// One ciphertext cannot serve many rows.
func manyAtOnce(t *testing.T, e *env) {
	s := e.store(t)
	all := s.create(t, 2)
	owner, err := s.client.Tenant.Create().SetName("tenant").Save(t.Context())
	must(t, err)
	for what, call := range map[string]func() error{
		"Set":      func() error { return s.client.Customer.Update().SetEmail(field.New(email(5))).Exec(t.Context()) },
		"Set read": func() error { return s.client.Customer.Update().SetEmail(all[0].Email).Exec(t.Context()) },
		"Clear": func() error {
			return s.client.Customer.Update().Where(customer.Name("name0")).ClearEmail().Exec(t.Context())
		},
	} {
		s.wantRefused(t, what, call, kmsencrypted.ErrUnsealed)
	}
	for what, call := range map[string]func() error{
		"SetTenantID":   func() error { return s.client.Customer.Update().SetTenantID(owner.ID).Exec(t.Context()) },
		"SetTenant":     func() error { return s.client.Customer.Update().SetTenant(owner).Exec(t.Context()) },
		"ClearTenant":   func() error { return s.client.Customer.Update().ClearTenant().Exec(t.Context()) },
		"ClearTenantID": func() error { return s.client.Customer.Update().ClearTenantID().Exec(t.Context()) },
	} {
		s.wantRefused(t, what, call, errors.ErrUnsupported)
	}
	// The other end of the edge moves customers too.
	err = owner.Update().AddCustomers(all...).Exec(t.Context())
	wantError(t, "AddCustomers", err, errors.ErrUnsupported)
	err = s.client.Tenant.Create().SetName("new").AddCustomers(all...).Exec(t.Context())
	wantError(t, "Create with AddCustomers", err, errors.ErrUnsupported)
	for i, c := range all {
		if got := s.get(t, c.ID); got.Email.Must() != email(i) || got.TenantID != nil {
			t.Errorf("the row is %v", got)
		}
	}
	n, err := s.client.Customer.Update().SetName("plain").AddVisits(1).Save(t.Context())
	must(t, err)
	if n != 2 {
		t.Errorf("%d rows got a plain value", n)
	}
}

func upserts(t *testing.T, e *env) {
	s := e.store(t)
	id := uuid.New()
	must(t, s.client.Note.Create().SetID(id).SetText(field.New(email(0))).Exec(t.Context()))
	one := func() *shop.NoteCreate { return s.client.Note.Create().SetID(id).SetText(field.New(email(1))) }
	conflict := entsql.ConflictColumns("id")
	for what, call := range map[string]func() error{
		"UpdateNewValues": func() error { return one().OnConflict(conflict).UpdateNewValues().Exec(t.Context()) },
		"Ignore":          func() error { return one().OnConflict(conflict).Ignore().Exec(t.Context()) },
		"DoNothing":       func() error { return one().OnConflict(conflict).DoNothing().Exec(t.Context()) },
		"SetText": func() error {
			return one().OnConflict(conflict).Update(func(u *shop.NoteUpsert) { u.SetText(field.New(email(1))) }).Exec(t.Context())
		},
		"bulk": func() error {
			return s.client.Note.CreateBulk(one(), s.client.Note.Create()).OnConflict(conflict).UpdateNewValues().Exec(t.Context())
		},
	} {
		s.log.take()
		err := call()
		wantError(t, what, err)
		if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, kmsencrypted.ErrUnsealed) {
			t.Errorf("%s: %v", what, err)
		}
		if sent := s.log.take(); len(sent) > 0 {
			t.Errorf("%s: sent %q", what, sent)
		}
	}
	got, err := s.client.Note.Get(t.Context(), id)
	must(t, err)
	if got.Text.Must() != email(0) {
		t.Errorf("the row is %v", got)
	}
	// What is not encrypted may be upserted.
	if e.dialect == dialect.Postgres {
		must(t, s.client.Tenant.Create().SetName("again").OnConflict(conflict).UpdateNewValues().Exec(t.Context()))
	}
}

func modifiers(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	for what, change := range map[string]func(*entsql.UpdateBuilder){
		"Set":       func(u *entsql.UpdateBuilder) { u.Set(customer.FieldEmail, email(1)) },
		"SetNull":   func(u *entsql.UpdateBuilder) { u.SetNull(customer.FieldEncryptedKmsKey) },
		"SetExpr":   func(u *entsql.UpdateBuilder) { u.Set(customer.FieldEmail, entsql.Expr("NULL")) },
		"SetTenant": func(u *entsql.UpdateBuilder) { u.SetNull(customer.FieldTenantID) },
	} {
		for how, call := range map[string]func() error{
			"Update":                 func() error { return s.client.Customer.Update().Modify(change).Exec(t.Context()) },
			"UpdateOne":              func() error { return c.Update().Modify(change).Exec(t.Context()) },
			"UpdateOne with a field": func() error { return c.Update().SetPhone(field.New(new(secret))).Modify(change).Exec(t.Context()) },
		} {
			s.log.take()
			err := call()
			wantError(t, what+" in "+how, err)
			if !errors.Is(err, kmsencrypted.ErrUnsealed) && !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s in %s: %v", what, how, err)
			}
			if sent := s.log.take(); slices.ContainsFunc(sent, func(sent string) bool { return sent != "BEGIN" }) {
				t.Errorf("%s in %s: sent %q", what, how, sent)
			}
		}
	}
	got, err := c.Update().SetEmail(field.New(email(2))).Modify(func(u *entsql.UpdateBuilder) { u.Add(customer.FieldVisits, 5) }).Save(t.Context())
	must(t, err)
	if got.Visits != 5 || s.get(t, c.ID).Email.Must() != email(2) {
		t.Errorf("the row is %v", got)
	}
	err = got.Update().SetEmail(field.New(email(3))).Modify(func(u *entsql.UpdateBuilder) { u.Where(entsql.EQ(customer.FieldVisits, 6)) }).Exec(t.Context())
	if !shop.IsNotFound(err) || s.get(t, c.ID).Email.Must() != email(2) {
		t.Errorf("a condition of a modifier that does not hold: %v", err)
	}
	_, err = s.client.Customer.Query().Modify(func(s *entsql.Selector) { s.Where(entsql.EQ(s.C(customer.FieldEmail), email(0))) }).Strings(t.Context())
	wantError(t, "a modifier with a plaintext", err, kmsencrypted.ErrUnsealed)
}

// rawStatements go around the entities: feature sql/execquery.
func rawStatements(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	a, b := "?", "?"
	if e.dialect == dialect.Postgres {
		a, b = "$1", "$2"
	}
	for _, inTx := range []bool{false, true} {
		client := s.client
		if inTx {
			tx, err := s.client.Tx(t.Context())
			must(t, err)
			defer tx.Rollback()
			client = tx.Client()
		}
		for _, raw := range []string{
			"UPDATE customers SET email_ciphertext = " + a + " WHERE name = " + b,
			"UPDATE customers SET name = " + b + " WHERE email_ciphertext = " + a,
			"INSERT INTO customers (email_ciphertext, name) VALUES (" + a + ", " + b + ")",
			"DELETE FROM customers WHERE lower(email_ciphertext) = " + a + " OR name = " + b,
		} {
			s.wantRefused(t, raw, func() error { _, err := client.ExecContext(t.Context(), raw, email(0), "x"); return err }, kmsencrypted.ErrUnsealed)
		}
		s.wantRefused(t, "a query", func() error {
			_, err := client.QueryContext(t.Context(), "SELECT name FROM customers WHERE email_ciphertext = "+a, email(0))
			return err
		}, kmsencrypted.ErrUnsealed)
		_, err := client.ExecContext(t.Context(), "UPDATE customers SET visits = visits + 1 WHERE id = "+a, c.ID)
		must(t, err)
		rows, err := client.QueryContext(t.Context(), "SELECT visits FROM customers WHERE id = "+a, c.ID)
		must(t, err)
		if !rows.Next() {
			t.Error("no row")
		}
		must(t, rows.Close())
		if inTx {
			got, err := client.Customer.Get(t.Context(), c.ID)
			must(t, err)
			if got.Visits != 2 {
				t.Errorf("in the transaction: %v", got)
			}
		}
	}
	if got := s.get(t, c.ID); e.dialect != dialect.SQLite && got.Visits != 1 || got.Email.Must() != email(0) {
		t.Errorf("the row is %v", got)
	}
}

// A client without the driver of the package writes and reads nothing encrypted.
func clients(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	plain := entsql.OpenDB(e.dialect, e.db)
	partial, err := kment.Wrap(plain, s.notes)
	must(t, err)
	for _, client := range []*shop.Client{shop.NewClient(shop.Driver(plain)), shop.NewClient(shop.Driver(partial))} {
		err := client.Customer.Create().SetName("x").SetEmail(field.New(email(1))).Exec(t.Context())
		wantError(t, "Create", err)
		if !errors.Is(err, kmsencrypted.ErrConfig) && !errors.Is(err, kmsencrypted.ErrUnsealed) {
			t.Errorf("Create = %v", err)
		}
		_, err = client.Customer.Query().All(t.Context())
		wantError(t, "All", err, kmsencrypted.ErrConfig)
		err = client.Customer.UpdateOneID(c.ID).SetEmail(field.New(email(1))).Exec(t.Context())
		wantError(t, "UpdateOneID", err, kmsencrypted.ErrConfig)
	}
	debug := s.client.Debug()
	got, err := debug.Customer.UpdateOneID(c.ID).SetEmail(field.New(email(2))).Save(t.Context())
	must(t, err)
	tx, err := debug.BeginTx(t.Context(), nil)
	must(t, err)
	got, err = tx.Customer.UpdateOne(got).SetEmail(field.New(email(3))).Save(t.Context())
	must(t, err)
	must(t, tx.Commit())
	if got := s.get(t, got.ID); got.Email.Must() != email(3) || s.client.Customer.Query().CountX(t.Context()) != 1 {
		t.Errorf("through the debug client: %v", got)
	}
}

func errorsHoldNoArguments(t *testing.T, e *env) {
	s := e.store(t)
	c := s.create(t, 1)[0]
	_, err := s.db.ExecContext(t.Context(), "CREATE UNIQUE INDEX names ON customers (name)")
	must(t, err)
	defer func() {
		drop := "DROP INDEX names"
		if e.dialect == dialect.MySQL {
			drop += " ON customers"
		}
		_, err := s.db.ExecContext(t.Context(), drop)
		must(t, err)
	}()
	for what, err := range map[string]error{
		"Create":     s.one(0).Exec(t.Context()),
		"CreateBulk": s.client.Customer.CreateBulk(s.one(5), s.one(0)).Exec(t.Context()),
		"UpdateOne":  s.one(6).SaveX(t.Context()).Update().SetName("name0").SetEmail(field.New(email(1))).Exec(t.Context()),
		"Update":     s.client.Customer.Update().Where(customer.Name("name6")).SetName("name0").Exec(t.Context()),
	} {
		wantError(t, what, err)
		if !shop.IsConstraintError(err) {
			t.Errorf("%s: no ConstraintError: %v", what, err)
		}
	}
	if n := s.client.Customer.Query().CountX(t.Context()); n != 2 || s.get(t, c.ID).Email.Must() != email(0) {
		t.Errorf("%d customers", n)
	}
}
