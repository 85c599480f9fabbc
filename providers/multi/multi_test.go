package multi_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

func newService(t *testing.T) *kmstest.Service {
	t.Helper()
	p, err := local.Create(filepath.Join(t.TempDir(), "keys.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return kmstest.NewService(p)
}

// regions are three services behind a Box.
type regions struct {
	services [3]*kmstest.Service
	provider *multi.Provider
	box      *kmsencrypted.Box
}

func newRegions(t *testing.T, o multi.Options) *regions {
	t.Helper()
	r := new(regions)
	var providers []kmsencrypted.Provider
	for i := range r.services {
		r.services[i] = newService(t)
		providers = append(providers, r.services[i].Provider())
	}
	o.Tags = []string{"a", "b", "c"}
	r.provider = multi.New(providers, o)
	box, err := kmsencrypted.NewBox(r.provider)
	if err != nil {
		t.Fatal(err)
	}
	r.box = box
	return r
}

// calls is how often each region was asked since the last time.
func (r *regions) calls() (n [3]int) {
	for i, s := range r.services {
		n[i] = len(s.Calls())
		s.Forget()
	}
	return n
}

func (r *regions) set(faults [3][]kmstest.Fault) {
	for i, s := range r.services {
		s.Set(faults[i]...)
	}
}

var binding = kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"7"}, Context: kmsencrypted.Context{"id": 7}}

func (r *regions) wrap(t *testing.T) (kmsencrypted.DataKey, string) {
	t.Helper()
	k := kmsencrypted.NewDataKey()
	column, err := r.box.Wrap(t.Context(), k, binding)
	if err != nil {
		t.Fatal(err)
	}
	return k, column
}

func TestEachRegionOpens(t *testing.T) {
	t.Parallel()
	r := newRegions(t, multi.Options{})
	k, column := r.wrap(t)
	if got := r.calls(); got != [3]int{1, 1, 1} {
		t.Errorf("wrapping asks %v, want each once", got)
	}
	if missing, err := r.provider.Missing(column); err != nil || missing != nil {
		t.Errorf("Missing() = %v, %v", missing, err)
	}
	for i := range r.services {
		var down [3][]kmstest.Fault
		want := [3]int{1, 1, 1}
		for j := range r.services {
			if j < i {
				down[j] = []kmstest.Fault{kmstest.Unavailable(1)}
			}
			if j > i {
				want[j] = 0
			}
		}
		r.set(down)
		got, err := r.box.Unwrap(t.Context(), column, binding)
		if err != nil || !got.Equal(k) {
			t.Errorf("with %d regions down: %v", i, err)
		}
		if got := r.calls(); got != want {
			t.Errorf("with %d regions down: asks %v, want %v", i, got, want)
		}
	}
}

// What happens to a read when the first region does not serve.
func TestReadsPassOverOutagesOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first  kmstest.Fault
		passes bool
		want   error // if it does not pass, or if all regions are like the first
	}{
		"unavailable":   {kmstest.Unavailable(1), true, kmsencrypted.ErrUnavailable},
		"throttled":     {kmstest.Throttle(1), true, kmsencrypted.ErrThrottled},
		"no answer":     {kmstest.Hang(1), true, kmsencrypted.ErrUnavailable},
		"slow":          {kmstest.Slow(time.Hour, 1), true, kmsencrypted.ErrUnavailable},
		"key unusable":  {kmstest.Fail(kmsencrypted.ErrKeyUnusable, 1), true, kmsencrypted.ErrKeyUnusable},
		"denied":        {kmstest.Revoke(1), false, kmsencrypted.ErrDenied},
		"refused":       {kmstest.Fail(kmsencrypted.ErrDecrypt, 1), false, kmsencrypted.ErrDecrypt},
		"another key":   {kmstest.WrongKey(1), false, kmsencrypted.ErrBinding},
		"changed bytes": {kmstest.Corrupt(1), false, kmsencrypted.ErrBinding},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegions(t, multi.Options{CallTimeout: time.Second})
				k, column := r.wrap(t)
				r.calls()
				r.services[0].Set(c.first)
				start := time.Now()
				got, err := r.box.Unwrap(t.Context(), column, binding)
				if took := time.Since(start); took > time.Second {
					t.Errorf("one region: took %v, want at most the time limit of a call", took)
				}
				if c.passes && (err != nil || !got.Equal(k)) {
					t.Errorf("one region: %v, want the key from the next", err)
				}
				if !c.passes && !errors.Is(err, c.want) {
					t.Errorf("one region: %v, want %v", err, c.want)
				}
				want := [3]int{1, 0, 0}
				if c.passes {
					want[1] = 1
				}
				if asked := r.calls(); asked != want {
					t.Errorf("one region: asks %v, want %v", asked, want)
				}
				r.set([3][]kmstest.Fault{{c.first}, {c.first}, {c.first}})
				_, err = r.box.Unwrap(t.Context(), column, binding)
				if !errors.Is(err, c.want) || kmsencrypted.Retryable(err) != kmsencrypted.Retryable(c.want) {
					t.Errorf("all regions: %v, want %v", err, c.want)
				}
				if located, ok := errors.AsType[*kmsencrypted.Error](err); !ok || located.Provider != "multi" || strings.Count(located.KeyID, " + ") != 2 {
					t.Errorf("all regions: %+v, want an error of multi", err)
				}
			})
		})
	}
}

