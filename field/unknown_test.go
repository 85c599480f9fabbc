package field_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
)

func TestLooksEncrypted(t *testing.T) {
	t.Parallel()
	for column, want := range map[string]bool{
		"email_ciphertext": true, "encrypted_email": true, "encrypted_email_iv": true, "encrypted_kms_key": true, "encrypted_kms_key_phone": true,
		"email": false, "email_bidx": false, "ciphertexts": false,
		blindindex.ColumnName("email", 1, true):  false, // encrypted_email_bidx
		blindindex.ColumnName("email", 2, true):  false,
		blindindex.ColumnName("email", 2, false): false,
	} {
		if got := field.LooksEncrypted(column); got != want {
			t.Errorf("LooksEncrypted(%q) = %t, want %t", column, got, want)
		}
	}
}
