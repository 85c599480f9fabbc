package main

import (
	"bytes"
	"testing"
)

func TestSQLiteProgram(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	const want = `1 Ada ada@example.org, printed by mistake: [redacted]
2 Grace grace@example.org, printed by mistake: [redacted]

found by address: Grace
after the update: Grace Hopper admiral@example.org

beside a rekey:
  kmsencrypted: update customers id=2 column encrypted_kms_key: row was changed by somebody else: reload it and try again
  read again and repeated: rear.admiral@example.org
`
	if got := out.String(); got != want {
		t.Errorf("output:\n%s\nwant:\n%s", got, want)
	}
}
