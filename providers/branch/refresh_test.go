package branch_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// refreshed is a branch in use, at a service that takes three seconds to answer, whose key is opened
// again a quarter of a minute ahead.
func refreshed(t *testing.T, of branch.NameFunc) (p *branch.Provider, service *kmstest.Service, read func(seconds int) (waited time.Duration)) {
	service = newService(t)
	p = open(t, newDir(t, branch.Limits{}), service, branch.Options{Of: of, RefreshAhead: 15 * time.Second})
	a := tenant(t, "a")
	ciphertext := wrap(t, p, a)
	service.Set(kmstest.Slow(3*time.Second, 1))
	service.Forget()
	return p, service, func(seconds int) (waited time.Duration) {
		for range seconds {
			began := time.Now()
			opens(t, p, ciphertext, a)
			waited += time.Since(began)
			time.Sleep(time.Second)
		}
		return waited
	}
}

// Nobody waits for the key of a branch in use, at one call every 45 seconds.
func TestRefresh(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]branch.NameFunc{"branch": branch.ByPair("tenant"), "nested": branch.ByPairs("tenant", "id")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(time.Minute) // what runs in the background ends
				_, service, read := refreshed(t, of)
				const minutes = 30
				if waited := read(minutes * 60); waited > 0 {
					t.Errorf("readers waited %v", waited)
				}
				if calls, most := len(service.Calls()), minutes*60/45; calls < most-2 || calls > most {
					t.Errorf("%d calls, want %d", calls, most)
				}
			})
		})
	}
}

// A refusal ends the use of a key as soon as it is known; an outage does not before MaxAge.
func TestRefreshFails(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault kmstest.Fault
		err   error
		after time.Duration
	}{
		{"denied", kmstest.Revoke(1), kmsencrypted.ErrDenied, 45 * time.Second},
		{"away", kmstest.Unavailable(1), kmsencrypted.ErrUnavailable, time.Minute},
		{"no answer", kmstest.Hang(1), nil, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(time.Minute) // what runs in the background ends
				p, service, read := refreshed(t, branch.ByPair("tenant"))
				service.Set(test.fault)
				read(int(test.after/time.Second) - 1)
				time.Sleep(2 * time.Second)
				if test.err == nil { // the next reader asks, and waits
					service.Set()
				} else {
					read := func() error { _, err := p.Encrypt(t.Context(), dataKey, tenant(t, "a")); return err }
					if test.name == "denied" {
						_ = read() // asks in the background
						synctest.Wait()
					}
					if err := read(); !errors.Is(err, test.err) {
						t.Errorf("after %v: %v, want %v", test.after, err, test.err)
					}
					service.Set()
				}
				read(100)
			})
		})
	}
}
