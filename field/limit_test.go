package field_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/mac"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// The limit does the same job: under the keys of a data key each side opens the
// columns of the other.
func TestNativeLimit(t *testing.T) {
	t.Run("text", func(t *testing.T) { testLimit[five](t) })
	t.Run("binary", func(t *testing.T) { testLimit[fiveBinary](t) })
}

func testLimit[R any, P fiveFields[R]](t *testing.T) {
	m, r := sealedFive[R, P](t)
	c := limitOf(t, m, r)
	read := newFive[R, P]()
	columns := c.Seal()
	must(t, read.key().Scan(column(t, r.key())))
	for i, f := range read.fields() {
		must(t, f.Scan(columns[i]))
	}
	must(t, m.Open(t.Context(), read))
	var ours [5]string
	for i, f := range read.fields() {
		if got, err := f.Get(); got != limit.Plaintexts[i] || err != nil {
			t.Errorf("column %d of the limit opens as %q, %v", i, got, err)
		}
		switch column := column(t, r.fields()[i]).(type) {
		case string:
			ours[i] = column
		case []byte:
			ours[i] = string(column)
		}
	}
	if got, err := c.Open(ours); got != limit.Plaintexts || err != nil {
		t.Errorf("the limit opens our columns as %q, %v", got, err)
	}
}

// limitOf returns the limit under the data key of a record.
func limitOf[R any, P fiveFields[R]](t *testing.T, m *field.Model[R], r P) limit.Cipher {
	t.Helper()
	key, err := m.Adapter().DataKeys(t.Context(), "encrypted_kms_key", r)
	must(t, err)
	raw, err := key[0].Raw()
	must(t, err)
	keys, err := mac.Expand(raw, "kmsencrypted/1 record", 64)
	must(t, err)
	return limit.NewCipher(keys[:32], keys[32:32+kmsencrypted.KeyTagSize], r.isBinary())
}
