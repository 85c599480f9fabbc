package branch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// brief are limits that a test can wait for.
var brief = branch.Limits{MaxAge: 100 * time.Millisecond}

// receiptsOf makes receipts for a key store.
func receiptsOf(t testing.TB, store branch.Store) branch.Receipts {
	t.Helper()
	r, err := branch.CreateReceipts(t.Context(), filepath.Join(t.TempDir(), "receipts"), store)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// kinds lists the receipts.
func kinds(t testing.TB, r branch.Receipts) string {
	t.Helper()
	var list []string
	for one, err := range r.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, strings.TrimSpace(fmt.Sprint(one.Kind, " ", one.Name)))
	}
	return strings.Join(list, ", ")
}

func erase(t testing.TB, p *branch.Provider, o branch.EraseOptions, names ...branch.Name) []branch.Receipt {
	t.Helper()
	receipts, err := p.Erase(t.Context(), o, names...)
	if err != nil {
		t.Fatal(err)
	}
	return receipts
}

// Erasing a branch takes it and no other, whose names may be nearly the same, from every
// process, and nobody makes it again.
func TestErase(t *testing.T) {
	t.Parallel()
	names := []string{"a", "A", "a ", "\u00e4", "a\u0308", "a/b", "b"}
	eachStore(t, brief, func(t *testing.T, store branch.Store) {
		service, receipts := newService(t), receiptsOf(t, store)
		for _, of := range []branch.NameFunc{branch.ByPair("tenant"), branch.ByPairs("id", "tenant")} {
			o := branch.Options{Of: of, Receipts: receipts}
			one, two := open(t, store, service, o), open(t, store, service, o)
			wraps := make(map[string][]byte)
			for _, n := range names {
				wraps[n] = wrap(t, one, tenant(t, n))
				opens(t, two, wraps[n], tenant(t, n))
			}
			gone, err := of(tenant(t, "a"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := one.Renew(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
			got := erase(t, one, branch.EraseOptions{Reason: "asked by letter"}, gone)
			if len(got) != 1 || got[0].Name != gone || got[0].Kind != branch.ErasureDone || got[0].Reason != "asked by letter" || got[0].Epoch == 0 {
				t.Errorf("Erase() = %+v", got)
			}
			three := open(t, store, service, o)
			for _, p := range []*branch.Provider{one, two, three} {
				for _, n := range names {
					if n == "a" {
						fails(t, p, wraps[n], tenant(t, n), branch.ErrErased)
						continue
					}
					opens(t, p, wraps[n], tenant(t, n))
				}
				_, err := p.Encrypt(t.Context(), dataKey, tenant(t, "a"))
				_, rerr := p.Renew(t.Context(), gone)
				for _, err := range []error{err, rerr, p.Ensure(t.Context(), gone)} {
					if !errors.Is(err, branch.ErrErased) || kmsencrypted.Retryable(err) {
						t.Errorf("using an erased branch: %v, want ErrErased, which is final", err)
					}
				}
			}
			_, rows, err := store.Read(t.Context(), gone)
			if err != nil || len(rows) != 2 {
				t.Fatal(err, rows)
			}
			for _, r := range rows {
				if r.WrappedKey != "" || r.Erased.IsZero() || r.Closing.IsZero() {
					t.Errorf("a row of the erased branch: %+v", r)
				}
			}
			if _, err := one.Erase(t.Context(), branch.EraseOptions{}, branch.Name{Branch: "nobody"}); !errors.Is(err, branch.ErrMissing) {
				t.Errorf("Erase of a branch that is not there: %v, want ErrMissing", err)
			}
		}
		if _, err := branch.Open(t.Context(), store, service.Box(t), byTenant); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Open without receipts = %v, want ErrConfig", err)
		}
	})
}

// A parent takes the branches under it along.
func TestEraseParent(t *testing.T) {
	t.Parallel()
	eachStore(t, brief, func(t *testing.T, store branch.Store) {
		o := branch.Options{Of: branch.ByPairs("tenant", "id"), Receipts: receiptsOf(t, store)}
		service := newService(t)
		p := open(t, store, service, o)
		a, b := wrap(t, p, tenant(t, "a")), wrap(t, p, tenant(t, "b"))
		erase(t, p, branch.EraseOptions{}, branch.Name{Branch: "a"})
		fails(t, p, a, tenant(t, "a"), branch.ErrErased)
		fails(t, open(t, store, service, o), a, tenant(t, "a"), branch.ErrErased)
		without := o
		without.NoCreate = true
		for _, name := range []branch.Name{{Parent: "a", Branch: "7"}, {Parent: "a", Branch: "8"}} { // one that exists, and a new one
			if err := p.Ensure(t.Context(), name); !errors.Is(err, branch.ErrErased) {
				t.Errorf("Ensure(%s) under an erased parent: %v, want ErrErased", name, err)
			}
			if err := open(t, store, service, without).Warm(t.Context(), name); !errors.Is(err, branch.ErrErased) {
				t.Errorf("Warm(%s) under an erased parent, with NoCreate: %v, want ErrErased", name, err)
			}
		}
		opens(t, p, b, tenant(t, "b"))
	})
}

// All processes write until the branch is erased. Each write either succeeds before the keys are gone or
// returns ErrErased, and nothing is wrapped afterwards.
func TestEraseWhileWriting(t *testing.T) {
	t.Parallel()
	eachStore(t, brief, func(t *testing.T, store branch.Store) {
		service := newService(t)
		o := branch.Options{Of: branch.ByPair("tenant"), Receipts: receiptsOf(t, store)}
		eraser := open(t, store, service, o)
		if err := eraser.Ensure(t.Context(), branch.Name{Branch: "a"}); err != nil {
			t.Fatal(err)
		}
		var gone atomic.Bool
		var all sync.WaitGroup
		for range 4 {
			p := open(t, store, service, o)
			all.Go(func() {
				for stop := time.Now().Add(20 * time.Second); time.Now().Before(stop); {
					after := gone.Load()
					_, err := p.Encrypt(t.Context(), dataKey, tenant(t, "a"))
					switch {
					case err == nil && after:
						t.Error("wrapped under a branch that was erased")
						return
					case err != nil && !errors.Is(err, branch.ErrErased):
						t.Errorf("Encrypt while the branch is erased: %v, want ErrErased", err)
						return
					case after:
						return
					}
					_, err = p.Encrypt(t.Context(), dataKey, tenant(t, "b"))
					if err != nil {
						t.Error(err)
					}
					time.Sleep(time.Millisecond)
				}
				t.Error("never erased")
			})
		}
		time.Sleep(20 * time.Millisecond)
		began := time.Now()
		erase(t, eraser, branch.EraseOptions{Linger: 20 * time.Millisecond}, branch.Name{Branch: "a"})
		gone.Store(true)
		if waited := time.Since(began); waited < brief.MaxAge+20*time.Millisecond {
			t.Errorf("erased after %v, while others have the key open for %v and Linger", waited, brief.MaxAge)
		}
		all.Wait()
	})
}

// table counts what it is asked to erase.
type table struct {
	outside int64
	later   int64    // outside too, from the first look on
	asked   []string // of branches a, b and c under no parent, and x/a
	dry     int
	calls   int
}

func (s *table) EraseBranches(_ context.Context, e rotation.Erasure) (rotation.Erased, error) {
	s.calls++
	done := rotation.Erased{Table: "t", Records: 1, Left: s.outside}
	if e.DropOutside {
		done.Outside, done.Left = done.Left, 0
	}
	if e.DryRun {
		s.dry++
		s.outside, s.later = s.outside+s.later, 0
		return done, nil
	}
	s.asked = nil
	for _, n := range []string{"a", "b", "c", "x/a"} {
		if e.Erased(n) {
			s.asked = append(s.asked, n)
		}
	}
	return done, nil
}

// A record that opens without the branch is a reason to refuse, before anything happens.
func TestEraseOutside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newDir(t, branch.Limits{})
		receipts := receiptsOf(t, store)
		p := open(t, store, newService(t), branch.Options{Of: branch.ByPair("tenant"), Receipts: receipts})
		ciphertext := wrap(t, p, tenant(t, "a"))
		records := &table{outside: 2}
		o := branch.EraseOptions{Records: []rotation.BranchEraser{records}}
		if _, err := p.Erase(t.Context(), o, branch.Name{Branch: "a"}); !errors.Is(err, branch.ErrOutside) {
			t.Fatalf("Erase = %v, want ErrOutside", err)
		}
		opens(t, p, ciphertext, tenant(t, "a"))
		if got := kinds(t, receipts); got != "" {
			t.Errorf("receipts of an erasure that was refused: %s", got)
		}
		o.DropOutside, o.LeaveOutside = true, true
		if _, err := p.Erase(t.Context(), o, branch.Name{Branch: "a"}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Fatalf("Erase with both = %v, want ErrConfig", err)
		}
		o.LeaveOutside, o.SeparateStore, o.Retention = false, true, 24*time.Hour
		got := erase(t, p, o, branch.Name{Branch: "a"})
		text := strings.Join(got[0].NotReached, "\n")
		for _, part := range []string{"backups of the key store still hold the keys until ", "2 wrapped keys"} {
			if !strings.Contains(text, part) {
				t.Errorf("the receipt says\n%s\nwant %q", text, part)
			}
		}
		if len(records.asked) != 1 || records.asked[0] != "a" {
			t.Errorf("erased in the records: %v, want a", records.asked)
		}
		fails(t, p, ciphertext, tenant(t, "a"), branch.ErrErased)
	})
}