// A refusal after an outage is a refusal, but it may pass.
func TestRefusalAfterAnOutage(t *testing.T) {
	t.Parallel()
	r := newRegions(t, multi.Options{})
	_, column := r.wrap(t)
	r.set([3][]kmstest.Fault{{kmstest.Throttle(1)}, {kmstest.Revoke(1)}, nil})
	_, err := r.box.Unwrap(t.Context(), column, binding)
	if !errors.Is(err, kmsencrypted.ErrDenied) || !kmsencrypted.Retryable(err) {
		t.Errorf("throttled, then denied: %v, want both", err)
	}
}

func TestWritesNeedTheirQuorum(t *testing.T) {
	t.Parallel()
	unavailable, hanging := []kmstest.Fault{kmstest.Unavailable(1)}, []kmstest.Fault{kmstest.Hang(1)}
	denied, unusable := []kmstest.Fault{kmstest.Revoke(1)}, []kmstest.Fault{kmstest.Fail(kmsencrypted.ErrKeyUnusable, 1)}
	for name, c := range map[string]struct {
		quorum  int
		faults  [3][]kmstest.Fault
		missing []string
		want    error
	}{
		"all":                          {0, [3][]kmstest.Fault{}, nil, nil},
		"all, one down":                {0, [3][]kmstest.Fault{nil, unavailable, nil}, nil, kmsencrypted.ErrUnavailable},
		"two of three":                 {2, [3][]kmstest.Fault{}, nil, nil},
		"two of three, one down":       {2, [3][]kmstest.Fault{unavailable, nil, nil}, []string{"a"}, nil},
		"two of three, one silent":     {2, [3][]kmstest.Fault{nil, nil, hanging}, []string{"c"}, nil},
		"two of three, two down":       {2, [3][]kmstest.Fault{unavailable, hanging, nil}, nil, kmsencrypted.ErrUnavailable},
		"one of three, two down":       {1, [3][]kmstest.Fault{unavailable, hanging, nil}, []string{"a", "b"}, nil},
		"one of three, one denied":     {1, [3][]kmstest.Fault{nil, nil, denied}, nil, kmsencrypted.ErrDenied},
		"one of three, one key gone":   {1, [3][]kmstest.Fault{nil, unusable, nil}, nil, kmsencrypted.ErrKeyUnusable},
		"one of three, down or denied": {1, [3][]kmstest.Fault{unavailable, denied, nil}, nil, kmsencrypted.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegions(t, multi.Options{Quorum: c.quorum, CallTimeout: time.Second})
				r.set(c.faults)
				start := time.Now()
				k := kmsencrypted.NewDataKey()
				column, err := r.box.Wrap(t.Context(), k, binding)
				if took := time.Since(start); took > time.Second {
					t.Errorf("took %v, want all regions side by side", took)
				}
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Fatalf("Wrap: %v, want %v", err, c.want)
				}
				if err != nil {
					return
				}
				if missing, err := r.provider.Missing(column); err != nil || !slices.Equal(missing, c.missing) {
					t.Errorf("Missing() = %v, %v, want %v", missing, err, c.missing)
				}
				r.set([3][]kmstest.Fault{})
				completed, err := r.box.Rewrap(t.Context(), column, binding)
				if err != nil {
					t.Fatal(err)
				}
				if missing, err := r.provider.Missing(completed); err != nil || missing != nil {
					t.Errorf("after Rewrap Missing() = %v, %v, want none", missing, err)
				}
				if got, err := r.box.Unwrap(t.Context(), completed, binding); err != nil || !got.Equal(k) {
					t.Errorf("after Rewrap: %v", err)
				}
			})
		})
	}
}

