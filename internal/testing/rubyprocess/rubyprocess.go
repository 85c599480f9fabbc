// Package rubyprocess runs scripts with the Ruby gems, to test against them.
package rubyprocess

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Run runs a script with the gems it requires and returns its output. Without Ruby
// or one of the gems the test is skipped; with CI=true it fails. The gems are
// those of Debian's packages.
func Run(t *testing.T, gems []string, stdin io.Reader, script string, args ...string) []byte {
	t.Helper()
	requires := "require 'stringio'" // which lockbox 0.6 forgets to require
	for _, gem := range gems {
		requires += "; require '" + gem + "'"
	}
	if err := exec.CommandContext(t.Context(), "ruby", "-e", requires).Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no ruby with %s: %v", strings.Join(gems, ", "), err)
		}
		t.Skipf("no ruby with %s", strings.Join(gems, ", "))
	}
	command := exec.CommandContext(t.Context(), "ruby", append([]string{script}, args...)...)
	command.Stdin = stdin
	out, err := command.Output()
	if err != nil {
		var stderr []byte
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			stderr = bytes.TrimSpace(exit.Stderr)
		}
		t.Fatalf("ruby %s: %v\n%s", script, err, stderr)
	}
	return out
}
