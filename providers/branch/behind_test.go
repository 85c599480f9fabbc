package branch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// agree checks that other branches can be used, and that the receipts are at the epoch of the store.
func agree(t *testing.T, store branch.Store, service *kmstest.Service, o branch.Options) {
	t.Helper()
	wrap(t, open(t, store, service, o), tenant(t, "another"))
	head, err := o.Receipts.Head(t.Context())
	state, _, serr := store.Read(t.Context(), branch.Name{})
	if err := errors.Join(err, serr); err != nil || head.Epoch != state.Epoch {
		t.Errorf("receipts %+v, %v, key store %d", head, err, state.Epoch)
	}
}

// A replay where nothing was ever erased does nothing. After every restore somebody calls it.
func TestReplayOfNothing(t *testing.T) {
	t.Parallel()
	eachStore(t, brief, func(t *testing.T, store branch.Store) {
		o := branch.Options{Of: branch.ByPair("tenant"), Receipts: receiptsOf(t, store)}
		service := newService(t)
		p := open(t, store, service, o)
		wrap(t, p, tenant(t, "a"))
		for range 2 {
			if done, err := p.Replay(t.Context(), false, new(table)); err != nil || done.Restored || done.Behind {
				t.Errorf("Replay() = %+v, %v", done, err)
			}
			agree(t, store, service, o)
		}
		if got := kinds(t, o.Receipts); got != "" {
			t.Errorf("receipts: %s", got)
		}
	})
}

// beforeRaise calls f once, before the epoch is raised.
type beforeRaise struct {
	branch.Store
	f func()
}

func (s *beforeRaise) Raise(ctx context.Context, old, epoch uint64) (bool, error) {
	if f := s.f; f != nil {
		s.f = nil
		f()
	}
	return s.Store.Raise(ctx, old, epoch)
}

// unfinished are receipts of a process that ends before the last one of an erasure.
type unfinished struct{ branch.Receipts }

func (u unfinished) Append(ctx context.Context, r branch.Receipt) error {
	if r.Kind == branch.ErasureDone {
		return errKilled
	}
	return u.Receipts.Append(ctx, r)
}

// Of two erasures of one branch, one completes before the other raises the epoch, and this ends before its last
// receipt. It concerns this branch only.
func TestEraseTwice(t *testing.T) {
	t.Parallel()
	eachStore(t, brief, func(t *testing.T, store branch.Store) {
		service := newService(t)
		o := branch.Options{Of: branch.ByPair("tenant"), Receipts: receiptsOf(t, store)}
		one := open(t, store, service, o)
		wrap(t, one, tenant(t, "a"))
		name := branch.Name{Branch: "a"}
		late := &beforeRaise{store, func() { erase(t, one, branch.EraseOptions{}, name) }}
		other := open(t, late, service, branch.Options{Of: o.Of, Receipts: unfinished{o.Receipts}})
		if _, err := other.Erase(t.Context(), branch.EraseOptions{}, name); !errors.Is(err, errKilled) {
			t.Fatalf("Erase = %v", err)
		}
		wrap(t, one, tenant(t, "b"))
		if list, err := one.Unfinished(t.Context()); err != nil || len(list) != 1 || list[0].Name != name || list[0].Kind != branch.ErasureBegun {
			t.Errorf("Unfinished() = %+v, %v", list, err)
		}
		erase(t, one, branch.EraseOptions{}, name)
		if list, err := one.Unfinished(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("Unfinished() = %+v, %v", list, err)
		}
		agree(t, store, service, o)
	})
}