// Tags order the tries, and a provider that has another name now still opens.
func TestTags(t *testing.T) {
	t.Parallel()
	a, b := newService(t), newService(t)
	box := func(tags ...string) *kmsencrypted.Box {
		box, err := kmsencrypted.NewBox(multi.New([]kmsencrypted.Provider{a.Provider(), b.Provider()}, multi.Options{Tags: tags}))
		if err != nil {
			t.Fatal(err)
		}
		return box
	}
	k := kmsencrypted.NewDataKey()
	column, err := box("a", "b").Wrap(t.Context(), k, binding)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tags  []string
		calls [2]int
	}{
		"the same":        {[]string{"a", "b"}, [2]int{1, 0}},
		"only the second": {[]string{"x", "b"}, [2]int{0, 1}},
		"new ones":        {[]string{"x", "y"}, [2]int{1, 0}},
		"of one another":  {[]string{"b", "a"}, [2]int{1, 0}},
	} {
		a.Forget()
		b.Forget()
		got, err := box(c.tags...).Unwrap(t.Context(), column, binding)
		if name == "of one another" {
			if !errors.Is(err, kmsencrypted.ErrDecrypt) {
				t.Errorf("%s: %v, want ErrDecrypt", name, err)
			}
		} else if err != nil || !got.Equal(k) {
			t.Errorf("%s: %v", name, err)
		}
		if calls := [2]int{len(a.Calls()), len(b.Calls())}; calls != c.calls {
			t.Errorf("%s: asks %v, want %v", name, calls, c.calls)
		}
	}
	// Another pair of keys does not open, and says so.
	a, b = newService(t), newService(t)
	if _, err := box("x", "y").Unwrap(t.Context(), column, binding); !errors.Is(err, kmsencrypted.ErrDecrypt) || kmsencrypted.Retryable(err) {
		t.Errorf("other keys: %v, want ErrDecrypt", err)
	}
	if n := len(a.Calls()) + len(b.Calls()); n != 4 {
		t.Errorf("other keys: %d calls, want each wrap by each provider", n)
	}
}

func TestObserverSeesEachProvider(t *testing.T) {
	t.Parallel()
	var events []kmsencrypted.Event
	r := newRegions(t, multi.Options{Observer: func(_ context.Context, e kmsencrypted.Event) {
		if e.Op == kmsencrypted.OpUnwrap {
			events = append(events, e)
		}
	}})
	_, column := r.wrap(t)
	r.services[0].Set(kmstest.Unavailable(1))
	if _, err := r.box.Unwrap(t.Context(), column, binding); err != nil {
		t.Fatal(err)
	}
	if len(events) != 2 || events[0].Key.Tag != "a" || !errors.Is(events[0].Err, kmsencrypted.ErrUnavailable) ||
		events[1].Key.Tag != "b" || events[1].Err != nil || events[1].Context.String() != `{"id":"7"}` {
		t.Errorf("events = %+v, want the failure of a and the success of b", events)
	}
}

