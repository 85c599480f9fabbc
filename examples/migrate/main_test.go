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
	const want = `an old row reads as      customer1@example.org
a new row, for old code  new@example.org
filled                   100 rows, then 150
compared                 1 rows differed
compared                 0 rows differed
encrypted                251 rows, from customer1@example.org to moved@example.org
found by index           251
`
	if out.String() != want {
		t.Errorf("output:\n%s\nwant:\n%s", out.String(), want)
	}
}
