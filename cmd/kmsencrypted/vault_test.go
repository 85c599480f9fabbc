package main

import (
	"database/sql"
	"fmt"
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
	for name, derived := range map[string]bool{"command-derived": true, "command-plain": false, "customers": true} {
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
	// As the runbook says.
	says(t, command(t, 0, "doctor", "--key", "vault/customers"), `✓ the context is checked`)
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
	// As the runbook says, by a program that knows its key.
	config := configOf(t, "vault/customers")
	command(t, 0, "-c", config, "doctor", "model_name=User", "model_id=7")
	again := strings.TrimSpace(command(t, 0, "-c", config, "context-hash", "--audit", "command", "model_name=User", "model_id=7"))
	if text, err = os.ReadFile(log); err != nil || strings.Count(string(text), again) < 2 {
		t.Errorf("%q is not in the audit log, %v", again, err)
	}
	other := strings.TrimSpace(command(t, 0, "context-hash", "--audit", "command", "--key", "vault/command-derived", "model_name=User", "model_id=9"))
	if strings.Contains(string(text), other) {
		t.Error("the hash of another record is in the log")
	}
}

// configOf writes a file with one version, and makes its table.
func configOf(t *testing.T, key string) (path string) {
	t.Helper()
	dir := t.TempDir()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "app.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE people (id integer PRIMARY KEY, encrypted_kms_key text)"); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "kmsencrypted.yaml")
	text := fmt.Sprintf("database: {driver: sqlite, dsn: \"file:%s/app.sqlite3\"}\ncurrent: 1\nversions: {1: {key: %q}}\ntables: [{table: people}]\n", dir, key)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
