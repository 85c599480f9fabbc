package rotatecli_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// elsewhere are the lines of the runbook that other tests run: TestCommandVault of the
// command kmsencrypted those that need a Vault, and TestUICommand the one that serves.
var elsewhere = map[string]bool{
	"kmsencrypted doctor --key vault/customers":                true,
	"ops context-hash --audit file model_name=User model_id=7": true,
	"ops ui": true,
}

// TestRunbook: the script runbook.txtar, or one beside it that ends well, runs every
// line of the runbook as it is typed. T and ID stand for a table and a primary key.
func TestRunbook(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/rotation-runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/runbook.txtar")
	if err != nil {
		t.Fatal(err)
	}
	run := make(map[string]bool)
	for _, line := range regexp.MustCompile(`(?m)^exits ([0-9]+) [a-z]+ (.*)$`).FindAllStringSubmatch(string(script), -1) {
		if line[1] == "1" || line[1] == "64" {
			t.Errorf("%q ends with code %s: it does not work as typed", line[2], line[1])
		}
		run["ops "+line[2]] = true
	}
	seen := 0
	for _, line := range regexp.MustCompile("`((?:ops|kmsencrypted) [^`]*)`").FindAllStringSubmatch(strings.ReplaceAll(string(page), "\n", " "), -1) {
		command := strings.NewReplacer("--table T ", "--table customers ", "--id ID", "--id 7").Replace(line[1])
		if seen++; !run[command] && !elsewhere[command] {
			t.Errorf("the runbook says %q, and no script runs it", line[1])
		}
	}
	if seen < 20 {
		t.Errorf("%d commands in the runbook: is it read as it is written?", seen)
	}
	t.Logf("%d commands", seen)
}