// A tenant that has moved to a key of its own keeps its records when its branch is erased.
func TestEraseBesideMoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newDir(t, branch.Limits{})
		receipts := receiptsOf(t, store)
		p := open(t, store, newService(t), branch.Options{Of: branch.ByPair("tenant"), Receipts: receipts})
		ciphertext := wrap(t, p, tenant(t, "a"))
		records := &table{outside: 2}
		o := branch.EraseOptions{Records: []rotation.BranchEraser{records}, LeaveOutside: true}
		got := erase(t, p, o, branch.Name{Branch: "a"})
		if got[0].Tables[0].Left == 0 || got[0].Tables[0].Outside != 0 || !strings.Contains(strings.Join(got[0].NotReached, "\n"), "outside the branch: they open without it") {
			t.Errorf("Erase() = %+v, want the moved records left", got)
		}
		fails(t, p, ciphertext, tenant(t, "a"), branch.ErrErased)
	})
}

// What is committed outside the branch after the first look stays, and Erase says so.
func TestEraseLeavesOutside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newDir(t, branch.Limits{})
		receipts := receiptsOf(t, store)
		p := open(t, store, newService(t), branch.Options{Of: branch.ByPair("tenant"), Receipts: receipts})
		wrap(t, p, tenant(t, "a"))
		records := &table{later: 3}
		o := branch.EraseOptions{Records: []rotation.BranchEraser{records}}
		got, err := p.Erase(t.Context(), o, branch.Name{Branch: "a"})
		if !errors.Is(err, branch.ErrOutside) || len(got) != 1 || got[0].Tables[0].Left != 3 || got[0].Tables[0].Outside != 0 || !strings.Contains(err.Error(), "3 in t: the branch is erased") {
			t.Fatalf("Erase() = %+v, %v, want receipts and ErrOutside", got, err)
		}
		if text := strings.Join(got[0].NotReached, "\n"); !strings.Contains(text, "3 wrapped keys of these records are outside") {
			t.Errorf("the receipt says\n%s", text)
		}
		if got := kinds(t, receipts); got != "begun a, erased a" {
			t.Errorf("receipts: %s", got)
		}
		if done, err := p.Replay(t.Context(), false, records); err != nil || done.Tables[0].Left != 3 || done.Tables[0].Outside != 0 {
			t.Errorf("Replay() = %+v, %v", done, err)
		}
	})
}

