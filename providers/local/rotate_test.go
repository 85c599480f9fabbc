package local_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

func TestRotate(t *testing.T) {
	before, path := create(t)
	ec, err := kmsencrypted.Bind(kmsencrypted.Context{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	old, err := before.Encrypt(t.Context(), []byte("x"), ec)
	if err != nil {
		t.Fatal(err)
	}
	after, err := local.Rotate(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := after.Decrypt(t.Context(), old, ec); err != nil || string(got) != "x" {
		t.Errorf("after Rotate: %q, %v", got, err)
	}
	renewed, err := after.Encrypt(t.Context(), []byte("x"), ec)
	if err != nil {
		t.Fatal(err)
	}
	_, err = before.Decrypt(t.Context(), renewed, ec)
	if !errors.Is(err, kmsencrypted.ErrDecrypt) || !strings.Contains(err.Error(), "is not in local:") {
		t.Errorf("a key that the file did not have: %v, want ErrDecrypt that names it", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file after Rotate: %v, %v, want mode 0600", info.Mode(), err)
	}
	if _, err := local.Create(path); err == nil {
		t.Error("Create overwrote a key file")
	}
}

// Goroutines and processes that rotate one file at once lose no key: what each of
// them wraps afterwards opens with the file.
func TestRotateAtOnce(t *testing.T) {
	t.Parallel()
	ec, err := kmsencrypted.Bind(kmsencrypted.Context{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	const goroutines, processes = 4, 3
	for range 10 {
		_, path := create(t)
		wrapped := make([][]byte, goroutines)
		errs := make([]error, goroutines+processes)
		var all sync.WaitGroup
		for i := range goroutines {
			all.Go(func() {
				p, err := local.Rotate(path)
				if err == nil {
					wrapped[i], err = p.Encrypt(t.Context(), []byte("x"), ec)
				}
				errs[i] = err
			})
		}
		for i := range processes {
			all.Go(func() {
				cmd := exec.Command(os.Args[0], "-test.run=^TestRotateProcess$")
				cmd.Env = append(os.Environ(), rotatePath+"="+path)
				if out, err := cmd.CombinedOutput(); err != nil {
					errs[goroutines+i] = fmt.Errorf("%w: %s", err, out)
				}
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		p, err := local.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, ciphertext := range wrapped {
			if got, err := p.Decrypt(t.Context(), ciphertext, ec); err != nil || string(got) != "x" {
				t.Errorf("Decrypt = %q, %v", got, err)
			}
		}
		if got, want := len(ids(t, path)), 1+goroutines+processes; got != want {
			t.Errorf("the file holds %d keys, want %d", got, want)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
			t.Errorf("the folder holds %v, %v, want the key file only", left, err)
		}
	}
}

const rotatePath = "KMSENCRYPTED_TEST_ROTATE"

// TestRotateProcess is a process of TestRotateAtOnce.
func TestRotateProcess(t *testing.T) {
	path := os.Getenv(rotatePath)
	if path == "" {
		t.Skip("runs as a process of TestRotateAtOnce")
	}
	if _, err := local.Rotate(path); err != nil {
		t.Fatal(err)
	}
}

// Two machines have copies of one key file and rotate them on the same day.
func TestRotateCopies(t *testing.T) {
	t.Parallel()
	_, path := create(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 100 {
		copied := filepath.Join(t.TempDir(), "keys.txt")
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := local.Rotate(copied); err != nil {
			t.Fatal(err)
		}
		id := ids(t, copied)[0]
		if seen[id] {
			t.Fatalf("two copies got the key id %s", id)
		}
		seen[id] = true
	}
}

// Kubernetes and configuration tools link to a file in another folder.
func TestRotateLink(t *testing.T) {
	t.Parallel()
	before, file := create(t)
	link := filepath.Join(t.TempDir(), "link.txt")
	if err := os.Symlink(file, link); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	after, err := local.Rotate(link)
	if err != nil {
		t.Fatal(err)
	}
	sameKey(t, before, after)
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v, want a link", info, err)
	}
	direct, err := local.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	sameKey(t, after, direct)
	if left, err := os.ReadDir(filepath.Dir(link)); err != nil || len(left) != 1 {
		t.Errorf("the folder of the link holds %v, %v, want the link only", left, err)
	}
}

// ids returns the ids of the keys in a file.
func ids(t *testing.T, path string) (ids []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		id, _, _ := strings.Cut(line, " ")
		ids = append(ids, id)
	}
	return ids
}
