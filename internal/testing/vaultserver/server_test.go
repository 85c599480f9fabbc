package vaultserver_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/vaultserver"
)

func TestVaultServer(t *testing.T) {
	t.Parallel()
	server := vaultserver.Start(t)
	client := server.Client(t, server.Token)
	health, err := client.Sys().HealthWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !health.Initialized || health.Sealed {
		t.Errorf("health = %+v, want initialized and not sealed", health)
	}
	self, err := client.Auth().Token().LookupSelfWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("version %s with policies %v", health.Version, self.Data["policies"])
}
