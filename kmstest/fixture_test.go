package kmstest_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func TestSealed(t *testing.T) {
	type customer struct {
		ID    int64            `db:"id"`
		Key   field.Key        `db:"encrypted_kms_key"`
		Email field.Of[string] `db:"email_ciphertext"`
	}
	m, err := field.NewModel[customer](kmstest.Box(t), field.Config{Table: "customers"})
	if err != nil {
		t.Fatal(err)
	}
	rows := kmstest.Sealed(t, m, customer{ID: 1, Email: field.New("ada@example.org")}, customer{ID: 2})
	if stored, err := rows[0].Email.Value(); err != nil || stored == "ada@example.org" {
		t.Errorf("fixture holds %v, %v, want a ciphertext", stored, err)
	}
	if stored, err := rows[1].Email.Value(); err != nil || stored != nil {
		t.Errorf("fixture without a value holds %v, %v, want NULL", stored, err)
	}
}
