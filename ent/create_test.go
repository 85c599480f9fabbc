package kment_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop/customer"
	"github.com/kmsencrypted/kmsencrypted/field"
)

func init() {
	suite = append(suite,
		test{"CreateAndQuery", createAndQuery},
		test{"CreateWithID", createWithID},
		test{"CreateBulk", createBulk},
		test{"CreateBulkWithIDs", createBulkWithIDs},
		test{"CreateWithEdges", createWithEdges},
		test{"CreateNull", createNull},
		test{"CreateCopy", createCopy},
		test{"CreateAllOrNone", createAllOrNone},
		test{"CreateConstraint", createConstraint},
	)
}

func createAndQuery(t *testing.T, e *env) {
	s := e.store(t)
	var c *shop.Customer
	if wraps, unwraps := s.calls(func() { c = s.create(t, 1)[0] }); wraps != 2 || unwraps != 0 {
		t.Errorf("Create of two keys makes %d wraps and %d unwraps", wraps, unwraps)
	}
	if c.ID == 0 || c.Email.Must() != email(0) || c.Devices.Must()[secret] != devices(0)[secret] {
		t.Errorf("Create = %v", c)
	}
	var got *shop.Customer
	if _, unwraps := s.calls(func() { got = s.get(t, c.ID) }); unwraps != 2 {
		t.Errorf("Get makes %d unwraps, want one for each key", unwraps)
	}
	if got.Email.Must() != email(0) || string(got.Card.Must()) != secret || !got.Phone.IsNull() || got.Devices.Must()[secret] != devices(0)[secret] {
		t.Errorf("Get = %v", got)
	}
	// What Create returned can be used like what was read.
	c, err := c.Update().SetPhone(field.New(new(secret))).Save(t.Context())
	must(t, err)
	if got := s.get(t, c.ID); *got.Phone.Must() != secret || *c.Phone.Must() != secret || got.Email.Must() != email(0) {
		t.Errorf("after the update: %v", got)
	}
}

func createWithID(t *testing.T, e *env) {
	s := e.store(t)
	id := uuid.New()
	n, err := s.client.Note.Create().SetID(id).SetText(field.New(secret)).Save(t.Context())
	must(t, err)
	if n.ID != id || n.Text.Must() != secret || !n.Number.IsNull() {
		t.Errorf("Create = %v", n)
	}
	got, err := s.client.Note.Get(t.Context(), id)
	must(t, err)
	if got.Text.Must() != secret {
		t.Errorf("Get = %q", got.Text.Must())
	}
	other, err := s.client.Note.Create().SetText(field.New(secret)).Save(t.Context())
	must(t, err)
	if other.ID == id || other.ID == uuid.Nil {
		t.Errorf("a default id is %v", other.ID)
	}
}

func (s *store) builders(n int) (all []*shop.CustomerCreate) {
	for i := range n {
		all = append(all, s.one(i))
	}
	return all
}

func createBulk(t *testing.T, e *env) {
	s := e.store(t)
	const n = 20
	var all []*shop.Customer
	wraps, unwraps := s.calls(func() {
		var err error
		all, err = s.client.Customer.CreateBulk(s.builders(n)...).Save(t.Context())
		must(t, err)
	})
	if wraps != 2*n || unwraps != 0 {
		t.Errorf("%d wraps and %d unwraps", wraps, unwraps)
	}
	for i, c := range all {
		got := s.get(t, c.ID)
		if got.Name != c.Name || got.Email.Must() != email(i) || c.Email.Must() != email(i) || got.Devices.Must()[secret] != devices(i)[secret] {
			t.Errorf("customer %d = %v", i, got)
		}
	}
	var found []*shop.Customer
	if _, unwraps := s.calls(func() {
		var err error
		found, err = s.client.Customer.Query().Order(shop.Asc(customer.FieldID)).All(t.Context())
		must(t, err)
	}); unwraps != 2*n || len(found) != n {
		t.Errorf("%d customers with %d unwraps", len(found), unwraps)
	}
	for i, c := range found {
		if c.Email.Must() != email(i) {
			t.Errorf("customer %d = %v", i, c)
		}
	}
}

func createBulkWithIDs(t *testing.T, e *env) {
	s := e.store(t)
	var builders []*shop.NoteCreate
	for i := range 10 {
		builders = append(builders, s.client.Note.Create().SetText(field.New(email(i))))
	}
	s.log.take()
	all, err := s.client.Note.CreateBulk(builders...).Save(t.Context())
	must(t, err)
	if sent := s.log.take(); len(sent) > 3 {
		t.Errorf("%d statements: %q", len(sent), sent)
	}
	for i, n := range all {
		got, err := s.client.Note.Get(t.Context(), n.ID)
		must(t, err)
		if got.Text.Must() != email(i) {
			t.Errorf("note %d = %v", i, got)
		}
	}
}

