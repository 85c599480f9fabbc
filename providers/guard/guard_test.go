package guard_test

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
)

const secret = "32 bytes that no error may hold!"

// guarded is a service with faults behind a guard, and a value that it wrapped before.
type guarded struct {
	kmsencrypted.Provider
	service    *kmstest.Service
	ciphertext []byte
}

func newGuarded(t *testing.T, o guard.Options, faults ...kmstest.Fault) *guarded {
	t.Helper()
	service := kmstest.NewService(nil)
	g := &guarded{Provider: guard.New(service.Provider(), o), service: service}
	var err error
	if g.ciphertext, err = g.Encrypt(t.Context(), []byte(secret), kmsencrypted.BoundContext{}); err != nil {
		t.Fatal(err)
	}
	service.Forget()
	service.Set(faults...)
	return g
}

// call unwraps the value.
func (g *guarded) call(ctx context.Context) error {
	_, err := g.Decrypt(ctx, g.ciphertext, kmsencrypted.BoundContext{})
	return err
}

func TestThrottling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls, attempts = 1000, 8
		g := newGuarded(t, guard.Options{Attempts: attempts}, kmstest.Throttle(0.3))
		for i := range calls {
			if err := g.call(t.Context()); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
		if got := float64(len(g.service.Calls())) / calls; math.Abs(got-1/0.7) > 0.05 {
			t.Errorf("%.2f requests for a call of which 30 %% are throttled, want about 1.43", got)
		}
	})
}

func TestAttemptsAreBounded(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{kmsencrypted.ErrThrottled, 4},
		{kmsencrypted.ErrUnavailable, 4},
		{kmsencrypted.ErrDecrypt, 1},
		{kmsencrypted.ErrDenied, 1},
		{kmsencrypted.ErrKeyUnusable, 1},
		{errors.New("unknown"), 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newGuarded(t, guard.Options{Attempts: 4}, kmstest.Fail(c.err, 1))
			if err := g.call(t.Context()); !errors.Is(err, c.err) {
				t.Errorf("call: %v, want %v", err, c.err)
			}
			if got := len(g.service.Calls()); got != c.want {
				t.Errorf("%v: %d requests, want %d", c.err, got, c.want)
			}
		})
	}
}

// Pauses are random below a bound that doubles, and none goes past a deadline.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t, guard.Options{Attempts: 6, Backoff: time.Second, MaxBackoff: 4 * time.Second, BreakAfter: -1}, kmstest.Throttle(1))
		var shortest, longest time.Duration = time.Hour, 0
		for range 200 {
			start := time.Now()
			if err := g.call(t.Context()); !errors.Is(err, kmsencrypted.ErrThrottled) {
				t.Fatalf("call: %v", err)
			}
			took := time.Since(start)
			shortest, longest = min(shortest, took), max(longest, took)
		}
		// Bounds of 1, 2, 4, 4 and 4 seconds: 15 together, 7.5 on average.
		if longest > 15*time.Second || longest < 8*time.Second || shortest > 7*time.Second {
			t.Errorf("five pauses take %v to %v, want them spread below 15 s", shortest, longest)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if err := g.call(ctx); !errors.Is(err, kmsencrypted.ErrThrottled) || ctx.Err() != nil {
			t.Errorf("before a deadline of 3 s: %v after %v, want ErrThrottled in time", err, time.Since(start))
		}
	})
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const outage, every = 10 * time.Second, 10 * time.Millisecond
		g := newGuarded(t, guard.Options{BreakAfter: 5, BreakFor: time.Second, Attempts: 2, Backoff: time.Millisecond}, kmstest.Outage(outage))
		begin := time.Now()
		var callers sync.WaitGroup
		for time.Since(begin) < 2*outage {
			callers.Go(func() {
				start := time.Now()
				err := g.call(t.Context())
				if took := time.Since(start); took > 10*time.Millisecond {
					t.Errorf("a call took %v", took)
				}
				since := start.Sub(begin)
				switch open, isOpen := errors.AsType[*guard.OpenError](err); {
				case since > outage+1010*time.Millisecond && err != nil:
					t.Errorf("%v after the outage: %v", since-outage, err)
				case since < outage && !kmsencrypted.Retryable(err):
					t.Errorf("%v into the outage: %v, want a retryable error", since, err)
				case isOpen && (open.Since.Sub(begin) > 50*time.Millisecond || !errors.Is(open.Last, kmsencrypted.ErrUnavailable) || !strings.Contains(err.Error(), "circuit open since 20")):
					t.Errorf("%v into the outage: %v", since, err)
				case since > 100*time.Millisecond && since < outage && !isOpen && since%time.Second > 100*time.Millisecond:
					t.Errorf("%v into the outage: %v, want the circuit open", since, err)
				}
			})
			time.Sleep(every)
		}
		callers.Wait()
		failed := 0
		for _, c := range g.service.Calls() {
			if c.Err != nil {
				failed++
			}
		}
		if failed > 5+10 {
			t.Errorf("%d of 1000 calls in an outage reached the service, want 5 and one each second", failed)
		}
	})
}

