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
	"github.com/kmsencrypted/kmsencrypted/internal/testing/badday"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/goroutines"
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
	p, err := aws.New(client, keyID, aws.Options{})
	must(t, err)
	return p
}

func TestBadDays(t *testing.T) {
	t.Parallel()
	throttled, outage := awskms.Fault{Error: "ThrottlingException", Share: 0.3}, awskms.Fault{Error: "KMSInternalException"}
	for name, tt := range map[string]struct {
		fault awskms.Fault
		day   badday.Day
	}{
		"30 % throttled":          {throttled, badday.Day{Answered: 900, Requests: 1.6}},
		"30 % throttled, guarded": {throttled, badday.Day{Guard: &guard.Options{Attempts: 8}, Answered: 1000, Requests: 1.6}},
		"10 s outage":             {outage, badday.Day{Outage: 10 * time.Second, Answered: 450, Requests: 2}},
		"10 s outage, guarded":    {outage, badday.Day{Outage: 10 * time.Second, Guard: &guard.Options{Attempts: 2, BreakFor: time.Second}, Answered: 400, Requests: 1}},
		"10 s of resets":          {awskms.Fault{Reset: true}, badday.Day{Outage: 10 * time.Second, Answered: 450, Requests: 2}},
		"1 % slow, guarded":       {awskms.Fault{Delay: time.Minute, Share: 0.01}, badday.Day{Guard: &guard.Options{CallTimeout: 200 * time.Millisecond}, Answered: 1000, Requests: 1.1}},
		"answers cut off":         {awskms.Fault{Cut: true, Share: 0.3}, badday.Day{Answered: 900, Requests: 1.6}},
	} {
		s := start(t)
		id := s.AddKey("k")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.day.Run(t, func(t *testing.T) badday.Service {
				p := inProcess(t, s, id, nil)
				return badday.Service{
					Provider: p, Ciphertext: encrypt(t, p, user), Plaintext: secret, Context: bind(t, user),
					Requests: func() int { return len(s.Calls()) },
					Begin:    func() (end func()) { return s.Inject(tt.fault) },
				}
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

// learnsTime reports whether the SDK learns the service's time from the first
// refusal, as it does since v1.43.0. Before, the caller is told of the clock.
func learnsTime(t *testing.T) bool {
	var major, minor, patch int
	if _, err := fmt.Sscanf(sdk.SDKVersion, "%d.%d.%d", &major, &minor, &patch); err != nil {
		t.Fatalf("version of the SDK %q: %v", sdk.SDKVersion, err)
	}
	return major > 1 || minor >= 43
}

// TestClockSkew: the client learns the service's time from its first refusal.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-time.Hour, -4 * time.Minute, 4 * time.Minute, time.Hour} {
		s := start(t)
		p, err := aws.Open(t.Context(), s.AddKey("k"), aws.Options{Load: load(s)})
		must(t, err)
		s.SetClock(ahead)
		if ahead.Abs() > 5*time.Minute && !learnsTime(t) {
			_, err := p.Encrypt(t.Context(), secret, bind(t, user))
			fails(t, err, kmsencrypted.ErrDenied)
			continue
		}
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
		_, err = open(t, s, "k", aws.Options{}).Decrypt(t.Context(), ciphertext, bind(t, user))
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
	p, err := aws.Open(t.Context(), s.AddKey("k"), aws.Options{Load: append(load(s), soon)})
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