// Edges in other tables take more statements, in a transaction of ent's own.
func createWithEdges(t *testing.T, e *env) {
	s := e.store(t)
	friends := s.create(t, 2)
	tenant, err := s.client.Tenant.Create().SetName("tenant").Save(t.Context())
	must(t, err)
	note, err := s.client.Note.Create().SetText(field.New(secret)).Save(t.Context())
	must(t, err)
	c, err := s.one(7).SetTenant(tenant).AddFriends(friends...).AddNotes(note).Save(t.Context())
	must(t, err)
	list, err := s.client.Customer.CreateBulk(s.one(8).AddFriends(c), s.one(9).AddFriends(c).SetTenant(tenant)).Save(t.Context())
	must(t, err)
	for i, c := range list {
		if got := s.get(t, c.ID); got.Email.Must() != email(8+i) {
			t.Errorf("customer %d = %v", i, got)
		}
	}
	got, err := s.client.Customer.Query().Where(customer.ID(c.ID)).WithFriends().WithNotes().WithTenant().Only(t.Context())
	must(t, err)
	if *got.TenantID != tenant.ID || got.Edges.Tenant.Name != "tenant" || len(got.Edges.Friends) != 4 || len(got.Edges.Notes) != 1 {
		t.Fatalf("the edges are %v", got.Edges)
	}
	if got.Edges.Notes[0].Text.Must() != secret || got.Edges.Friends[0].Email.Must() == got.Edges.Friends[1].Email.Must() || !strings.HasSuffix(got.Edges.Friends[0].Email.Must(), secret) {
		t.Errorf("the edges are %v", got.Edges)
	}
	through, err := tenant.QueryCustomers().Order(shop.Asc(customer.FieldID)).All(t.Context())
	must(t, err)
	if len(through) != 2 || through[0].Email.Must() != email(7) {
		t.Errorf("customers of the tenant are %v", through)
	}
}

func createNull(t *testing.T, e *env) {
	s := e.store(t)
	var c *shop.Customer
	if wraps, _ := s.calls(func() {
		var err error
		c, err = s.client.Customer.Create().SetName("none").Save(t.Context())
		must(t, err)
	}); wraps != 0 {
		t.Errorf("%d wraps for nothing", wraps)
	}
	c, err := c.Update().SetCard(field.New([]byte(secret))).Save(t.Context())
	must(t, err)
	if string(c.Card.Must()) != secret {
		t.Errorf("the first key of what was created: %v", c)
	}
	got := s.get(t, c.ID)
	if !got.Email.IsNull() || !c.Email.IsNull() || !got.EncryptedKmsKey.IsNull() {
		t.Errorf("Get = %v", got)
	}
	got, err = got.Update().SetEmail(field.New(email(1))).Save(t.Context())
	must(t, err)
	if got.Email.Must() != email(1) || s.get(t, c.ID).Email.Must() != email(1) {
		t.Errorf("after the first key: %v", got)
	}
	got, err = got.Update().ClearEmail().Save(t.Context())
	must(t, err)
	if !got.Email.IsNull() || !s.get(t, c.ID).Email.IsNull() {
		t.Errorf("after ClearEmail: %v", got)
	}
}

// A field of another entity is sealed again for the new one, unless it is closed.
func createCopy(t *testing.T, e *env) {
	s := e.store(t)
	a := s.get(t, s.create(t, 1)[0].ID)
	b, err := s.client.Customer.Create().SetName("copy").SetEmail(a.Email).SetEncryptedKmsKey(a.EncryptedKmsKey).SetEmailBidx(a.EmailBidx).Save(t.Context())
	must(t, err)
	if got := s.get(t, b.ID); got.Email.Must() != email(0) {
		t.Errorf("the copy has %v", got.Email)
	}
	closed, err := s.client.Customer.Query().Where(customer.ID(a.ID)).Select(customer.FieldEmail, customer.FieldEncryptedKmsKey).Only(lazily(t))
	must(t, err)
	s.wantRefused(t, "a closed field", func() error {
		return s.client.Customer.Create().SetName("closed").SetEmail(closed.Email).Exec(t.Context())
	}, kmsencrypted.ErrNotOpened)
}

func createAllOrNone(t *testing.T, e *env) {
	s := e.store(t)
	long := strings.Repeat("x", 300) // does not fit into MySQL's column
	if e.dialect != "mysql" {
		long = "name0" // nothing is unique there; count only
	}
	_, err := s.client.Customer.CreateBulk(s.one(0), s.one(1), s.one(2).SetName(long)).Save(t.Context())
	if e.dialect == "mysql" {
		wantError(t, "a name that is too long", err)
		if n := s.client.Customer.Query().CountX(t.Context()); n != 0 {
			t.Errorf("%d customers are left behind", n)
		}
	} else {
		must(t, err)
	}
}

func createConstraint(t *testing.T, e *env) {
	s := e.store(t)
	id := uuid.New()
	must(t, s.client.Note.Create().SetID(id).SetText(field.New(secret)).Exec(t.Context()))
	err := s.client.Note.Create().SetID(id).SetText(field.New(secret)).Exec(t.Context())
	wantError(t, "the same id twice", err)
	if !shop.IsConstraintError(err) {
		t.Errorf("the error is no ConstraintError: %v", err)
	}
	got, err := s.client.Note.Get(t.Context(), id)
	must(t, err)
	if got.Text.Must() != secret {
		t.Errorf("the note has %v", got.Text)
	}
}
