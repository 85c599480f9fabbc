package branch_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vaultserver"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
)

// TestServices counts the calls at the stand-in of AWS, and those that are made to a real
// Vault.
func TestServices(t *testing.T) {
	t.Parallel()
	t.Run("AWS", func(t *testing.T) {
		t.Parallel()
		server := awskms.New()
		t.Cleanup(server.Close)
		p, err := aws.New(server.Client(), server.AddKey("k"), aws.Options{})
		if err != nil {
			t.Fatal(err)
		}
		countCalls(t, p, func() int { return len(server.Calls("Decrypt")) })
	})
	t.Run("Vault", func(t *testing.T) {
		t.Parallel()
		server := vaultserver.Start(t)
		client := server.Client(t, server.Token)
		if _, err := client.Logical().WriteWithContext(t.Context(), "sys/mounts/transit-branch", map[string]any{"type": "transit"}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Logical().WriteWithContext(t.Context(), "transit-branch/keys/branches", map[string]any{"derived": true}); err != nil {
			t.Fatal(err)
		}
		p, err := vault.New(client, "vault/branches", vault.Options{Mount: "transit-branch"})
		if err != nil {
			t.Fatal(err)
		}
		countCalls(t, p, nil)
	})
}

// countCalls reads records of 100 branches 100,000 times in one process (or KMSENCRYPTED_READS
// times), and then one branch by 100 processes at once. decrypts returns the calls that the service saw; nil means that
// only the Box's observer counts them.
func countCalls(t *testing.T, service kmsencrypted.Provider, decrypts func() int) {
	var mu sync.Mutex
	observed := 0
	box, err := kmsencrypted.Config{
		Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: service}},
		Observer: func(_ context.Context, e kmsencrypted.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Op == kmsencrypted.OpUnwrap {
				observed++
			}
		},
	}.Box()
	if err != nil {
		t.Fatal(err)
	}
	if decrypts == nil {
		decrypts = func() int {
			mu.Lock()
			defer mu.Unlock()
			return observed
		}
	}
	store := newDir(t, branch.Limits{})
	start := func() *branch.Provider {
		p, err := branch.Open(t.Context(), store, box, byTenant)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const branches = 100
	reads := sizeOf(t, "KMSENCRYPTED_READS", 100_000) / branches // of each
	writer := start()
	wraps := make([][]byte, branches)
	contexts := make([]kmsencrypted.BoundContext, branches)
	for i := range branches {
		contexts[i] = tenant(t, fmt.Sprint("t", i))
		wraps[i] = wrap(t, writer, contexts[i])
	}
	before := decrypts()
	reader := start()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range reads / 10 {
				for i := range branches {
					opens(t, reader, wraps[i], contexts[i])
				}
			}
		})
	}
	all.Wait()
	got := decrypts() - before
	t.Logf("counted: %d reads of %d branches, %d calls", branches*reads, branches, got)
	if got != branches {
		t.Errorf("%d reads of %d branches: %d calls, want %d", branches*reads, branches, got, branches)
	}
	before = decrypts()
	const processes = 100
	for range processes {
		p := start()
		all.Go(func() {
			for range 10 {
				opens(t, p, wraps[0], contexts[0])
			}
		})
	}
	all.Wait()
	if got := decrypts() - before; got > processes {
		t.Errorf("%d processes at once on one branch: %d calls", processes, got)
	}
}
