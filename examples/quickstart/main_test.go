package main

import (
	"bytes"
	"regexp"
	"testing"
)

// The output is what the README promises; random bytes are blanked.
func TestQuickstart(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(`(v1:|w)[A-Za-z0-9+/]+…`).ReplaceAllString(out.String(), "$1…")
	const want = `What lies in the database:
  Ada    key v1:…  email w…  phone w…
  Grace  key v1:…  email w…  phone NULL

Printed by mistake:     [redacted]

What the program sees:
  Ada, ada@example.org, born 10 December 1815, +44 20 7946 0958, ["likes engines" "pays on time"]

What is refused:
  a ciphertext copied to another row:
    kmsencrypted: open customers id=2 column email_ciphertext: sealed under another data key
  a whole row under another id, so under the wrong context:
    kmsencrypted: open customers id=2 column encrypted_kms_key with local key local:KEYS version 1: does not decrypt: wrong key, wrong context or changed bytes
  plaintext where a ciphertext should be:
    kmsencrypted: open customers id=1 column email_ciphertext: not a ciphertext: the column may hold plaintext

Ada moves to version 2, another key:
  version 1 -> 2, still ada@example.org
`
	got = regexp.MustCompile(`local:\S+keys.txt`).ReplaceAllString(got, "local:KEYS")
	if got != want {
		t.Errorf("output:\n%s\nwant:\n%s", got, want)
	}
}
