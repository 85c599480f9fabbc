package branch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// tenant is the context of a record of a tenant.
func tenant(t testing.TB, name string) kmsencrypted.BoundContext {
	t.Helper()
	return bind(t, kmsencrypted.Context{"tenant": name, "id": 7})
}

var dataKey = []byte("32 bytes that are a data key ...")

func wrap(t testing.TB, p *branch.Provider, ec kmsencrypted.BoundContext) []byte {
	t.Helper()
	ciphertext, err := p.Encrypt(t.Context(), dataKey, ec)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}

func opens(t testing.TB, p *branch.Provider, ciphertext []byte, ec kmsencrypted.BoundContext) {
	t.Helper()
	got, err := p.Decrypt(t.Context(), ciphertext, ec)
	if err != nil || string(got) != string(dataKey) {
		t.Errorf("Decrypt under %v = %q, %v", ec, got, err)
	}
}

func fails(t testing.TB, p *branch.Provider, ciphertext []byte, ec kmsencrypted.BoundContext, want error) {
	t.Helper()
	if got, err := p.Decrypt(t.Context(), ciphertext, ec); !errors.Is(err, want) || got != nil {
		t.Errorf("Decrypt under %v = %q, %v, want %v", ec, got, err, want)
	}
}

var byTenant = branch.Options{Of: branch.ByPair("tenant")}

// A branch costs one call to open, however many records it has and however many
// callers ask at once.
func TestCalls(t *testing.T) {
	t.Parallel()
	eachStore(t, branch.Limits{}, func(t *testing.T, store branch.Store) {
		service := newService(t)
		writer := open(t, store, service, byTenant)
		const branches, records = 10, 50
		wraps := make([][]byte, branches)
		for i := range branches {
			for range records {
				wraps[i] = wrap(t, writer, tenant(t, fmt.Sprint("t", i)))
			}
		}
		if got := len(service.Calls()); got != 2*branches { // made, and read again
			t.Errorf("writing: %d calls, want %d", got, 2*branches)
		}
		service.Forget()
		reader := open(t, store, service, byTenant)
		var all sync.WaitGroup
		for i := range branches {
			for range records {
				all.Go(func() { opens(t, reader, wraps[i], tenant(t, fmt.Sprint("t", i))) })
			}
		}
		all.Wait()
		wrap(t, reader, tenant(t, "t1"))
		if got := len(service.Calls()); got != branches {
			t.Errorf("reading: %d calls, want %d", got, branches)
		}
	})
}

// Branches that were opened ahead of time cost no call when their records are read.
func TestWarm(t *testing.T) {
	t.Parallel()
	eachStore(t, branch.Limits{}, func(t *testing.T, store branch.Store) {
		service := newService(t)
		writer := open(t, store, service, byTenant)
		const branches = 40
		var names []branch.Name
		var wraps [][]byte
		for i := range branches {
			tenant := tenant(t, fmt.Sprint("t", i))
			wraps = append(wraps, wrap(t, writer, tenant))
			names = append(names, branch.Name{Branch: fmt.Sprint("t", i)})
		}
		service.Forget()
		o := byTenant
		o.NoCreate = true
		reader := open(t, store, service, o)
		if err := reader.Warm(t.Context(), append(names, branch.Name{Branch: "nobody"})...); !errors.Is(err, branch.ErrMissing) {
			t.Errorf("Warm = %v, want ErrMissing for the branch that is none", err)
		}
		if got := len(service.Calls()); got != branches {
			t.Errorf("Warm: %d calls, want %d", got, branches)
		}
		service.Forget()
		for i, w := range wraps {
			opens(t, reader, w, tenant(t, fmt.Sprint("t", i)))
		}
		if got := len(service.Calls()); got != 0 {
			t.Errorf("reading what is warm: %d calls", got)
		}
	})
}

