package kment_test

import (
	"strconv"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop/customer"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func init() {
	suite = append(suite,
		test{"MoveUnderOneKey", func(t *testing.T, e *env) { move(t, e, false) }},
		test{"MoveToAnotherKey", func(t *testing.T, e *env) { move(t, e, true) }},
		test{"MoveBesideOthers", moveBesideOthers},
		test{"TenantsOfOneStatement", tenantsOfOneStatement},
	)
}

// tenants is a store whose contexts have the tenant, under one key or one of each.
func (e *env) tenants(t *testing.T, keyEach bool) *store {
	t.Helper()
	tenantOf := func(s kmsencrypted.Subject) string {
		if c, ok := s.Record.(*shop.Customer); ok && c.TenantID != nil {
			return strconv.Itoa(*c.TenantID)
		}
		return ""
	}
	k := kmstest.NewService(kmstest.Memory())
	return e.with(t, k, config(k, func(v *kmsencrypted.Version) {
		v.Context = func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"tenant": tenantOf(s), "id": s.ID[0]}, nil
		}
		if !keyEach {
			return
		}
		all := map[string]kmsencrypted.Provider{}
		for i := range 1000 {
			all[strconv.Itoa(i)] = kmstest.Memory()
		}
		all[""] = k.Provider()
		v.Provider = nil
		v.ProviderFor = func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
			return all[tenantOf(s)], nil
		}
	}))
}

func (s *store) tenant(t testing.TB, name string) int {
	t.Helper()
	one, err := s.client.Tenant.Create().SetName(name).Save(t.Context())
	must(t, err)
	return one.ID
}

// wantAll checks that an entity opens with all that one(n) set.
func (s *store) wantAll(t testing.TB, what string, id, n int) *shop.Customer {
	t.Helper()
	got := s.get(t, id)
	if got.Email.Must() != email(n) || got.Devices.Must()[secret] != devices(n)[secret] || string(got.Card.Must()) != secret {
		t.Errorf("%s: %v", what, got)
	}
	return got
}

func move(t *testing.T, e *env, keyEach bool) {
	s := e.tenants(t, keyEach)
	a, b := s.tenant(t, "a"), s.tenant(t, "b")
	c, err := s.one(1).SetTenantID(a).Save(t.Context())
	must(t, err)
	before, _ := c.EncryptedKmsKey.Value()
	c = s.wantAll(t, "created", c.ID, 1)
	c, err = c.Update().SetTenantID(b).Save(t.Context())
	must(t, err)
	if after, _ := c.EncryptedKmsKey.Value(); after == before {
		t.Error("the key column is unchanged")
	}
	s.wantAll(t, "moved", c.ID, 1)
	c, err = c.Update().ClearTenantID().SetName("none").Save(t.Context())
	must(t, err)
	if got := s.wantAll(t, "moved to none", c.ID, 1); got.TenantID != nil || got.Name != "none" {
		t.Errorf("the row is %v", got)
	}
	c, err = s.client.Customer.UpdateOneID(c.ID).SetTenantID(a).SetEmail(field.New(email(2))).SetDevices(field.New(devices(2))).Save(t.Context())
	must(t, err)
	s.wantAll(t, "moved with a change", c.ID, 2)
	found, err := s.client.Customer.Query().Where(customer.TenantID(a), s.byEmail(email(2))).Only(t.Context())
	must(t, err)
	tx, err := s.client.Tx(t.Context())
	must(t, err)
	moved, err := tx.Customer.UpdateOne(found).SetTenantID(b).Save(t.Context())
	must(t, err)
	_, err = tx.Customer.UpdateOne(moved).SetPhone(field.New(new(secret))).Save(t.Context())
	must(t, err)
	must(t, tx.Rollback())
	s.wantAll(t, "after the rollback", c.ID, 2)
	_, err = found.Update().SetTenantID(b).Save(t.Context())
	must(t, err)
	s.wantAll(t, "moved again", c.ID, 2)
}

func moveBesideOthers(t *testing.T, e *env) {
	s := e.tenants(t, false)
	a, b, c := s.tenant(t, "a"), s.tenant(t, "b"), s.tenant(t, "c")
	made, err := s.one(1).SetTenantID(a).Save(t.Context())
	must(t, err)
	one, other := s.get(t, made.ID), s.get(t, made.ID)
	must(t, one.Update().SetTenantID(b).Exec(t.Context()))
	err = other.Update().SetTenantID(c).Exec(t.Context())
	wantError(t, "a second move", err, kmsencrypted.ErrConflict)
	if got := s.wantAll(t, "after both", made.ID, 1); *got.TenantID != b {
		t.Errorf("the row is %v", got)
	}
	// A value that was sealed before the move may be written after it: the data key is
	// the same.
	err = other.Update().SetPhone(field.New(new(secret))).Exec(t.Context())
	if err != nil {
		wantError(t, "an update beside a move", err, kmsencrypted.ErrConflict)
	}
	s.wantAll(t, "after the update", made.ID, 1)
}

func tenantsOfOneStatement(t *testing.T, e *env) {
	s := e.tenants(t, true)
	a, b := s.tenant(t, "a"), s.tenant(t, "b")
	all, err := s.client.Customer.CreateBulk(s.one(0).SetTenantID(a), s.one(1), s.one(2).SetTenantID(b)).Save(t.Context())
	must(t, err)
	for i, c := range all {
		s.wantAll(t, "in a bulk", c.ID, i)
	}
	list, err := s.client.Customer.Query().WithTenant().All(t.Context())
	must(t, err)
	if len(list) != 3 {
		t.Errorf("%d customers", len(list))
	}
}
