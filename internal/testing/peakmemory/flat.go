// Package peakmemory tests that a large file takes no more memory than a small one.
package peakmemory

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/race"
)

// childSize is the environment variable with the size of the file for a child
// process.
const childSize = "KMSENCRYPTED_TEST_CHILD_SIZE"

// Flat fails if move takes over 8 MiB more memory for a file of 1 GiB than for one
// of 1 MiB. Each is measured in a process of its own, which runs this very test
// again, by the most that the kernel (Linux) ever saw of it. Without CI=true it is
// 64 MiB, for want of patience; the race detector keeps a history of memory of its
// own, which has to fit into the margin.
func Flat(t *testing.T, move func(t *testing.T, size int64)) {
	t.Helper()
	large := int64(64 << 20)
	if os.Getenv("CI") == "true" && !race.Detector {
		large = 1 << 30
	}
	FlatFrom(t, 1<<20, large, 8, move)
}

// FlatFrom is Flat for other sizes, and a margin in MiB.
func FlatFrom(t *testing.T, small, large int64, margin int, move func(t *testing.T, size int64)) {
	t.Helper()
	if text := os.Getenv(childSize); text != "" {
		var size int64
		fmt.Sscan(text, &size)
		move(t, size)
		fmt.Println("peak:", ownPeak(t))
		return
	}
	margin <<= 10 // KiB
	if race.Detector {
		margin *= 4
	}
	s, l := childPeak(t, small), childPeak(t, large)
	t.Logf("at most %d KiB for %d MiB, %d KiB for %d MiB", s, small>>20, l, large>>20)
	if s == 0 || l > s+margin {
		t.Errorf("at most %d KiB for %d MiB and %d KiB for %d MiB", s, small>>20, l, large>>20)
	}
}

// ownPeak returns the peak memory of this process in KiB.
func ownPeak(t *testing.T) string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	return strings.Fields(peak)[0]
}

func childPeak(t *testing.T, size int64) (kib int) {
	run := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+run)
	child.Env = append(os.Environ(), fmt.Sprint(childSize, "=", size), "TMPDIR="+t.TempDir())
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, text, _ := strings.Cut(string(out), "peak: ")
	fmt.Sscan(text, &kib)
	return kib
}