// All who start at once agree on one first key.
func TestFirstKeyAtOnce(t *testing.T) {
	t.Parallel()
	eachStore(t, branch.Limits{}, func(t *testing.T, store branch.Store) {
		service := newService(t)
		for _, n := range []string{"a", "b", "c"} {
			const starters = 8
			wraps := make([][]byte, starters)
			providers := make([]*branch.Provider, starters)
			var all sync.WaitGroup
			for i := range starters {
				all.Go(func() {
					providers[i] = open(t, store, service, byTenant)
					var err error
					if wraps[i], err = providers[i].Encrypt(t.Context(), dataKey, tenant(t, n)); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			for i := range starters {
				opens(t, providers[(i+1)%starters], wraps[i], tenant(t, n))
			}
		}
	})
}

// Names are compared byte by byte, whatever they are, and no wrap opens under another name.
func TestNames(t *testing.T) {
	t.Parallel()
	names := []string{
		"a", "A", "a ", " a", "\u00e4", "a\u0308", "\u00c4", "ss", "ß", "a/b", "a%2Fb", "\t", "'", `"\`, "0", "00",
		strings.Repeat("x", 255), strings.Repeat("x", 254) + "y", strings.Repeat("é", 127), "\U0001F600",
	}
	eachStore(t, branch.Limits{}, func(t *testing.T, store branch.Store) {
		service := newService(t)
		for _, o := range []branch.Options{byTenant, {Of: branch.ByPairs("id", "tenant")}} {
			p := open(t, store, service, o)
			wraps := make([][]byte, len(names))
			for i, name := range names {
				wraps[i] = wrap(t, p, tenant(t, name))
			}
			p = open(t, store, service, o)
			for i, name := range names {
				for j, other := range names {
					if i == j {
						opens(t, p, wraps[i], tenant(t, name))
					} else {
						fails(t, p, wraps[i], tenant(t, other), kmsencrypted.ErrDecrypt)
					}
				}
				n, err := branch.ParseName(branch.Name{Parent: "p/", Branch: name}.String())
				if err != nil || n.Parent != "p/" || n.Branch != name {
					t.Errorf("ParseName(String(%q)) = %+v, %v", name, n, err)
				}
			}
		}
		listed := make(map[string]bool)
		for row, err := range store.All(t.Context(), "7") {
			if err != nil {
				t.Fatal(err)
			}
			listed[row.Branch] = true
		}
		if len(listed) != len(names) {
			t.Errorf("All() yields %d branches, want %d", len(listed), len(names))
		}
	})
}

// A context that names no branch is never a reason to take another one.
func TestNoBranch(t *testing.T) {
	t.Parallel()
	p := open(t, newDir(t, branch.Limits{}), newService(t), byTenant)
	ciphertext := wrap(t, p, tenant(t, "a"))
	for name, ec := range map[string]kmsencrypted.EncryptionContext{
		"none": nil, "no pair": kmsencrypted.Context{"id": 7}, "text": kmsencrypted.TextContext("tenant"),
		"empty": kmsencrypted.Context{"tenant": ""}, "long": kmsencrypted.Context{"tenant": strings.Repeat("x", 256)},
		"NUL": kmsencrypted.Context{"tenant": "a\x00"},
	} {
		if _, err := p.Encrypt(t.Context(), dataKey, bind(t, ec)); !errors.Is(err, kmsencrypted.ErrContext) {
			t.Errorf("%s: Encrypt = %v, want ErrContext", name, err)
		}
		fails(t, p, ciphertext, bind(t, ec), kmsencrypted.ErrContext)
	}
}

// A missing row may come back, and concerns its records only.
func TestMissing(t *testing.T) {
	t.Parallel()
	eachStore(t, branch.Limits{}, func(t *testing.T, store branch.Store) {
		service := newService(t)
		ciphertext := wrap(t, open(t, newDir(t, branch.Limits{}), service, byTenant), tenant(t, "a"))
		p := open(t, store, service, branch.Options{Of: branch.ByPair("tenant"), NoCreate: true})
		_, err := p.Decrypt(t.Context(), ciphertext, tenant(t, "a"))
		_, werr := p.Encrypt(t.Context(), dataKey, tenant(t, "a"))
		for _, err := range []error{err, werr} {
			if !errors.Is(err, branch.ErrMissing) || !kmsencrypted.Retryable(err) || errors.Is(err, kmsencrypted.ErrUnavailable) || kmsencrypted.ConcernsAll(err) {
				t.Errorf("a branch without rows: %v, want ErrMissing, which is retryable and concerns some", err)
			}
		}
		if got := len(service.Calls()); got != 2 {
			t.Errorf("%d calls, want those of the other store", got)
		}
		// A denial of one branch says nothing about the others.
		if err := p.Ensure(t.Context(), branch.Name{Branch: "a"}); err != nil {
			t.Fatal(err)
		}
		service.Set(kmstest.Revoke(1))
		_, err = p.Encrypt(t.Context(), dataKey, tenant(t, "a"))
		if !errors.Is(err, kmsencrypted.ErrDenied) || kmsencrypted.ConcernsAll(err) {
			t.Errorf("denied: %v, want ErrDenied that concerns some", err)
		}
	})
}

// Renew makes a version that this process uses at once and others within MaxAge. Nothing
// leads a process back to an older one.
func TestRenew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &setBack{Store: newDir(t, branch.Limits{})}
		service := newService(t)
		one, two := open(t, store, service, byTenant), open(t, store, service, byTenant)
		first := wrap(t, one, tenant(t, "a"))
		opens(t, two, wrap(t, two, tenant(t, "a")), tenant(t, "a"))
		time.Sleep(time.Second)
		before := time.Now()
		if version, err := one.Renew(t.Context(), branch.Name{Branch: "a"}); err != nil || version != 2 {
			t.Fatalf("Renew() = %d, %v", version, err)
		}
		versions := func(p *branch.Provider) byte { return wrap(t, p, tenant(t, "a"))[4] }
		if got := versions(one); got != 2 {
			t.Errorf("the process that renewed writes version %d", got)
		}
		time.Sleep(59 * time.Second)
		if got := versions(two); got != 2 {
			t.Errorf("another process writes version %d after MaxAge", got)
		}
		opens(t, two, first, tenant(t, "a"))

		store.hide = 2
		time.Sleep(time.Minute)
		if _, err := two.Encrypt(t.Context(), dataKey, tenant(t, "a")); !errors.Is(err, branch.ErrMissing) {
			t.Errorf("a key store that was set back: Encrypt = %v, want ErrMissing", err)
		}
		opens(t, two, first, tenant(t, "a"))
		// A process that has just started does not know better, unless it is told.
		pinned := open(t, store, service, branch.Options{Of: branch.ByPair("tenant"), NotBefore: before})
		if _, err := pinned.Encrypt(t.Context(), dataKey, tenant(t, "a")); !errors.Is(err, kmsencrypted.ErrVersionRetired) {
			t.Errorf("an older version than NotBefore: Encrypt = %v, want ErrVersionRetired", err)
		}
		fails(t, pinned, first, tenant(t, "a"), kmsencrypted.ErrVersionRetired)
		store.hide = 0
		opens(t, pinned, wrap(t, pinned, tenant(t, "a")), tenant(t, "a"))
	})
}

// A load that began before the branch was renewed does not bring the older version back, neither for those who wait for it nor
// for later calls.
func TestRenewWhileOpening(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := newService(t)
		p := open(t, newDir(t, branch.Limits{}), service, byTenant)
		wrap(t, p, tenant(t, "a"))
		time.Sleep(2 * time.Minute)
		service.Set(kmstest.Slow(time.Second, 1).On(kmsencrypted.OpUnwrap))
		var all sync.WaitGroup
		all.Go(func() { wrap(t, p, tenant(t, "a")) })
		time.Sleep(time.Millisecond)
		if version, err := p.Renew(t.Context(), branch.Name{Branch: "a"}); err != nil || version != 2 {
			t.Errorf("Renew() = %d, %v", version, err)
		}
		for range 2 {
			if got := wrap(t, p, tenant(t, "a"))[4]; got != 2 {
				t.Errorf("the process that renewed writes version %d", got)
			}
			all.Wait()
		}
	})
}

// setBack is a key store without its newest versions.
type setBack struct {
	branch.Store
	hide uint32 // this version and later ones; 0 hides none
	swap bool   // exchanges the keys of the branches a and b
	late bool   // says that rows were made later than they were
}

func (s *setBack) Read(ctx context.Context, name branch.Name) (branch.State, []branch.Row, error) {
	state, rows, err := s.Store.Read(ctx, name)
	var kept []branch.Row
	for i, r := range rows {
		if s.swap {
			other := map[string]string{"a": "b", "b": "a"}[name.Branch]
			_, others, _ := s.Store.Read(ctx, branch.Name{Branch: other})
			r.WrappedKey = others[i].WrappedKey
		}
		if s.late {
			r.Created = r.Created.Add(time.Hour)
		}
		if s.hide == 0 || r.Version < s.hide {
			kept = append(kept, r)
		}
	}
	return state, kept, err
}

// Rows are bound to their branch and to their time.
func TestExchangedRows(t *testing.T) {
	t.Parallel()
	service := newService(t)
	store := &setBack{Store: newDir(t, branch.Limits{})}
	p := open(t, store, service, byTenant)
	a := wrap(t, p, tenant(t, "a"))
	wrap(t, p, tenant(t, "b"))
	for name, attack := range map[string]setBack{"exchanged": {swap: true}, "later": {late: true}} {
		attack.Store = store.Store
		attacked := open(t, &attack, service, byTenant)
		if _, err := attacked.Decrypt(t.Context(), a, tenant(t, "a")); !errors.Is(err, kmsencrypted.ErrDecrypt) && !errors.Is(err, kmsencrypted.ErrBinding) {
			t.Errorf("%s: Decrypt = %v, want ErrDecrypt or ErrBinding", name, err)
		}
	}
}

// During an outage, branches that are open go on until MaxAge and, if that is
// permitted, StaleFor. A refusal ends them at MaxAge.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, nested := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			of := branch.ByPair("tenant")
			if nested {
				of = branch.ByPairs("tenant", "id")
			}
			store := newDir(t, branch.Limits{StaleFor: time.Hour})
			service := newService(t)
			var stale int
			patient := open(t, store, service, branch.Options{Of: of, StaleFor: 30 * time.Minute, Observer: func(_ context.Context, e branch.Event) {
				if e.Kind == branch.Stale {
					stale++
				}
			}})
			strict := open(t, store, service, branch.Options{Of: of})
			a := tenant(t, "a")
			ciphertext := wrap(t, patient, a)
			opens(t, strict, ciphertext, a)
			service.Set(kmstest.Unavailable(1))
			time.Sleep(59 * time.Second)
			opens(t, strict, ciphertext, a)
			time.Sleep(time.Second)
			fails(t, strict, ciphertext, a, kmsencrypted.ErrUnavailable)
			service.Forget()
			for range 29 * 60 {
				opens(t, patient, ciphertext, a)
				time.Sleep(time.Second)
			}
			if calls := len(service.Calls()); stale == 0 || calls > 29*60/5 {
				t.Errorf("%d events, and %d calls to a service that is away in 29 minutes", stale, calls)
			}
			service.Set(kmstest.Revoke(1))
			time.Sleep(5 * time.Second)
			fails(t, patient, ciphertext, a, kmsencrypted.ErrDenied)
			service.Set()
			opens(t, patient, ciphertext, a)
			service.Set(kmstest.Unavailable(1))
			time.Sleep(31 * time.Minute)
			fails(t, patient, ciphertext, a, kmsencrypted.ErrUnavailable)
			fails(t, patient, ciphertext, a, kmsencrypted.ErrUnavailable)
		})
	}
}

// Who was refused the current key of a branch is refused that version of it too, also by an
// outage that follows.
func TestRefusalOfTheCurrentKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := newService(t)
		p := open(t, newDir(t, branch.Limits{StaleFor: time.Hour}), service, branch.Options{Of: branch.ByPair("tenant"), StaleFor: time.Hour})
		a := tenant(t, "a")
		ciphertext := wrap(t, p, a)
		time.Sleep(time.Minute)
		service.Set(kmstest.Revoke(1))
		if _, err := p.Encrypt(t.Context(), dataKey, a); !errors.Is(err, kmsencrypted.ErrDenied) {
			t.Errorf("Encrypt = %v, want ErrDenied", err)
		}
		service.Set(kmstest.Unavailable(1))
		fails(t, p, ciphertext, a, kmsencrypted.ErrUnavailable)
	})
}

// A refusal is remembered for NegativeAge.
func TestNegativeAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := newService(t)
		p := open(t, newDir(t, branch.Limits{}), service, branch.Options{NegativeAge: 10 * time.Second})
		if err := p.Ensure(t.Context(), branch.Name{Branch: "default"}); err != nil {
			t.Fatal(err)
		}
		service.Forget()
		service.Set(kmstest.Revoke(1))
		for range 20 {
			if _, err := p.Encrypt(t.Context(), dataKey, kmsencrypted.BoundContext{}); !errors.Is(err, kmsencrypted.ErrDenied) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if got := len(service.Calls()); got != 2 {
			t.Errorf("%d calls in 20 s, want 2", got)
		}
	})
}

// Branch keys are opened again when the cache is too small, and every record opens.
func TestSmallCache(t *testing.T) {
	t.Parallel()
	service := newService(t)
	p := open(t, newDir(t, branch.Limits{}), service, branch.Options{Of: branch.ByPairs("tenant", "id"), MaxKeys: 2})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			ec := tenant(t, fmt.Sprint("t", i))
			for range 20 {
				ciphertext, err := p.Encrypt(t.Context(), dataKey, ec)
				if err != nil {
					t.Error(err)
					return
				}
				opens(t, p, ciphertext, ec)
			}
		})
	}
	all.Wait()
}

// As many branches as MaxKeys stay open, though one that is written has an entry for its current version too.
func TestMaxKeys(t *testing.T) {
	t.Parallel()
	service := newService(t)
	const most = 4
	p := open(t, newDir(t, branch.Limits{MaxAge: time.Hour}), service, branch.Options{Of: branch.ByPair("tenant"), MaxAge: time.Hour, MaxKeys: most})
	all := func(branches int) (calls int) {
		before := len(service.Calls())
		for i := range branches {
			opens(t, p, wrap(t, p, tenant(t, fmt.Sprint("t", i))), tenant(t, fmt.Sprint("t", i)))
		}
		return len(service.Calls()) - before
	}
	all(most)
	if calls := all(most); calls != 0 {
		t.Errorf("%d calls for branches that are open", calls)
	}
	all(most + 1)
	if calls := all(most); calls == 0 {
		t.Error("more branches stay open than MaxKeys")
	}
}

// What does not suit branch keys is refused before the first record.
func TestRefusedConfigurations(t *testing.T) {
	t.Parallel()
	service := newService(t)
	store := newDir(t, branch.Limits{})
	p := open(t, store, service, branch.Options{})
	for name, v := range map[string]kmsencrypted.Version{
		"Ruby": {Provider: p, Format: kmsencrypted.Ruby}, "EncryptOnly": {Provider: p, EncryptOnly: true},
	} {
		if _, err := (kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: v}}).Box(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s over branches: %v, want ErrConfig", name, err)
		}
		v.Provider = service.Provider()
		box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: v}}.Box()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := branch.Open(t.Context(), store, box, branch.Options{}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("branches over %s: %v, want ErrConfig", name, err)
		}
	}
	for name, o := range map[string]branch.Options{
		"MaxAge": {MaxAge: time.Hour}, "StaleFor": {StaleFor: 1}, "negative": {MaxAge: -1}, "one key": {MaxKeys: 1},
	} {
		if _, err := branch.Open(t.Context(), store, service.Box(t), o); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	insecure, err := branch.Open(t.Context(), store, kmstest.Box(t), branch.Options{})
	if err != nil || !insecure.Info().Insecure {
		t.Errorf("over the insecure test key: %v, want a provider that is insecure", err)
	}
}
