package aws_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/internal/goroutines"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
)

// These tests give the official client bad days. Those without a network run
// under a clock of their own, and end only when all their goroutines have.

// inProcess is a provider with the attempts of Open, whose client reaches s
// without a network.
func inProcess(t *testing.T, s *awskms.Server, keyID string, source sdk.CredentialsProvider) *aws.Provider {
	t.Helper()
	client := s.Client(func(o *kms.Options) {
		o.HTTPClient = awskms.InProcess{Server: s}
		o.Retryer, o.RetryMaxAttempts = aws.Retryer(), 0
		if source != nil {
			o.Credentials = sdk.NewCredentialsCache(source) // as the SDK's configuration does
		}
	})
	p, err := aws.New(client, keyID, nil)
	must(t, err)
	return p
}

// traffic unwraps a value by many callers at once, and counts what comes back.
type traffic struct {
	ciphertext []byte
	ok, failed atomic.Int64
}

func (c *traffic) run(t *testing.T, p kmsencrypted.Provider, calls int, every time.Duration) {
	t.Helper()
	var callers sync.WaitGroup
	for range calls {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			plaintext, err := p.Decrypt(ctx, c.ciphertext, bind(t, user))
			switch {
			case err == nil && string(plaintext) == string(secret):
				c.ok.Add(1)
			case err == nil:
				t.Errorf("a wrong answer: %q", plaintext)
			case plaintext != nil || !kmsencrypted.Retryable(err):
				t.Errorf("Decrypt = %q, %v, want an error that may pass", plaintext, err)
			default:
				c.failed.Add(1)
			}
		})
		time.Sleep(every)
	}
	callers.Wait()
}

func TestBadDays(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault    awskms.Fault
		outage   time.Duration // how long it lasts; 0 for ever
		guard    *guard.Options
		ok       int64   // of 1000 calls at least
		requests float64 // for each call at most
	}{
		"30 % throttled":          {fault: awskms.Fault{Error: "ThrottlingException", Share: 0.3}, ok: 900, requests: 1.6},
		"30 % throttled, guarded": {awskms.Fault{Error: "ThrottlingException", Share: 0.3}, 0, &guard.Options{Attempts: 8}, 1000, 1.6},
		"10 s outage":             {awskms.Fault{Error: "KMSInternalException"}, 10 * time.Second, nil, 450, 2},
		"10 s outage, guarded":    {awskms.Fault{Error: "KMSInternalException"}, 10 * time.Second, &guard.Options{Attempts: 2, BreakFor: time.Second}, 400, 1},
		"10 s of resets":          {awskms.Fault{Reset: true}, 10 * time.Second, nil, 450, 2},
		"1 % slow, guarded":       {awskms.Fault{Delay: time.Minute, Share: 0.01}, 0, &guard.Options{CallTimeout: 200 * time.Millisecond}, 1000, 1.1},
		"answers cut off":         {fault: awskms.Fault{Cut: true, Share: 0.3}, ok: 900, requests: 1.6},
	} {
		s := start(t)
		id := s.AddKey("k")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const calls, every = 1000, 20 * time.Millisecond
				opened := inProcess(t, s, id, nil)
				c := traffic{ciphertext: encrypt(t, opened, user)}
				var p kmsencrypted.Provider = opened
				if tt.guard != nil {
					p = guard.New(opened, *tt.guard)
				}
				remove := s.Inject(tt.fault)
				if tt.outage > 0 {
					time.AfterFunc(tt.outage, remove)
				}
				told := len(s.Calls())
				c.run(t, p, calls, every)
				if got := c.ok.Load(); got < tt.ok || got+c.failed.Load() != calls {
					t.Errorf("%d of %d calls were answered, %d failed, want at least %d answered", got, calls, c.failed.Load(), tt.ok)
				}
				if got := float64(len(s.Calls())-told) / calls; got > tt.requests {
					t.Errorf("%.2f requests for a call, want at most %v", got, tt.requests)
				}
				remove()
				time.Sleep(time.Minute)
				opens(t, opened, c.ciphertext, user) // all is well again
			})
		})
	}
}