// The same, with the last receipt of the one just before the other raises the epoch. Nothing that the receipts do not name
// is erased, so it concerns this branch only too.
func TestEraseTwiceAtOnce(t *testing.T) {
	t.Parallel()
	eachStore(t, brief, func(t *testing.T, store branch.Store) {
		name, service := branch.Name{Parent: "x", Branch: "a"}, newService(t)
		o := branch.Options{Of: branch.ByPair("tenant"), Receipts: receiptsOf(t, store)}
		one := open(t, store, service, o)
		if err := one.Ensure(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		late := &beforeRaise{store, func() {}}
		for _, f := range []func(){func() {}, func() {
			done := branch.Receipt{Kind: branch.ErasureDone, Name: name, At: time.Now(), Epoch: 1}
			if err := o.Receipts.Append(t.Context(), done); err != nil {
				t.Error(err)
			}
		}} {
			late.f = f
			other := open(t, late, service, branch.Options{Of: o.Of, Receipts: unfinished{o.Receipts}})
			if _, err := other.Erase(t.Context(), branch.EraseOptions{}, name); !errors.Is(err, errKilled) {
				t.Fatalf("Erase = %v", err)
			}
		}
		wrap(t, one, tenant(t, "b"))
		for _, dry := range []bool{true, false} {
			if done, err := one.Replay(t.Context(), dry); err != nil || done.Behind || done.Restored {
				t.Errorf("Replay(%t) = %+v, %v", dry, done, err)
			}
		}
		agree(t, store, service, o)
	})
}

// Receipts from a time when an erasure had begun that was then repeated name all erased branches. Replay finds that, and the
// next erasure is like any other.
func TestReceiptsBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, service := newDir(t, branch.Limits{}), newService(t)
		path := filepath.Join(t.TempDir(), "receipts")
		receipts, err := branch.CreateReceipts(t.Context(), path, store)
		if err != nil {
			t.Fatal(err)
		}
		o := branch.Options{Of: branch.ByPair("tenant"), Receipts: receipts}
		p := open(t, store, service, o)
		wrap(t, p, tenant(t, "a"))
		wrap(t, p, tenant(t, "b"))
		interrupted(t, p, branch.Name{Branch: "a"})
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			erase(t, p, branch.EraseOptions{}, branch.Name{Branch: "a"})
		}
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Encrypt(t.Context(), dataKey, tenant(t, "b")); !errors.Is(err, branch.ErrRestored) {
			t.Errorf("Encrypt = %v, want ErrRestored until it is known that no receipt is missing", err)
		}
		for _, dry := range []bool{true, false} {
			if done, err := p.Replay(t.Context(), dry); err != nil || !done.Behind || done.Restored || len(done.Begun) != 1 {
				t.Errorf("Replay(%t) = %+v, %v", dry, done, err)
			}
		}
		dying := open(t, store, service, branch.Options{Of: o.Of, Receipts: unfinished{receipts}})
		for _, name := range []string{"a", "b"} {
			if _, err := dying.Erase(t.Context(), branch.EraseOptions{}, branch.Name{Branch: name}); !errors.Is(err, errKilled) {
				t.Fatalf("Erase = %v", err)
			}
			wrap(t, p, tenant(t, "c"))
		}
		erase(t, p, branch.EraseOptions{}, branch.Name{Branch: "a"}, branch.Name{Branch: "b"})
		agree(t, store, service, o)
	})
}

// Receipts that were copied while several erasures had begun, by one call, hide none that began later: neither
// while these are still unfinished nor after they are complete.
func TestReceiptsLostWhileSeveralBegan(t *testing.T) {
	t.Parallel()
	for _, complete := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := newDir(t, branch.Limits{})
			path := filepath.Join(t.TempDir(), "receipts")
			receipts, err := branch.CreateReceipts(t.Context(), path, store)
			if err != nil {
				t.Fatal(err)
			}
			p := open(t, store, newService(t), branch.Options{Of: branch.ByPair("tenant"), Receipts: receipts})
			var names []branch.Name
			for _, n := range []string{"a", "b", "c", "x"} {
				wrap(t, p, tenant(t, n))
				names = append(names, branch.Name{Branch: n})
			}
			interrupted(t, p, names[:3]...)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if complete {
				erase(t, p, branch.EraseOptions{}, names[:3]...)
			}
			erase(t, p, branch.EraseOptions{}, names[3])
			if err := os.WriteFile(path, before, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Encrypt(t.Context(), dataKey, tenant(t, "d")); !errors.Is(err, branch.ErrRestored) {
				t.Errorf("complete %t: Encrypt = %v, want ErrRestored", complete, err)
			}
			if _, err := p.Replay(t.Context(), false); !errors.Is(err, branch.ErrRestored) {
				t.Errorf("complete %t: Replay = %v, want ErrRestored", complete, err)
			}
		})
	}
}

