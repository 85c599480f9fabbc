package main

import (
	"bytes"
	"testing"
)

func TestTenants(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	const want = `Each tenant has a branch key:
  acme     2 of 2 open, version 1
  globex   2 of 2 open, version 1
  initech  2 of 2 open, version 1

acme moves to a key of its own:
  acme     2 of 2 open, version 2
  globex   2 of 2 open, version 1
  initech  2 of 2 open, version 1

acme's key is disabled:
  acme     0 of 2 open, version 2: key-encryption key is missing or disabled
  globex   2 of 2 open, version 1
  initech  2 of 2 open, version 1

globex is erased:
  acme     2 of 2 open, version 2
  globex   0 of 2 open, version 1: branch is erased
  initech  2 of 2 open, version 1
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
