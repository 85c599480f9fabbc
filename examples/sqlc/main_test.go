package main

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

func TestSqlc(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := kmstest.Canary(t, "sqlite", filepath.Join(dir, "app.sqlite3"), "ada@example.org", "grace@example.org", "countess@example.org", "1815-12-10")
	var out bytes.Buffer
	if err := run(t.Context(), db, dir, &out); err != nil {
		t.Fatal(err)
	}
	const want = `1 Ada ada@example.org, printed by mistake: [redacted]
2 Grace grace@example.org, printed by mistake: [redacted]
found by address: Ada, born 1815-12-10
beside a rekey: kmsencrypted: update customers id=1 column encrypted_kms_key: row was changed by somebody else: reload it and try again
read again and saved: countess@example.org
`
	if got := out.String(); got != want {
		t.Errorf("output:\n%s\nwant:\n%s", got, want)
	}
}
