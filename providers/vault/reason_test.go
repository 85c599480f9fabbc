package vault_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/reason"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vaultserver"
)

// The audit log of a real server has the reason, single or in a batch, once it was told to log
// the header.
func TestReasonVault(t *testing.T) {
	e := newEngine(t, vaultserver.Start(t))
	e.newKey(t, "derived", true)
	log := filepath.Join(t.TempDir(), "audit.log")
	device := "reason-" + e.mount
	err := e.root.Sys().EnableAuditWithOptionsWithContext(t.Context(), device, &api.EnableAuditOptions{Type: "file", Options: map[string]string{"file_path": log}})
	if err != nil && os.Getenv("KMSENCRYPTED_VAULT_ADDR") != "" {
		t.Skipf("the server in use admits no audit file here: %v", err)
	}
	must(t, err)
	t.Cleanup(func() { e.root.Sys().DisableAudit(device) })
	_, err = e.root.Logical().WriteWithContext(t.Context(), "sys/config/auditing/request-headers/X-Kms-Reason", map[string]any{"hmac": false})
	must(t, err)
	p := e.provider(t, "derived", false)
	sealed, err := p.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	logged := func(text string) bool {
		lines, err := os.ReadFile(log)
		must(t, err)
		return strings.Contains(string(lines), text)
	}
	if logged("x-kms-reason") {
		t.Error("a reason is logged that nobody gave")
	}
	_, err = p.Decrypt(reason.With(t.Context(), "T-4711"), sealed, bind(t, user))
	must(t, err)
	if !logged(`"x-kms-reason":["T-4711"]`) {
		t.Error("the reason is not in the log")
	}
	results, err := p.DecryptBatch(reason.With(t.Context(), "T-4712"), []kmsencrypted.Wrapped{{Ciphertext: sealed, Context: bind(t, user)}})
	must(t, err)
	must(t, results[0].Err)
	if !logged(`"x-kms-reason":["T-4712"]`) {
		t.Error("the reason of a batch is not in the log")
	}
}