// TestCredentialsAreRefreshed: credentials that end every minute, for an hour.
func TestCredentialsAreRefreshed(t *testing.T) {
	t.Parallel()
	s := start(t)
	id := s.AddKey("k")
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		minute := func() int { return int(time.Since(begin) / time.Minute) }
		s.Admit(func(accessKeyID string) bool { return accessKeyID == fmt.Sprint("id", minute()) })
		var asked atomic.Int64
		var broken atomic.Bool
		source := sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) {
			asked.Add(1)
			if broken.Load() {
				return sdk.Credentials{}, errNoCredentials
			}
			return sdk.Credentials{
				AccessKeyID: fmt.Sprint("id", minute()), SecretAccessKey: "secret", SessionToken: "token",
				CanExpire: true, Expires: begin.Add(time.Duration(minute()+1) * time.Minute),
			}, nil
		})
		p := inProcess(t, s, id, source)
		ciphertext := encrypt(t, p, user)
		for range 60 * 12 {
			opens(t, p, ciphertext, user)
			time.Sleep(5 * time.Second)
		}
		if n := asked.Load(); n < 60 || n > 62 {
			t.Errorf("an hour takes %d credentials, want one a minute", n)
		}
		// Nobody gives new ones for a while.
		broken.Store(true)
		time.Sleep(time.Minute)
		_, err := p.Decrypt(t.Context(), ciphertext, bind(t, user))
		fails(t, err, errNoCredentials)
		broken.Store(false)
		opens(t, p, ciphertext, user)
		// And credentials that the service does not take any more.
		s.Admit(func(string) bool { return false })
		_, err = p.Decrypt(t.Context(), ciphertext, bind(t, user))
		fails(t, err, kmsencrypted.ErrDenied)
	})
}

// TestClockSkew: the client learns the service's time from its first refusal.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-time.Hour, -4 * time.Minute, 4 * time.Minute, time.Hour} {
		s := start(t)
		p, err := aws.Open(t.Context(), s.AddKey("k"), nil, load(s)...)
		must(t, err)
		s.SetClock(ahead)
		ciphertext := encrypt(t, p, user)
		for range 10 {
			opens(t, p, ciphertext, user)
		}
		want := 11
		if ahead.Abs() > 5*time.Minute {
			want++
		}
		if n := len(s.Calls()); n != want {
			t.Errorf("11 calls to a clock that is %v ahead make %d requests, want %d", ahead, n, want)
		}
		// An attempt that cannot be repeated says what is wrong.
		_, err = open(t, s, "k", nil).Decrypt(t.Context(), ciphertext, bind(t, user))
		if ahead.Abs() > 5*time.Minute {
			fails(t, err, kmsencrypted.ErrDenied)
		} else {
			must(t, err)
		}
	}
}

// TestNothingIsLeftBehind breaks connections of a real network and gives calls up
// in the middle. It is not parallel: it counts goroutines.
func TestNothingIsLeftBehind(t *testing.T) {
	left := goroutines.Check(t)
	s := awskms.New()
	soon := config.WithRetryer(func() sdk.Retryer { return retry.AddWithMaxBackoffDelay(aws.Retryer(), time.Millisecond) })
	p, err := aws.Open(t.Context(), s.AddKey("k"), nil, append(load(s), soon)...)
	must(t, err)
	ciphertext := encrypt(t, p, user)
	for name, fault := range map[string]awskms.Fault{"reset": {Reset: true}, "cut": {Cut: true}} {
		fault.Times = 2
		s.Inject(fault)
		opens(t, p, ciphertext, user)
		fault.Times = 0
		remove := s.Inject(fault)
		told := len(s.Calls())
		_, err := p.Decrypt(t.Context(), ciphertext, bind(t, user))
		if !errors.Is(err, kmsencrypted.ErrUnavailable) || len(s.Calls())-told != 3 {
			t.Errorf("%s for good: %v after %d requests, want ErrUnavailable after 3", name, err, len(s.Calls())-told)
		}
		remove()
	}
	remove := s.Inject(awskms.Fault{Hang: true})
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := p.Decrypt(ctx, ciphertext, bind(t, user))
			fails(t, err, context.DeadlineExceeded)
		})
	}
	callers.Wait()
	remove()
	opens(t, p, ciphertext, user)
	s.Close()
	left()
}