// An erasure that is killed again and again after it raised the epoch concerns its branch only.
func TestEraseKilledAgain(t *testing.T) {
	t.Parallel()
	eachStore(t, brief, func(t *testing.T, store branch.Store) {
		o := branch.Options{Of: branch.ByPair("tenant"), Receipts: receiptsOf(t, store)}
		service := newService(t)
		p := open(t, store, service, o)
		wrap(t, p, tenant(t, "a"))
		dying := open(t, store, service, branch.Options{Of: o.Of, Receipts: unfinished{o.Receipts}})
		for range 4 {
			if _, err := dying.Erase(t.Context(), branch.EraseOptions{}, branch.Name{Branch: "a"}); !errors.Is(err, errKilled) {
				t.Fatalf("Erase = %v", err)
			}
			wrap(t, open(t, store, service, o), tenant(t, "b"))
		}
		erase(t, p, branch.EraseOptions{}, branch.Name{Branch: "a"})
		agree(t, store, service, o)
	})
}

// Receipts that were set back to a time at which an erasure had begun hide no others.
func TestReceiptsLostWhileOneBegan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newDir(t, branch.Limits{})
		path := filepath.Join(t.TempDir(), "receipts")
		receipts, err := branch.CreateReceipts(t.Context(), path, store)
		if err != nil {
			t.Fatal(err)
		}
		o := branch.Options{Of: branch.ByPair("tenant"), Receipts: receipts}
		p := open(t, store, newService(t), o)
		for _, n := range []string{"a", "b", "c"} {
			wrap(t, p, tenant(t, n))
		}
		interrupted(t, p, branch.Name{Branch: "a"})
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"a", "b", "c"} {
			erase(t, p, branch.EraseOptions{}, branch.Name{Branch: n})
		}
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Encrypt(t.Context(), dataKey, tenant(t, "d")); !errors.Is(err, branch.ErrRestored) {
			t.Errorf("Encrypt = %v, want ErrRestored", err)
		}
		if _, err := p.Replay(t.Context(), false); !errors.Is(err, branch.ErrRestored) {
			t.Errorf("Replay = %v, want ErrRestored", err)
		}
	})
}

// interrupted begins an erasure and ends it while it waits.
func interrupted(t *testing.T, p *branch.Provider, names ...branch.Name) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := p.Erase(ctx, branch.EraseOptions{}, names...); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Erase = %v", err)
	}
}

// A key store from before an erasure began does not know of it, and the receipts do: the branch stays
// closed, whether the backup has it or not.
func TestBegunBeforeRestore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "keys")
		store, err := branch.CreateDir(folder, branch.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		service := newService(t)
		o := branch.Options{Of: branch.ByPairs("tenant", "id"), Receipts: receiptsOf(t, store)}
		p := open(t, store, service, o)
		backups := []string{t.TempDir(), t.TempDir()} // without the tenant and with it
		copyTo := func(to string) {
			t.Helper()
			if err := os.CopyFS(filepath.Join(to, "keys"), os.DirFS(folder)); err != nil {
				t.Fatal(err)
			}
		}
		copyTo(backups[0])
		a := wrap(t, p, tenant(t, "a"))
		copyTo(backups[1])
		name := branch.Name{Branch: "a"}
		interrupted(t, p, name)
		for _, backup := range backups {
			old, err := branch.OpenDir(filepath.Join(backup, "keys"))
			if err != nil {
				t.Fatal(err)
			}
			restored := open(t, old, service, o)
			if _, err := restored.Encrypt(t.Context(), dataKey, tenant(t, "a")); !errors.Is(err, branch.ErrErased) {
				t.Errorf("Encrypt = %v, want ErrErased", err)
			}
			if err := restored.Ensure(t.Context(), name); !errors.Is(err, branch.ErrErased) {
				t.Errorf("Ensure = %v, want ErrErased", err)
			}
			wrap(t, restored, tenant(t, "b"))
		}
		old, err := branch.OpenDir(filepath.Join(backups[1], "keys"))
		if err != nil {
			t.Fatal(err)
		}
		restored := open(t, old, service, o)
		fails(t, restored, a, tenant(t, "a"), branch.ErrErased)
		erase(t, restored, branch.EraseOptions{}, name)
		fails(t, restored, a, tenant(t, "a"), branch.ErrErased)
		if _, err := restored.Encrypt(t.Context(), dataKey, tenant(t, "b")); kmsencrypted.ConcernsAll(err) || err != nil {
			t.Errorf("Encrypt under another branch = %v", err)
		}
	})
}
