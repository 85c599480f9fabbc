package files

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
)

// BenchmarkTwoWorkers tells how many times as fast two workers are as one, on the
// wall. It needs two idle cores.
func BenchmarkTwoWorkers(b *testing.B) {
	one, two := ours(1), ours(2)
	b.Run("encrypt", func(b *testing.B) { against.PairCores(b, "times", one.encryptAll(), two.encryptAll()) })
	b.Run("decrypt", func(b *testing.B) {
		decrypt := func(p peer) func() {
			return p.decryptAll(job.OrPanic(p.object(b.TempDir(), make([]byte, objectSize))))
		}
		against.PairCores(b, "times", decrypt(one), decrypt(two))
	})
}