// errKilled ends an erasure like the end of its process.
var errKilled = errors.New("killed")

// mortal is a key store, its receipts and a table of which a call is the last one: before or after
// it had its effect.
type mortal struct {
	branch.Store
	receipts branch.Receipts
	table    *table
	calls    int // until the last one
	after    bool
}

// mortalReceipts are the receipts of a mortal.
type mortalReceipts struct {
	branch.Receipts
	of *mortal
}

func (m *mortal) options(of branch.NameFunc) branch.Options {
	return branch.Options{Of: of, Receipts: mortalReceipts{m.receipts, m}}
}

func (m *mortal) step(do func() error) error {
	m.calls--
	switch {
	case m.calls > 0:
		return do()
	case m.calls == 0 && m.after:
		return errors.Join(do(), errKilled)
	}
	return errKilled
}

func (m *mortal) Close(ctx context.Context, n branch.Name, at time.Time) error {
	return m.step(func() error { return m.Store.Close(ctx, n, at) })
}

func (m *mortal) Erase(ctx context.Context, n branch.Name, at time.Time) error {
	return m.step(func() error { return m.Store.Erase(ctx, n, at) })
}

func (m *mortal) Raise(ctx context.Context, old, epoch uint64) (raised bool, err error) {
	err = m.step(func() error { raised, err = m.Store.Raise(ctx, old, epoch); return err })
	return raised, err
}

func (r mortalReceipts) Append(ctx context.Context, one branch.Receipt) error {
	return r.of.step(func() error { return r.Receipts.Append(ctx, one) })
}

