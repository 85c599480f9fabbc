package main

import (
	"bytes"
	"regexp"
	"testing"
)

// Random bytes are blanked.
func TestGORM(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(`(v1:|w)[A-Za-z0-9+/]+…`).ReplaceAllString(out.String(), "$1…")
	const want = `What lies in the database:
  Ada    key v1:…  email w…
  Grace  key v1:…  email w…

What the program sees:
  Ada    ada@example.org
  Grace  grace@example.org

Found by address: Ada

What is refused:
  Updates of many rows:
    kmsencrypted: update customers column email_ciphertext: unsupported operation: one ciphertext does not serve many records: set it in a record and save the record, or name it by its primary key alone, as in Where("id = ?", id)
  a map and a table's name:
    kmsencrypted: create customers column email_ciphertext: plaintext was not sealed: seal the record before writing it: set it in a record and save the record
  a search by plaintext:
    kmsencrypted: query customers column email_ciphertext: plaintext was not sealed: seal the record before writing it: an encrypted column cannot be searched: use a blind index and kmsgorm.Matches
  Pluck of ciphertexts:
    kmsencrypted: query customers column email_ciphertext: field is not opened: open the record first: read it into a record, or into fields of the same type
  a record that was replaced meanwhile:
    kmsencrypted: update customers id=1 column encrypted_kms_key: row was changed by somebody else: reload it and try again

Read again and saved: ada@example.net
`
	if got != want {
		t.Errorf("output:\n%s\nwant:\n%s", got, want)
	}
}