// With guards a region that stays down costs nothing after the first calls.
func TestGuardedRegions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down, up := newService(t), newService(t)
		options := guard.Options{Attempts: 1, BreakAfter: 3, CallTimeout: 100 * time.Millisecond}
		box, err := kmsencrypted.NewBox(multi.New([]kmsencrypted.Provider{guard.New(down.Provider(), options), guard.New(up.Provider(), options)}, multi.Options{Tags: []string{"down", "up"}}))
		if err != nil {
			t.Fatal(err)
		}
		column, err := box.Wrap(t.Context(), kmsencrypted.NewDataKey(), binding)
		if err != nil {
			t.Fatal(err)
		}
		down.Set(kmstest.Hang(1))
		start := time.Now()
		for range 1000 {
			if _, err := box.Unwrap(t.Context(), column, binding); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 300*time.Millisecond {
			t.Errorf("1000 reads while a region is silent: %v, want 3 time limits of 100 ms", took)
		}
	})
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	a, b := newService(t).Provider(), newService(t).Provider()
	for name, p := range map[string]*multi.Provider{
		"none":                  multi.New(nil, multi.Options{}),
		"nil among them":        multi.New([]kmsencrypted.Provider{a, nil}, multi.Options{}),
		"equal tags":            multi.New([]kmsencrypted.Provider{a, b}, multi.Options{}),
		"too few tags":          multi.New([]kmsencrypted.Provider{a, b}, multi.Options{Tags: []string{"a"}}),
		"quorum of more":        multi.New([]kmsencrypted.Provider{a, b}, multi.Options{Quorum: 3, Tags: []string{"a", "b"}}),
		"negative quorum":       multi.New([]kmsencrypted.Provider{a}, multi.Options{Quorum: -1}),
		"negative time":         multi.New([]kmsencrypted.Provider{a}, multi.Options{CallTimeout: -1}),
		"long tag":              multi.New([]kmsencrypted.Provider{a}, multi.Options{Tags: []string{strings.Repeat("x", 256)}}),
		"several in one":        multi.New([]kmsencrypted.Provider{multi.New([]kmsencrypted.Provider{a}, multi.Options{})}, multi.Options{}),
		"an insecure one":       multi.New([]kmsencrypted.Provider{a, testkey.New()}, multi.Options{}),
		"a guard's own mistake": multi.New([]kmsencrypted.Provider{guard.New(a, guard.Options{Rate: -1})}, multi.Options{}),
	} {
		if _, err := kmsencrypted.NewBox(p); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: NewBox: %v, want ErrConfig", name, err)
		}
		if _, err := p.EncryptAll(t.Context(), []byte("x"), kmsencrypted.BoundContext{}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: EncryptAll: %v, want ErrConfig", name, err)
		}
		if _, err := p.DecryptAny(t.Context(), nil, kmsencrypted.BoundContext{}, nil); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: DecryptAny: %v, want ErrConfig", name, err)
		}
	}
	if _, err := (kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: multi.New([]kmsencrypted.Provider{a}, multi.Options{}), Format: kmsencrypted.Ruby}}}).Box(); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("under a Ruby version: %v, want ErrConfig", err)
	}
	for _, column := range []string{"", "plain", "v1:", "v1:AAAA", "AAAA"} {
		if _, err := multi.New([]kmsencrypted.Provider{a}, multi.Options{}).Missing(column); !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("Missing(%q): %v, want ErrMalformed", column, err)
		}
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T) ([]*kmstest.Service, *multi.Provider) {
		a, b := newService(t), newService(t)
		return []*kmstest.Service{a, b}, multi.New([]kmsencrypted.Provider{a.Provider(), b.Provider()}, multi.Options{Tags: []string{"a", "b"}})
	}
	providertest.Run(t, providertest.Harness{
		Open: func(t *testing.T) providertest.Key {
			services, p := open(t)
			_, other := open(t)
			set := func(f kmstest.Fault) func(*testing.T) {
				return func(*testing.T) {
					for _, s := range services {
						s.Set(f)
					}
				}
			}
			return providertest.Key{
				Provider:    p,
				Other:       other,
				Disable:     set(kmstest.Fail(kmsencrypted.ErrKeyUnusable, 1)),
				DenyEncrypt: set(kmstest.Revoke(1).On(kmsencrypted.OpWrap)),
				DenyDecrypt: set(kmstest.Revoke(1).On(kmsencrypted.OpUnwrap)),
				Throttle:    set(kmstest.Throttle(1)),
				Interrupt:   set(kmstest.Unavailable(1)),
				Hang:        set(kmstest.Hang(1)),
			}
		},
		Lacks: map[string]string{
			"Missing": "a key file that is missing cannot be opened",
			"Rotate":  "a key file is opened anew after its rotation",
		},
	})
}
