package vet_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/kmsencrypted/kmsencrypted/kmsvet/vet"
)

// The corpus is a module of its own over the library, because kmsvet itself does not need it.
// Every mistake in it is found, and nothing else.
func TestCorpus(t *testing.T) {
	for folder, mark := range map[string]string{"mistakes": "// want `", "correct": "// ok"} {
		if n := count(t, folder, mark); n < 60 {
			t.Errorf("%s has %d lines with %q, want 60", folder, n, mark)
		} else {
			t.Logf("%s: %d", folder, n)
		}
	}
	analysistest.Run(t, analysistest.TestData(), all(vet.Analyzers), "./mistakes", "./correct")
}

// all is an analyzer that runs others: lines of the corpus say what is found, and not by which.
func all(list []*analysis.Analyzer) *analysis.Analyzer {
	return &analysis.Analyzer{Name: "all", Doc: "all analyzers", Requires: list[0].Requires, Run: func(p *analysis.Pass) (any, error) {
		for _, a := range list {
			if _, err := a.Run(p); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}}
}

func count(t *testing.T, folder, mark string) (n int) {
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n += len(regexp.MustCompile(regexp.QuoteMeta(mark)).FindAll(text, -1))
	}
	return n
}
