package main

import (
	"bytes"
	"testing"
)

func TestMigrate(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	const want = `a new row, for old programs   new@example.org
what an old program wrote     moved@example.org
filled or brought up to date  251 rows
may be switched               true
release 2, for release 1      switched@example.org
found by index                251
`
	if out.String() != want {
		t.Errorf("output:\n%s\nwant:\n%s", out.String(), want)
	}
}
