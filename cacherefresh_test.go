package kmsencrypted_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// A key in use is unwrapped ahead of time, so that nobody waits; one that nobody uses is not. A
// refusal ends its use at once, an outage when it expires.
func TestCacheRefreshes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer error
		after  time.Duration // the key is no longer used
	}{
		{"open", nil, 0},
		{"denied", kmsencrypted.ErrDenied, 49 * time.Second},
		{"away", kmsencrypted.ErrUnavailable, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(time.Minute) // what runs in the background ends
				s, box := cachingBox(t, kmsencrypted.CacheConfig{MaxAge: time.Minute, RefreshAhead: 15 * time.Second}, kmsencrypted.Version{})
				columns := wrapped(t, box, 2)
				read := func(seconds int) (waited time.Duration) {
					for range seconds {
						began := time.Now()
						unwrap(t, box, columns[0])
						waited += time.Since(began)
						time.Sleep(time.Second)
					}
					return waited
				}
				unwrap(t, box, columns[0])
				unwrap(t, box, columns[1])
				s.wantCalls(t, "first reads", 2)
				s.latency = 3 * time.Second
				if test.answer == nil {
					if waited := read(10 * 60); waited > 0 {
						t.Errorf("readers waited %v", waited)
					}
					// Asked after 45 seconds, known after 48.
					s.wantCalls(t, "10 minutes", 10*60/48)
					return
				}
				s.fail = func(int64) error { return test.answer }
				read(47) // asks after 45 seconds, and is answered after 48
				time.Sleep(test.after - 47*time.Second)
				unwrapFails(t, box, columns[0], test.answer)
			})
		})
	}
}
