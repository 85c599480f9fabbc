package main

import (
	"bytes"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
)

func TestPostgresProgram(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), dbserver.Postgres(t), &out); err != nil {
		t.Fatal(err)
	}
	const want = `done: 2000 rewrapped, 0 conflicts, 0 failed
verified: 2000 opened, clean: true
`
	if got := out.String(); got != want {
		t.Errorf("output:\n%s\nwant:\n%s", got, want)
	}
}
