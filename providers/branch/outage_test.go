package branch_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// awayStore is a key store that cannot be reached for a while.
type awayStore struct {
	branch.Store
	away atomic.Bool
}

func (s *awayStore) Read(ctx context.Context, name branch.Name) (branch.State, []branch.Row, error) {
	if s.away.Load() {
		return branch.State{}, nil, kmsencrypted.ErrUnavailable
	}
	return s.Store.Read(ctx, name)
}

// Callers that give up, a service that does not answer at all, and a key store that was
// away for a moment take nothing from StaleFor.
func TestStaleForLasts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault kmstest.Fault
		store bool
	}{
		{"away", kmstest.Unavailable(1), false},
		{"slow to say so", kmstest.Before(func(ctx context.Context) error {
			select {
			case <-time.After(time.Second):
				return kmsencrypted.ErrUnavailable
			case <-ctx.Done():
				return ctx.Err()
			}
		}), false},
		{"no answer", kmstest.Hang(1), false},
		{"no answer, and no key store for a moment", kmstest.Hang(1), true},
	} {
		for of, nested := range map[string]branch.NameFunc{"branch": branch.ByPair("tenant"), "nested": branch.ByPairs("tenant", "id")} {
			t.Run(test.name+", "+of, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					defer time.Sleep(time.Minute) // what runs in the background ends
					service := newService(t)
					store := &awayStore{Store: newDir(t, branch.Limits{StaleFor: time.Hour})}
					p := open(t, store, service, branch.Options{Of: nested, StaleFor: time.Hour})
					a := tenant(t, "a")
					ciphertext := wrap(t, p, a)
					time.Sleep(time.Minute)
					service.Set(test.fault)
					impatient := func() error {
						ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
						defer cancel()
						_, err := p.Decrypt(ctx, ciphertext, a)
						return err
					}
					for range 20 { // until it is known that nobody answers
						_ = impatient()
					}
					if test.store {
						time.Sleep(10 * time.Second)
						store.away.Store(true)
						if err := impatient(); err == nil {
							t.Error("a key was used without its row")
						}
						store.away.Store(false)
						_, _ = impatient(), impatient()
						time.Sleep(2 * time.Second)
					}
					opened := 0
					for range 100 {
						time.Sleep(20 * time.Second)
						if impatient() == nil {
							opened++
							continue
						}
						time.Sleep(2 * time.Second) // the service was asked again
						if err := impatient(); err != nil {
							t.Fatalf("after a try of the service: %v", err)
						}
						opened++
					}
					if opened != 100 {
						t.Errorf("%d of 100 opened within StaleFor", opened)
					}
					time.Sleep(time.Hour)
					if err := impatient(); err == nil {
						t.Error("it opens after StaleFor")
					}
				})
			})
		}
	}
}

// A key that had to make room while the service was asked does not come back: whoever
// waits for it gets an answer, and no processor is kept busy.
func TestWipedKeyStaysAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := newService(t)
		p := open(t, newDir(t, branch.Limits{StaleFor: time.Hour}), service, branch.Options{Of: branch.ByPair("tenant"), StaleFor: time.Hour, MaxKeys: 2})
		a := tenant(t, "a")
		ciphertext := wrap(t, p, a)
		time.Sleep(time.Minute)
		service.Set(kmstest.Before(func(context.Context) error {
			time.Sleep(time.Second)
			return kmsencrypted.ErrThrottled
		}))
		answer := make(chan error, 1)
		go func() {
			_, err := p.Decrypt(t.Context(), ciphertext, a)
			answer <- err
		}()
		synctest.Wait()
		service.Set()
		for _, other := range []string{"b", "c"} {
			wrap(t, p, tenant(t, other))
		}
		if err := <-answer; err != nil && !errors.Is(err, kmsencrypted.ErrThrottled) {
			t.Errorf("Decrypt = %v", err)
		}
		opens(t, p, ciphertext, a)
	})
}

// A branch whose only row is gone gets no other key under the same number.
func TestFirstVersionVanishes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &setBack{Store: newDir(t, branch.Limits{})}
		p := open(t, store, newService(t), byTenant)
		wrap(t, p, tenant(t, "a"))
		store.hide = 1
		time.Sleep(2 * time.Minute)
		if _, err := p.Encrypt(t.Context(), dataKey, tenant(t, "a")); !errors.Is(err, branch.ErrMissing) {
			t.Errorf("Encrypt = %v, want ErrMissing", err)
		}
	})
}

// Names that no branch may have are refused before a row is made, and errors name the branch.
func TestWarmNames(t *testing.T) {
	t.Parallel()
	store := newDir(t, branch.Limits{})
	p := open(t, store, newService(t), byTenant)
	bad := []branch.Name{{}, {Parent: "acme"}, {Branch: "a\x00b"}, {Branch: strings.Repeat("x", 300)}}
	err := p.Warm(t.Context(), append(bad, branch.Name{Branch: "good"})...)
	if !errors.Is(err, kmsencrypted.ErrContext) || strings.Count(err.Error(), "branch") < len(bad) {
		t.Errorf("Warm = %v", err)
	}
	n := 0
	for b, err := range p.Branches(t.Context(), "") {
		if err != nil || b.Branch != "good" {
			t.Errorf("made %v, %v", b, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d branches", n)
	}
}
