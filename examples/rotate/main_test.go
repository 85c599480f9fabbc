package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func TestRotate(t *testing.T) {
	t.Parallel()
	var out, progress bytes.Buffer
	if err := run(t.Context(), 6000, &out, &progress); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), progress.String())
	}
	rest := out.String()
	for _, want := range []string{
		`6000 customers are sealed under version 1`,
		`customers   6,000 rows   v1 6,000   rewrap to v2   12,100 KMS calls`,
		`customers  [0-9,]+ rewrapped in .*, 0 failed  interrupted; run the same command to go on`,
		`customers   v1 [0-9,]+ · v2 [0-9,]+   [0-9,]+ keys to go to v2   rewrap active, pass 1`,
		`no: version 1 is still needed`,
		`customers  [0-9,]+ rewrapped in .*, 0 failed  done`,
		`customers  6,000 opened  clean`,
		`customers  6,000 replaced keys erased`,
		`yes: no record of customers is at version 1, and the records open`,
	} {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("no %q in what follows:\n%s", want, rest)
		}
		rest = rest[at[1]:]
	}
	if all := out.String() + progress.String(); strings.Contains(all, "example.org") {
		t.Error("the output holds a plaintext")
	}
}
