package attach_test

import (
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

const (
	childKind = "KMSENCRYPTED_TEST_CHILD_KIND"
	childSize = "KMSENCRYPTED_TEST_CHILD_SIZE"
)

// A file of 1 GiB takes as much memory as one of 1 MiB, uploaded and read back. Each
// is measured in a process of its own, by the most that the kernel ever saw of it.
// Without CI=true it is 64 MiB, for want of patience; the race detector keeps a
// history of memory of its own, which has to fit into the margin.
func TestPeakMemory(t *testing.T) {
	if kind := os.Getenv(childKind); kind != "" {
		var size int64
		fmt.Sscan(os.Getenv(childSize), &size)
		throughAndBack(t, kind, size)
		status, err := os.ReadFile("/proc/self/status")
		must(t, err)
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
	for _, kind := range []string{"native", "lockbox"} {
		peak := func(size int64) (kib int) {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPeakMemory$")
			child.Env = append(os.Environ(), childKind+"="+kind, fmt.Sprint(childSize, "=", size), "TMPDIR="+t.TempDir())
			out, err := child.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", kind, err, out)
			}
			_, text, _ := strings.Cut(string(out), "peak: ")
			fmt.Sscan(text, &kib)
			return kib
		}
		s, l := peak(small), peak(large)
		t.Logf("%s: at most %d KiB for 1 MiB, %d KiB for %d MiB", kind, s, l, large>>20)
		if s == 0 || l > s+margin {
			t.Errorf("%s: at most %d KiB for 1 MiB and %d KiB for %d MiB", kind, s, l, large>>20)
		}
	}
}

// throughAndBack uploads a file and reads it back.
func throughAndBack(t *testing.T, kind string, size int64) {
	dir := t.TempDir()
	src := func() io.Reader { return io.LimitReader(&pseudoRandom{}, size) }
	var f *attach.File
	if kind == "native" {
		provider, err := local.Create(filepath.Join(dir, "keys.txt"))
		must(t, err)
		w := newWorldAt(t, sqlite, sqlite.dsn(t), provider, openDir(t, filepath.Join(dir, "bucket")), nil)
		c := w.insert(t, 1)
		p, err := w.manager.Upload(t.Context(), c, "license", src(), attach.Options{Size: size})
		must(t, err)
		a, err := w.commit(t, p)
		must(t, err)
		f, err = w.manager.Open(t.Context(), a)
		must(t, err)
	} else {
		w := newRailsWorld(t)
		w.exec(t, "DELETE FROM active_storage_attachments WHERE record_id = 1")
		d := w.read(t, 1)
		p, err := w.rails.Upload(t.Context(), d, "photo", src(), attach.Options{Size: size})
		must(t, err)
		var b *attach.Blob
		must(t, w.transaction(t, func(tx *sql.Tx) error {
			b, err = p.Commit(t.Context(), tx)
			return err
		}))
		f, err = w.rails.Open(t.Context(), d, b)
		must(t, err)
	}
	defer f.Close()
	want, got := sha256.New(), sha256.New()
	_, err := io.Copy(want, src())
	must(t, err)
	n, err := io.Copy(got, f)
	must(t, err)
	if n != size || string(want.Sum(nil)) != string(got.Sum(nil)) {
		t.Errorf("%s: %d bytes came back, not the %d that went in", kind, n, size)
	}
}

// pseudoRandom gives the same bytes each time, quickly: a block of a prime size
// again and again.
type pseudoRandom struct{ at int }

var block = random(1, 65521)

func (r *pseudoRandom) Read(p []byte) (n int, err error) {
	for n < len(p) {
		m := copy(p[n:], block[r.at:])
		n, r.at = n+m, (r.at+m)%len(block)
	}
	return n, nil
}
