package field_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type inventoried struct {
	ID       int64            `db:"id"`
	Plain    string           `db:"plain"`
	Key      field.Key        `db:"encrypted_kms_key"`
	PhoneKey field.Key        `db:"encrypted_kms_key_phone" kms:"name=phone"`
	Email    field.Of[string] `db:"email_ciphertext"`
	Notes    field.Of[string] `db:"notes_ciphertext" kms:"padding=16"`
	Phone    field.Of[string] `db:"phone_ciphertext" kms:"key=phone,lockbox"`
	SSN      field.Of[string] `db:"encrypted_ssn" kms:"attr_encrypted"`
	SSNIV    field.Part       `db:"encrypted_ssn_iv"`
	ByEmail  field.Index      `db:"email_bidx" kms:"of=Email,expression=lower"`
	ByPhone  field.Index      `db:"phone_bidx" kms:"of=Phone,algorithm=hmac_sha256,bits=12"`
}

// The inventory has every column that the model manages, once.
func TestInventory(t *testing.T) {
	t.Parallel()
	master, err := blindindex.NewMasterKey(make([]byte, blindindex.KeySize))
	must(t, err)
	m, err := field.NewModel[inventoried](kmstest.Box(t), field.Config{Table: "users", IndexKey: master})
	must(t, err)
	want := []field.Protected{
		{Column: "encrypted_kms_key", Kind: "key"},
		{Column: "encrypted_kms_key_phone", Kind: "key"},
		{Column: "email_ciphertext", Kind: "value", Key: "encrypted_kms_key", Leaks: "length"},
		{Column: "notes_ciphertext", Kind: "value", Key: "encrypted_kms_key", Leaks: "length to 16 bytes"},
		{Column: "encrypted_ssn", Kind: "value", Key: "encrypted_kms_key", Form: "attr_encrypted", Leaks: "length"},
		{Column: "phone_ciphertext", Kind: "value", Key: "encrypted_kms_key_phone", Form: "lockbox", Leaks: "length"},
		{Column: "encrypted_ssn_iv", Kind: "part", Key: "encrypted_kms_key", Of: []string{"encrypted_ssn"}},
		{Column: "email_bidx", Kind: "index", Of: []string{"email_ciphertext"}, How: "argon2id of lower", Leaks: "equality and frequency", Deterministic: true},
		{Column: "phone_bidx", Kind: "index", Of: []string{"phone_ciphertext"}, How: "hmac_sha256", Leaks: "equality and frequency, to 12 bits", Deterministic: true},
	}
	got := m.Adapter().Inventory()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Inventory() = %+v, want %+v", got, want)
	}
	var columns []string
	for _, p := range got {
		columns = append(columns, p.Column)
	}
	slices.Sort(columns)
	if managed := slices.Sorted(slices.Values(m.Adapter().Columns())); !slices.Equal(columns, managed) {
		t.Errorf("Inventory() has %v, and the model manages %v", columns, managed)
	}
}