// Of the calls that come while the service is tried again only one gets through.
func TestOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t, guard.Options{BreakAfter: 1, BreakFor: time.Second, Attempts: 1}, kmstest.Unavailable(1))
		if err := g.call(t.Context()); !errors.Is(err, kmsencrypted.ErrUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		g.service.Forget()
		g.service.Set(kmstest.Slow(100*time.Millisecond, 1))
		ctx, cancel := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			if err := g.call(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("a probe that its caller gave up: %v", err)
			}
		})
		synctest.Wait()
		if _, open := errors.AsType[*guard.OpenError](g.call(t.Context())); !open {
			t.Error("a second call gets through beside the probe")
		}
		cancel()
		callers.Wait()
		if err := g.call(t.Context()); err != nil {
			t.Errorf("the next probe: %v", err)
		}
		if err := g.call(t.Context()); err != nil {
			t.Errorf("after the probe was answered: %v", err)
		}
		if n := len(g.service.Calls()); n != 3 {
			t.Errorf("%d requests, want 3", n)
		}
	})
}

func TestSlowCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 200 * time.Millisecond
		g := newGuarded(t, guard.Options{CallTimeout: limit, Backoff: time.Millisecond}, kmstest.Slow(time.Minute, 0.01))
		slow := 0
		for i := range 1000 {
			start := time.Now()
			if err := g.call(t.Context()); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			took := time.Since(start)
			if took >= limit {
				slow++
			}
			if took > 2*limit+10*time.Millisecond {
				t.Errorf("call %d took %v", i, took)
			}
		}
		if slow < 3 || slow > 30 {
			t.Errorf("%d of 1000 calls were slow, want about 10", slow)
		}
		g.service.Set(kmstest.Hang(1))
		if err := g.call(t.Context()); !errors.Is(err, kmsencrypted.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 200ms") {
			t.Errorf("no answer: %v", err)
		}
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls, perSecond, burst = 1000, 100, 10
		g := newGuarded(t, guard.Options{Rate: perSecond, Burst: burst})
		time.Sleep(time.Minute)
		start := time.Now()
		var mu sync.Mutex
		begun := make(map[time.Duration]int) // by the 10 ms in which they begin
		var callers sync.WaitGroup
		for range calls {
			callers.Go(func() {
				if err := g.call(t.Context()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				begun[time.Since(start)/(10*time.Millisecond)]++
				mu.Unlock()
			})
		}
		callers.Wait()
		if took := time.Since(start); took != 9900*time.Millisecond {
			t.Errorf("%d calls, %d at once and %d a second: %v, want 9.9 s", calls, burst, perSecond, took)
		}
		for slot, n := range begun {
			if slot == 0 && n != burst || slot > 0 && n != 1 {
				t.Errorf("%d calls begin in slot %d", n, slot)
			}
		}
	})
}

