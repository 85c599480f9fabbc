package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// crash kills a process of the server, which ends all others then, recovers from its log,
// and starts anew. It waits until the server answers.
func crash(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	var pid int
	must(t, pool.QueryRow(t.Context(), "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'").Scan(&pid))
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var now int
		err := pool.QueryRow(t.Context(), "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'").Scan(&now)
		if err == nil && now != pid {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server does not come back: %v", err)
		}
	}
}
