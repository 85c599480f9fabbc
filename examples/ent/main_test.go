package main

import (
	"bytes"
	"regexp"
	"testing"
)

// Random bytes are blanked.
func TestEnt(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(`(v1:|w)[A-Za-z0-9+/]+…`).ReplaceAllString(out.String(), "$1…")
	const want = `What lies in the database:
  Ada   key v1:…  value w…
  7     key v1:…  value w…
  12    key …  value …

Found by address: Ada, ada@example.org
  an order of 7 with the note "Happy birthday"
  an order of 12 with the note ""

What is refused:
  an update of many rows:
    kmsencrypted: update customers column email_ciphertext: plaintext was not sealed: seal the record before writing it: one ciphertext cannot serve many rows: query the entities, and use UpdateOne for each
  a search by plaintext:
    kmsencrypted: query customers column email_ciphertext: plaintext was not sealed: seal the record before writing it: an encrypted column cannot be compared with a plaintext: declare a kment.Index, and use Where(kment.Lookup(…))
  ciphertexts as strings:
    sql/scan: failed scanning rows: kmsencrypted: query customers column email_ciphertext: field is not opened: open the record first: it is a ciphertext here: query the entities, or scan it into the field's own type
  a customer that was replaced meanwhile:
    kmsencrypted: update customers id=2 column encrypted_kms_key: row was changed by somebody else: reload it and try again

Read again and updated: ada@example.net
`
	if got != want {
		t.Errorf("output:\n%s\nwant:\n%s", got, want)
	}
}
