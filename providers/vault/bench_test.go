package vault_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vaultserver"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
)

// BenchmarkVaultDecrypt: the limit is the official client by itself. All
// figures are per data key.
func BenchmarkVaultDecrypt(b *testing.B) {
	server := vaultserver.Start(b)
	client := server.Client(b, server.Token)
	write := func(path string, body map[string]any) {
		if _, err := client.Logical().WriteWithContext(b.Context(), path, body); err != nil {
			b.Fatal(err)
		}
	}
	const mount = "transit-bench"
	write("sys/mounts/"+mount, map[string]any{"type": "transit"})
	defer client.Sys().UnmountWithContext(context.Background(), mount)
	write(mount+"/keys/k", map[string]any{"derived": true})
	p, err := vault.New(client, "vault/k", vault.Options{Mount: mount})
	if err != nil {
		b.Fatal(err)
	}
	ec, err := kmsencrypted.Bind(user)
	if err != nil {
		b.Fatal(err)
	}
	ciphertext, err := p.Encrypt(b.Context(), secret, ec)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("limit", func(b *testing.B) {
		for b.Loop() {
			write(mount+"/decrypt/k", map[string]any{
				"ciphertext": string(ciphertext), "context": rubycompat.Encode64(ec.Bytes()),
			})
		}
	})
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			if _, err := p.Decrypt(b.Context(), ciphertext, ec); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, size := range []int{25, 250, 1000} {
		b.Run("batch of "+strconv.Itoa(size), func(b *testing.B) {
			items := make([]kmsencrypted.Wrapped, size)
			for i := range items {
				items[i] = kmsencrypted.Wrapped{Ciphertext: ciphertext, Context: ec}
			}
			n := 0
			for b.Loop() {
				if _, err := p.DecryptBatch(b.Context(), items); err != nil {
					b.Fatal(err)
				}
				n += size
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/key")
		})
	}
}
