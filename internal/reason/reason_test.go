package reason_test

import (
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/reason"
)

// A reason is one line of a header, whatever somebody typed.
func TestReason(t *testing.T) {
	t.Parallel()
	if got := reason.Of(t.Context()); got != "" {
		t.Errorf("Of a context without a reason = %q", got)
	}
	for text, want := range map[string]string{
		"T-4711":                 "T-4711",
		" T-1 \n":                "T-1 ?",
		"a\r\nX-Vault-Token: b":  "a??X-Vault-Token: b",
		"für Ada":                "f?r Ada",
		strings.Repeat("ü", 300): strings.Repeat("?", 200),
		strings.Repeat("a", 201): strings.Repeat("a", 200),
	} {
		if got := reason.Of(reason.With(t.Context(), text)); got != want {
			t.Errorf("Of(With(%q)) = %q, want %q", text, got, want)
		}
	}
}
