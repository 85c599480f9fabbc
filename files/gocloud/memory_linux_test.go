package gocloud

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"

	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

const childSize = "KMSENCRYPTED_TEST_CHILD_SIZE"

// An object of 1 GiB takes as much memory as one of 1 MiB, written to a bucket on a
// disk and read back. Each is measured in a process of its own, by the most
// that the kernel ever saw of it. Without CI=true it is 64 MiB, for want of
// patience; the race detector keeps a history of memory of its own, which has to fit
// into the margin.
func TestPeakMemory(t *testing.T) {
	if text := os.Getenv(childSize); text != "" {
		var size int64
		fmt.Sscan(text, &size)
		throughAndBack(t, size)
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		fmt.Println("peak:", strings.Fields(peak)[0])
		return
	}
	const small = 1 << 20
	large, margin := int64(64<<20), 8<<10 // KiB
	switch {
	case raceDetector:
		margin *= 4
	case os.Getenv("CI") == "true":
		large = 1 << 30
	}
	peak := func(size int64) (kib int) {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPeakMemory$")
		child.Env = append(os.Environ(), fmt.Sprint(childSize, "=", size), "TMPDIR="+t.TempDir())
		out, err := child.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, text, _ := strings.Cut(string(out), "peak: ")
		fmt.Sscan(text, &kib)
		return kib
	}
	s, l := peak(small), peak(large)
	t.Logf("at most %d KiB for 1 MiB, %d KiB for %d MiB", s, l, large>>20)
	if s == 0 || l > s+margin {
		t.Errorf("at most %d KiB for 1 MiB and %d KiB for %d MiB", s, l, large>>20)
	}
}

// throughAndBack writes an object and reads it back.
func throughAndBack(t *testing.T, size int64) {
	inner, err := fileblob.OpenBucket(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := Encrypt(inner, kmstest.Box(t))
	defer b.Close()
	src := func() io.Reader { return io.LimitReader(&pseudoRandom{}, size) }
	if err := b.Upload(t.Context(), "object", src(), &blob.WriterOptions{ContentType: "application/octet-stream"}); err != nil {
		t.Fatal(err)
	}
	r, err := b.NewReader(t.Context(), "object", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want, got := sha256.New(), sha256.New()
	if _, err := io.Copy(want, src()); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(got, r)
	if err != nil {
		t.Fatal(err)
	}
	if n != size || string(want.Sum(nil)) != string(got.Sum(nil)) {
		t.Errorf("%d bytes came back, not the %d that went in", n, size)
	}
}

// pseudoRandom gives the same bytes each time, quickly: a block of a prime size
// again and again.
type pseudoRandom struct{ at int }

var block = pattern(65521)

func (r *pseudoRandom) Read(p []byte) (n int, err error) {
	for n < len(p) {
		m := copy(p[n:], block[r.at:])
		n, r.at = n+m, (r.at+m)%len(block)
	}
	return n, nil
}