// A call that cannot begin before its deadline fails at once and takes no turn.
func TestRateBeforeADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t, guard.Options{Rate: 1, Burst: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		for range 10 {
			err := g.call(ctx)
			if busy, ok := errors.AsType[*guard.BusyError](err); !ok || busy.Wait != time.Second || !errors.Is(err, kmsencrypted.ErrThrottled) {
				t.Fatalf("call: %v, want ErrThrottled because of the rate", err)
			}
		}
		left, leave := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, leave)
		if err := g.call(left); !errors.Is(err, context.Canceled) {
			t.Errorf("who gives up waiting: %v", err)
		}
		start := time.Now()
		if err := g.call(t.Context()); err != nil || time.Since(start) != 500*time.Millisecond {
			t.Errorf("the next call: %v after %v, want the turn that was given back", err, time.Since(start))
		}
	})
}

func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t, guard.Options{Concurrency: 4}, kmstest.Slow(time.Second, 1))
		start := time.Now()
		var callers sync.WaitGroup
		for range 20 {
			callers.Go(func() {
				if err := g.call(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("20 calls of a second, 4 at once: %v, want 5 s", took)
		}
	})
}

func TestCancellation(t *testing.T) {
	for name, c := range map[string]struct {
		options guard.Options
		faults  []kmstest.Fault
		busy    int // calls that are under way before
	}{
		"in a request":          {guard.Options{CallTimeout: time.Hour}, []kmstest.Fault{kmstest.Hang(1)}, 0},
		"waiting for a place":   {guard.Options{CallTimeout: time.Hour, Concurrency: 1}, []kmstest.Fault{kmstest.Hang(1)}, 1},
		"waiting for its turn":  {guard.Options{Rate: 0.001}, nil, 0},
		"between two attempts":  {guard.Options{Backoff: time.Hour, MaxBackoff: time.Hour}, []kmstest.Fault{kmstest.Throttle(1)}, 0},
		"before anything began": {guard.Options{}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuarded(t, c.options, c.faults...)
				others, stop := context.WithCancel(t.Context())
				for range c.busy {
					go g.call(others)
				}
				synctest.Wait()
				ctx, cancel := context.WithCancel(t.Context())
				after := time.Second
				if name == "before anything began" {
					after = 0
					cancel()
				}
				time.AfterFunc(after, cancel)
				start := time.Now()
				if err := g.call(ctx); !errors.Is(err, context.Canceled) || time.Since(start) != after {
					t.Errorf("call: %v after %v, want Canceled after %v", err, time.Since(start), after)
				}
				stop()
			})
		})
	}
}

func TestMistakes(t *testing.T) {
	for _, o := range []guard.Options{{Concurrency: -1}, {Rate: -1}, {Rate: math.NaN()}, {Burst: -1}, {CallTimeout: -1}, {Attempts: -1}, {Backoff: -1}, {MaxBackoff: -1}, {BreakFor: -1}} {
		p := guard.New(kmstest.NewService(nil).Provider(), o)
		if _, err := kmsencrypted.NewBox(p); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewBox with %+v: %v, want ErrConfig", o, err)
		}
		if _, err := p.Encrypt(t.Context(), []byte("x"), kmsencrypted.BoundContext{}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Encrypt with %+v: %v, want ErrConfig", o, err)
		}
	}
	if p := guard.New(nil, guard.Options{}); p != nil {
		t.Errorf("New(nil) = %v", p)
	}
	if _, err := kmsencrypted.NewBox(guard.New(kmstest.NewService(nil).Provider(), guard.Options{})); err != nil {
		t.Errorf("NewBox with a guard: %v", err)
	}
}

func TestConformance(t *testing.T) {
	open := func(t *testing.T) *kmstest.Service {
		p, err := local.Create(filepath.Join(t.TempDir(), "keys.txt"))
		if err != nil {
			t.Fatal(err)
		}
		return kmstest.NewService(p)
	}
	options := guard.Options{Concurrency: 100, Rate: 1e6, Backoff: time.Millisecond}
	providertest.Run(t, providertest.Harness{
		Open: func(t *testing.T) providertest.Key {
			s := open(t)
			set := func(f kmstest.Fault) func(*testing.T) { return func(*testing.T) { s.Set(f) } }
			return providertest.Key{
				Provider:    guard.New(s.Provider(), options),
				Other:       guard.New(open(t).Provider(), options),
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