func (m *mortal) EraseBranches(ctx context.Context, e rotation.Erasure) (done rotation.Erased, err error) {
	err = m.step(func() error { done, err = m.table.EraseBranches(ctx, e); return err })
	return done, err
}

// An erasure that ends anywhere leaves the other branches usable and is completed by the next one. A key
// store that is then restored is refused.
func TestEraseKilled(t *testing.T) {
	t.Parallel()
	names := []branch.Name{{Branch: "a"}, {Parent: "x", Branch: "a"}}
	of := func(ec kmsencrypted.BoundContext) (branch.Name, error) {
		text, _ := ec.Value("tenant")
		return branch.ParseName(text)
	}
	killed := 0
	for _, after := range []bool{false, true} {
		for calls := 1; ; calls++ {
			completed := false
			synctest.Test(t, func(t *testing.T) {
				folder := filepath.Join(t.TempDir(), "keys")
				store, err := branch.CreateDir(folder, branch.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				receipts, service := receiptsOf(t, store), newService(t)
				o := branch.Options{Of: of, Receipts: receipts}
				p := open(t, store, service, o)
				wraps := make(map[string][]byte)
				for _, n := range []string{"a", "b", "x/a", "x/b"} {
					wraps[n] = wrap(t, p, tenant(t, n))
				}
				backup := filepath.Join(t.TempDir(), "backup")
				if err := os.CopyFS(backup, os.DirFS(folder)); err != nil {
					t.Fatal(err)
				}

				m := &mortal{Store: store, receipts: receipts, table: new(table), calls: calls, after: after}
				dying := open(t, m, service, m.options(of))
				eo := branch.EraseOptions{Records: []rotation.BranchEraser{m}}
				_, err = dying.Erase(t.Context(), eo, names...)
				completed = err == nil
				if err != nil && !errors.Is(err, errKilled) {
					t.Fatalf("call %d: %v", calls, err)
				}
				time.Sleep(time.Minute)
				opens(t, p, wraps["b"], tenant(t, "b"))
				opens(t, p, wraps["x/b"], tenant(t, "x/b"))

				m.calls = 1000
				got := erase(t, open(t, store, service, o), eo, names...)
				if len(got) != 2 || strings.Join(m.table.asked, " ") != "a x/a" {
					t.Fatalf("call %d: the second Erase() = %+v, and in the records %v", calls, got, m.table.asked)
				}
				for _, n := range names {
					fails(t, p, wraps[n.String()], tenant(t, n.String()), branch.ErrErased)
				}
				opens(t, p, wraps["b"], tenant(t, "b"))
				head, err := receipts.Head(t.Context())
				state, _, serr := store.Read(t.Context(), branch.Name{})
				if err := errors.Join(err, serr); err != nil || len(head.Begun) > 0 || head.Epoch != state.Epoch {
					t.Errorf("call %d: head %+v, %v, epoch %d", calls, head, err, state.Epoch)
				}

				// The backup of the key store comes back.
				restored := filepath.Join(t.TempDir(), "restored")
				if err := os.CopyFS(restored, os.DirFS(backup)); err != nil {
					t.Fatal(err)
				}
				old, err := branch.OpenDir(restored)
				if err != nil {
					t.Fatal(err)
				}
				replayKilled(t, old, service, o, wraps)
			})
			if completed {
				break
			}
			killed++
		}
	}
	if killed < 16 {
		t.Errorf("killed %d times, want each call", killed)
	}
}

// replayKilled ends a replay at each call. Until it is complete, everything is refused.
func replayKilled(t *testing.T, store branch.Store, service *kmstest.Service, o branch.Options, wraps map[string][]byte) {
	t.Helper()
	receipts := o.Receipts
	p := open(t, store, service, o)
	for calls, after := 1, false; ; calls, after = calls+1, !after {
		for n, w := range wraps {
			fails(t, p, w, tenant(t, n), branch.ErrRestored)
		}
		if _, err := p.Encrypt(t.Context(), dataKey, tenant(t, "new")); !errors.Is(err, branch.ErrRestored) || !kmsencrypted.ConcernsAll(err) {
			t.Fatalf("Encrypt into a restored store = %v, want ErrRestored, which concerns all records", err)
		}
		m := &mortal{Store: store, receipts: receipts, table: new(table), calls: calls, after: after}
		done, err := open(t, m, service, m.options(o.Of)).Replay(t.Context(), false, m)
		state, _, serr := store.Read(t.Context(), branch.Name{})
		if serr != nil || err != nil && !errors.Is(err, errKilled) {
			t.Fatal(serr, err)
		}
		if state.Epoch == 0 {
			continue
		}
		if err == nil && (done.Branches != 2 || !done.Restored || strings.Join(m.table.asked, " ") != "a x/a") {
			t.Errorf("Replay() = %+v, and in the records %v", done, m.table.asked)
		}
		break
	}
	for _, p := range []*branch.Provider{p, open(t, store, service, o)} {
		for n, w := range wraps {
			if strings.HasSuffix(n, "b") {
				opens(t, p, w, tenant(t, n))
			} else {
				fails(t, p, w, tenant(t, n), branch.ErrErased)
			}
		}
	}
}

// A replay makes tombstones of branches that the backup does not have, and a dry run changes nothing.
func TestReplay(t *testing.T) {
	t.Parallel()
	eachStore(t, brief, func(t *testing.T, store branch.Store) {
		service := newService(t)
		receipts := receiptsOf(t, store)
		o := branch.Options{Of: branch.ByPair("tenant"), Receipts: receipts}
		p := open(t, store, service, o)
		wrap(t, p, tenant(t, "b"))
		// Receipts of an erasure that this store, restored, knows nothing of.
		at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		for _, r := range []branch.Receipt{
			{Kind: branch.ErasureBegun, Name: branch.Name{Branch: "a"}, At: at}, {Kind: branch.ErasureDone, Name: branch.Name{Branch: "a"}, At: at, Epoch: 3},
			{Kind: branch.ErasureBegun, Name: branch.Name{Branch: "b"}, At: at},
		} {
			if err := receipts.Append(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		records := new(table)
		if done, err := p.Replay(t.Context(), true, records); err != nil || done.Branches != 1 || !done.Restored || records.dry != 1 || records.asked != nil {
			t.Errorf("Replay(dry run) = %+v, %v, %+v", done, err, records)
		}
		if _, err := p.Encrypt(t.Context(), dataKey, tenant(t, "c")); !errors.Is(err, branch.ErrRestored) {
			t.Errorf("Encrypt after a dry run = %v, want ErrRestored", err)
		}
		done, err := p.Replay(t.Context(), false, records)
		if err != nil || len(done.Begun) != 1 || done.Begun[0].Branch != "b" {
			t.Errorf("Replay() = %+v, %v", done, err)
		}
		for _, n := range []string{"a", "b"} { // the second one waits for its erasure
			if _, err := p.Encrypt(t.Context(), dataKey, tenant(t, n)); !errors.Is(err, branch.ErrErased) {
				t.Errorf("Encrypt under %s after the replay = %v, want ErrErased", n, err)
			}
		}
		wrap(t, p, tenant(t, "c"))
		erase(t, p, branch.EraseOptions{}, branch.Name{Branch: "b"})
		if got := kinds(t, receipts); got != "begun a, erased a, begun b, replayed, begun b, erased b" && got != "begun a, erased a, begun b, replayed, erased b" {
			t.Errorf("receipts: %s", got)
		}
		again, err := p.Replay(t.Context(), false, records)
		if err != nil || again.Restored || again.Branches != 2 || len(again.Begun) != 0 {
			t.Errorf("Replay() again = %+v, %v", again, err)
		}
	})
}

// Receipts that were set back are noticed too.
func TestReceiptsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newDir(t, branch.Limits{})
		service := newService(t)
		path := filepath.Join(t.TempDir(), "receipts")
		receipts, err := branch.CreateReceipts(t.Context(), path, store)
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		o := branch.Options{Of: branch.ByPair("tenant"), Receipts: receipts}
		p := open(t, store, service, o)
		wrap(t, p, tenant(t, "a"))
		erase(t, p, branch.EraseOptions{}, branch.Name{Branch: "a"})
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Encrypt(t.Context(), dataKey, tenant(t, "b")); !errors.Is(err, branch.ErrRestored) {
			t.Errorf("Encrypt with receipts that were set back = %v, want ErrRestored", err)
		}
		if _, err := p.Replay(t.Context(), false); !errors.Is(err, branch.ErrRestored) {
			t.Errorf("Replay of receipts that were set back = %v, want ErrRestored", err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Encrypt(t.Context(), dataKey, tenant(t, "b")); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Encrypt without receipts = %v, want ErrConfig", err)
		}
		other := receiptsOf(t, newDir(t, branch.Limits{}))
		foreign := open(t, store, service, branch.Options{Receipts: other})
		if _, err := foreign.Encrypt(t.Context(), dataKey, tenant(t, "b")); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Encrypt with the receipts of another store = %v, want ErrConfig", err)
		}
	})
}
