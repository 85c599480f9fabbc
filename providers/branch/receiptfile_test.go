package branch_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// What has begun can be completed: its receipt leaves room for a longer one.
func TestLongReceipts(t *testing.T) {
	t.Parallel()
	receipts := receiptsOf(t, newDir(t, branch.Limits{}))
	r := branch.Receipt{Kind: branch.ErasureBegun, Name: branch.Name{Branch: "a"}, At: time.Now(), Reason: strings.Repeat("x", 1<<19)}
	if err := receipts.Append(t.Context(), r); !errors.Is(err, kmsencrypted.ErrTooLarge) {
		t.Errorf("a receipt of half the limit that an erasure has begun: %v, want ErrTooLarge", err)
	}
	r.Kind = branch.ErasureDone
	if err := receipts.Append(t.Context(), r); err != nil {
		t.Errorf("the receipt that completes it: %v", err)
	}
	r.Reason += r.Reason
	if err := receipts.Append(t.Context(), r); !errors.Is(err, kmsencrypted.ErrTooLarge) {
		t.Errorf("a receipt above the limit: %v, want ErrTooLarge", err)
	}
}

// Many processes append, one of them dies in the middle of a line, and what is changed is found.
func TestReceiptFile(t *testing.T) {
	t.Parallel()
	store := newDir(t, branch.Limits{})
	path := filepath.Join(t.TempDir(), "receipts")
	if _, err := branch.OpenReceipts(path); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("OpenReceipts of no file = %v, want ErrConfig", err)
	}
	receipts, err := branch.CreateReceipts(t.Context(), path, store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := branch.CreateReceipts(t.Context(), path, store); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateReceipts again = %v, want ErrExist", err)
	}
	at := time.Now().UTC().Truncate(time.Millisecond)
	long := strings.Repeat("é/", 60)
	name := func(i int) branch.Name { return branch.Name{Parent: "p/" + long, Branch: fmt.Sprint(long, i)} }
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			r, err := branch.OpenReceipts(path)
			if err == nil {
				err = r.Append(t.Context(), branch.Receipt{Kind: branch.ErasureBegun, Name: name(i), At: at})
			}
			if err == nil && i%2 == 0 {
				err = r.Append(t.Context(), branch.Receipt{Kind: branch.ErasureDone, Name: name(i), At: at, Epoch: uint64(i + 1), Reason: "x\ny"})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	head, err := receipts.Head(t.Context())
	if err != nil || head.Epoch != 19 || len(head.Begun) != 10 {
		t.Fatalf("Head() = epoch %d, %d begun, %v, want 19 and 10", head.Epoch, len(head.Begun), err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(whole[:len(whole):len(whole)], `{"number":31,"pre`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if torn, err := receipts.Head(t.Context()); err != nil || torn.Epoch != 19 {
		t.Errorf("Head() after half a line = %+v, %v", torn, err)
	}
	if err := receipts.Append(t.Context(), branch.Receipt{Kind: branch.Replayed, At: at, Epoch: 20}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for r, err := range receipts.All(t.Context()) {
		if n++; err != nil || r.Number != uint64(n) || !r.At.Equal(at) || r.Kind != branch.Replayed && r.Name.Parent != "p/"+long {
			t.Errorf("receipt %d: %+v, %v", n, r, err)
		}
	}
	if n != 31 {
		t.Errorf("%d receipts, want 31", n)
	}
	whole, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	for what, changed := range map[string]string{
		"a line is missing": strings.Join(append(lines[:5:5], lines[6:]...), ""),
		"a line is changed": strings.Replace(string(whole), `"epoch":5,`, `"epoch":6,`, 1),
		"two are exchanged": strings.Join(append(append(lines[:5:5], lines[6], lines[5]), lines[7:]...), ""),
		"one is no JSON":    strings.Replace(string(whole), `"number":7,`, `"number":`, 1),
		"a name is empty":   strings.Replace(string(whole), `"branch":"p`, `"branch":"/p`, 1),
	} {
		if changed == string(whole) {
			t.Fatalf("%s: nothing is changed", what)
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		var last error
		for _, err := range receipts.All(t.Context()) {
			last = err
		}
		if last == nil {
			t.Errorf("%s: All() yields no error", what)
		}
	}
	for what, text := range map[string]string{"nothing": "", "half a line": "{", "no JSON": "x\n", "no store": "{}\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := receipts.Head(t.Context()); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("%s: Head() = %v, want ErrMalformed", what, err)
		}
	}
}
