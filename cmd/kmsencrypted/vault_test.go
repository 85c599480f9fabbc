package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/vaultserver"
)

// Against a real server: doctor sees that a derived key checks the context and
// that another does not, and context-hash finds a request in the audit log.
func TestCommandVault(t *testing.T) {
	server := vaultserver.Start(t)
	root := server.Client(t, server.Token)
	const mount = "transit" // the provider's own
	if err := root.Sys().MountWithContext(t.Context(), mount, &api.MountInput{Type: "transit"}); err != nil && !strings.Contains(err.Error(), "in use") {
		t.Fatal(err)
	}
	for name, derived := range map[string]bool{"command-derived": true, "command-plain": false} {
		if _, err := root.Logical().WriteWithContext(t.Context(), mount+"/keys/"+name, map[string]any{"derived": derived}); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("VAULT_ADDR", server.Addr)
	t.Setenv("VAULT_TOKEN", server.Token)

	healthy := command(t, 0, "doctor", "--key", "vault/command-derived", "--clock", server.Addr, "model_name=User", "model_id=7")
	says(t, healthy, `✓ reachable, and the key can be used`)
	says(t, healthy, `✓ the context is checked`)
	says(t, healthy, `audit devices log each request with the context hashed`)
	says(t, healthy, `clock\n +✓`)
	says(t, command(t, 1, "doctor", "--key", "vault/command-plain"), `made without derived=true, so it ignores the encryption context`)
	says(t, command(t, 1, "doctor", "--key", "vault/command-none"), `there is no key`)

	log := filepath.Join(t.TempDir(), "audit.log")
	err := root.Sys().EnableAuditWithOptionsWithContext(t.Context(), "command", &api.EnableAuditOptions{Type: "file", Options: map[string]string{"file_path": log}})
	if err != nil && os.Getenv("KMSENCRYPTED_VAULT_ADDR") != "" {
		t.Skipf("the server in use admits no audit file here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Sys().DisableAudit("command") })
	command(t, 0, "doctor", "--key", "vault/command-derived", "model_name=User", "model_id=8")
	hash := strings.TrimSpace(command(t, 0, "context-hash", "--audit", "command", "--key", "vault/command-derived", "model_name=User", "model_id=8"))
	says(t, hash, `^hmac-sha256:[0-9a-f]{64}$`)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), hash); n < 2 {
		t.Errorf("%q is %d times in the audit log, want it for encrypt and decrypt", hash, n)
	}
	other := strings.TrimSpace(command(t, 0, "context-hash", "--audit", "command", "--key", "vault/command-derived", "model_name=User", "model_id=9"))
	if strings.Contains(string(text), other) {
		t.Error("the hash of another record is in the log")
	}
}
