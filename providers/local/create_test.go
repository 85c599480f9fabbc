package local_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

func answer(used bool, err error) func() (bool, error) {
	return func() (bool, error) { return used, err }
}

// sameKey proves that opener holds the key under which wrapper wraps.
func sameKey(t *testing.T, wrapper, opener *local.Provider) {
	t.Helper()
	ec, err := kmsencrypted.Bind(kmsencrypted.Context{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := wrapper.Encrypt(t.Context(), []byte("data key"), ec)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := opener.Decrypt(t.Context(), ciphertext, ec); err != nil || string(got) != "data key" {
		t.Errorf("Decrypt with the other provider = %q, %v", got, err)
	}
}

func TestOpenOrCreate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.txt")
	first, err := local.OpenOrCreate(path, answer(false, nil))
	if err != nil {
		t.Fatal(err)
	}
	// The second start: there is data now, and nobody needs to ask.
	second, err := local.OpenOrCreate(path, func() (bool, error) {
		t.Error("inUse was called although the file exists")
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sameKey(t, first, second)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key file = %v, %v, want 0600", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, %v, want the key file only", left, err)
	}
}

// A key is never made in the place of one that data needs, and a file that does
// not parse is never replaced.
func TestOpenOrCreateRefuses(t *testing.T) {
	t.Parallel()
	outage := errors.New("connection refused")
	for name, c := range map[string]struct {
		content string // of the file; none if empty
		inUse   func() (bool, error)
		want    error
	}{
		"missing, data exists":  {"", answer(true, nil), fs.ErrNotExist},
		"missing, not known":    {"", answer(false, outage), outage},
		"missing, nobody asked": {"", nil, kmsencrypted.ErrConfig},
		"broken, data exists":   {"a 0102", answer(true, nil), kmsencrypted.ErrConfig},
		"broken, no data":       {"a 0102", answer(false, nil), kmsencrypted.ErrConfig},
	} {
		path := filepath.Join(t.TempDir(), "keys.txt")
		if c.content != "" {
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := local.OpenOrCreate(path, c.inUse); !errors.Is(err, c.want) || p != nil {
			t.Errorf("%s: OpenOrCreate = %v, %v, want %v", name, p, err, c.want)
		}
		if got, _ := os.ReadFile(path); string(got) != c.content {
			t.Errorf("%s: the file holds %d bytes, want %d", name, len(got), len(c.content))
		}
	}
}

// Another process may create the file, and use it, while this one asks.
func TestOpenOrCreateMeanwhile(t *testing.T) {
	t.Parallel()
	for _, used := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "keys.txt")
		var other *local.Provider
		p, err := local.OpenOrCreate(path, func() (_ bool, err error) {
			other, err = local.Create(path)
			return used, err
		})
		if err != nil {
			t.Fatalf("used %v: %v", used, err)
		}
		sameKey(t, p, other)
	}
}

// All who start at once get the one key, and nobody sees half a file.
func TestOpenOrCreateAtOnce(t *testing.T) {
	t.Parallel()
	const rounds, starters = 50, 8
	for range rounds {
		path := filepath.Join(t.TempDir(), "keys.txt")
		providers := make([]*local.Provider, starters)
		errs := make([]error, starters)
		var all sync.WaitGroup
		for i := range starters {
			all.Go(func() { providers[i], errs[i] = local.OpenOrCreate(path, answer(false, nil)) })
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for _, p := range providers {
			sameKey(t, providers[0], p)
		}
	}
}

func TestCreateNeverOverwrites(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.txt")
	before, err := local.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := local.Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: %v, want fs.ErrExist", err)
	}
	after, err := local.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	sameKey(t, before, after)
}
