package field_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// A record that was read again gets the data key that its earlier copy got meanwhile, but
// not one that is for another place, or with a seal over what only the copy has, or that
// the row had before.
func TestAddSharedKey(t *testing.T) {
	t.Parallel()
	read := func(key any) *tenantRow {
		row := &tenantRow{ID: 1, Tenant: "acme"}
		must(t, row.Key.Scan(key))
		must(t, row.Email.Scan(nil))
		return row
	}
	for name, c := range map[string]struct {
		sealed bool // under a record seal
		then   func(m *field.Model[tenantRow], earlier *tenantRow) *tenantRow
		same   bool
	}{
		"not written": {then: func(_ *field.Model[tenantRow], earlier *tenantRow) *tenantRow { return earlier }, same: true},
		"sealed since": {then: func(m *field.Model[tenantRow], earlier *tenantRow) *tenantRow {
			earlier.Email.Set("a@example.org")
			must(t, m.Seal(t.Context(), earlier))
			return earlier
		}, same: true},
		"moved": {then: func(m *field.Model[tenantRow], earlier *tenantRow) *tenantRow {
			earlier.Tenant = "globex"
			earlier.Email.Set("a@example.org")
			must(t, m.Seal(t.Context(), earlier))
			return earlier
		}},
		"under a record seal": {sealed: true, then: func(_ *field.Model[tenantRow], earlier *tenantRow) *tenantRow { return earlier }},
		"read with a key": {then: func(_ *field.Model[tenantRow], earlier *tenantRow) *tenantRow {
			text, err := earlier.Key.Value()
			must(t, err)
			return read(text)
		}},
	} {
		m := tenantModel(t, kmsencrypted.Version{RecordSeal: c.sealed})
		add := func(row, earlier *tenantRow) {
			t.Helper()
			must(t, m.Adapter().AddSharedKey(t.Context(), "encrypted_kms_key", row, earlier))
		}
		earlier, first, second := read(nil), read(nil), read(nil)
		add(first, earlier)
		if a, b := column(t, first.Key), column(t, earlier.Key); a != b {
			t.Errorf("%s: the copy took over %s, not %s", name, b, a)
		}
		earlier = c.then(m, earlier)
		add(second, earlier)
		keys, err := m.Adapter().DataKeys(t.Context(), "encrypted_kms_key", first, second)
		must(t, err)
		if keys[0].Equal(keys[1]) != c.same {
			t.Errorf("%s: the same data key: %v, want %v", name, !c.same, c.same)
		}
		// Written in a transaction that was rolled back or not.
		if w, err := m.Adapter().Write(earlier); c.same && (err != nil || len(w.Where) == 0 || w.Where[len(w.Where)-1].Value != nil || len(w.Where[len(w.Where)-1].Or) != 1) {
			t.Errorf("%s: Write = %+v, %v, want a key column that is NULL or what was sent", name, w, err)
		}
	}
}
