package field_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// A record that is sealed again before Saved.
func TestRecordSealOfARecordNotSavedYet(t *testing.T) {
	t.Parallel()
	opens := func(m *field.Model[customer], what string, c customer) {
		t.Helper()
		read := reload(t, c)
		if err := m.Open(t.Context(), &read); err != nil {
			t.Errorf("%s: Open: %v", what, err)
		}
	}
	p := kmstest.Memory()
	for _, complete := range []bool{false, true} {
		m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: p, RecordSeal: true}), field.Config{Table: "customers", Complete: complete})
		c := sealedCustomer(t, m, 7, "a")
		c.Email.SetNull()
		must(t, m.Seal(t.Context(), &c))
		opens(m, "new, then NULL", c)

		for name, again := range map[string]func(*customer) error{
			"Seal":   func(c *customer) error { c.Email.Set("b"); return m.Seal(t.Context(), c) },
			"NULL":   func(c *customer) error { c.Email.SetNull(); return m.Seal(t.Context(), c) },
			"Rewrap": func(c *customer) error { return m.Rewrap(t.Context(), c) },
			"Rekey":  func(c *customer) error { return m.Rekey(t.Context(), c) },
			"Open":   func(c *customer) error { c.Key.Wipe(); return m.Open(t.Context(), c) },
		} {
			rekeyed := reload(t, sealedCustomer(t, m, 7, "a"))
			must(t, m.Rekey(t.Context(), &rekeyed))
			if err := again(&rekeyed); err != nil {
				t.Errorf("Rekey, then %s: %v", name, err)
			}
			opens(m, "Rekey, then "+name, rekeyed)
		}
		full := reload(t, sealedCustomer(t, m, 7, "a"))
		setEveryField(&full)
		must(t, m.Seal(t.Context(), &full))
		full.Email.Set("c")
		if err := m.Seal(t.Context(), &full); err != nil {
			t.Errorf("full update, then Seal (Complete %v): %v", complete, err)
		}
	}
}

func TestRecordSealRewrapThenNull(t *testing.T) {
	t.Parallel()
	p := kmstest.Memory()
	recipes := map[int]kmsencrypted.Version{1: {Provider: p}, 2: {Provider: p, RecordSeal: true}}
	box1, err := kmsencrypted.Config{Current: 1, Versions: recipes}.Box()
	must(t, err)
	box2, err := kmsencrypted.Config{Current: 2, Versions: recipes}.Box()
	must(t, err)
	m1, m2 := newModel[customer](t, box1, field.Config{Table: "customers"}), newModel[customer](t, box2, field.Config{Table: "customers"})
	row := reload(t, sealedCustomer(t, m1, 7, "a"))
	must(t, m2.Rewrap(t.Context(), &row))
	row.Email.SetNull()
	must(t, m2.Seal(t.Context(), &row))
	read := reload(t, row)
	if err := m2.Open(t.Context(), &read); err != nil {
		t.Errorf("Rewrap to a sealing version, then NULL: Open: %v", err)
	}
}

// Somebody rewraps to a sealing version while this record is being changed.
func TestKeyChangedToASealingVersion(t *testing.T) {
	t.Parallel()
	p := kmstest.Memory()
	recipes := map[int]kmsencrypted.Version{1: {Provider: p}, 2: {Provider: p, RecordSeal: true}}
	box1, err := kmsencrypted.Config{Current: 1, Versions: recipes}.Box()
	must(t, err)
	box2, err := kmsencrypted.Config{Current: 2, Versions: recipes}.Box()
	must(t, err)
	m1, m2 := newModel[customer](t, box1, field.Config{Table: "customers"}), newModel[customer](t, box2, field.Config{Table: "customers"})
	base := sealedCustomer(t, m1, 7, "a")
	mine, theirs := reload(t, base), reload(t, base)
	mine.Email.Set("b")
	must(t, m1.Seal(t.Context(), &mine))
	must(t, m2.Rewrap(t.Context(), &theirs))
	wantError(t, "KeyChanged to a sealing version", m2.Adapter().KeyChanged(t.Context(), &mine, "encrypted_kms_key", column(t, theirs.Key)), kmsencrypted.ErrConflict)
}

// A record of which only the key column and NULLs were read.
func TestPartialReadWithoutCiphertextsMakesNoCall(t *testing.T) {
	t.Parallel()
	p := kmstest.NewService(kmstest.Memory())
	m := newModel[customer](t, nativeBox(t, kmsencrypted.Version{Provider: p.Provider(), RecordSeal: true}), field.Config{Table: "customers"})
	row := reload(t, sealedCustomer(t, m, 7, "a"))
	row.Email, row.Phone = field.Of[string]{}, field.Of[*string]{}
	must(t, m.Open(t.Context(), &row))
	if p.Count(kmsencrypted.OpUnwrap) != 0 {
		t.Errorf("Open made %d calls for a seal that it cannot check", p.Count(kmsencrypted.OpUnwrap))
	}
}
