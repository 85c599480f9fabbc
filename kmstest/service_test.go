package kmstest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
)

func ExampleNewService() {
	t := new(testing.T) // the test's own

	service := kmstest.NewService(nil)
	box := service.Box(t)
	ec := kmsencrypted.Context{"purpose": "webhook"}
	column, _ := box.Encrypt(context.Background(), []byte("token"), ec)

	service.Set(kmstest.Revoke(1))
	_, err := box.Decrypt(context.Background(), column, ec)
	fmt.Println(errors.Is(err, kmsencrypted.ErrDenied))

	service.Set()
	_, err = box.Decrypt(context.Background(), column, ec)
	fmt.Println(err)

	for _, call := range service.Calls() {
		fmt.Println(call.Op, call.Contexts[0], call.Err != nil)
	}
	// Output:
	// true
	// <nil>
	// wrap {"purpose":"webhook"} false
	// unwrap {"purpose":"webhook"} true
	// unwrap {"purpose":"webhook"} false
}

func ExampleBatches() {
	t := new(testing.T) // the test's own

	service := kmstest.NewService(kmstest.Batches(kmstest.Memory(), 25))
	keys := make([]kmsencrypted.KeyToWrap, 60)
	for i := range keys {
		keys[i] = kmsencrypted.KeyToWrap{Key: kmsencrypted.NewDataKey(), Binding: kmsencrypted.Binding{Table: "customers", Column: "encrypted_kms_key", ID: []string{fmt.Sprint(i)}}}
	}
	service.Box(t).WrapAll(context.Background(), keys)
	fmt.Println(service.Count(kmsencrypted.OpWrap), "requests for", service.Values(kmsencrypted.OpWrap), "keys")
	// Output: 3 requests for 60 keys
}

func ExampleFaulty() {
	// What a program does with a service that hands out another key.
	provider := kmstest.Faulty(kmstest.NewService(nil).Provider(), kmstest.WrongKey(1))
	box, _ := kmsencrypted.NewBox(provider)
	column, _ := box.Encrypt(context.Background(), []byte("token"), nil)
	_, err := box.Decrypt(context.Background(), column, nil)
	fmt.Println(errors.Is(err, kmsencrypted.ErrBinding))
	// Output: true
}

// outcome is what a call to a service came to.
func outcome(t *testing.T, box *kmsencrypted.Box, ctx context.Context, column string) error {
	t.Helper()
	plaintext, err := box.Decrypt(ctx, column, nil)
	if err == nil && string(plaintext) != "token" {
		t.Errorf("Decrypt = %q without an error", plaintext)
	}
	return err
}

func token(t *testing.T, box *kmsencrypted.Box) string {
	t.Helper()
	column, err := box.Encrypt(t.Context(), []byte("token"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return column
}

func TestFaultsFailTheirShare(t *testing.T) {
	t.Parallel()
	const calls = 2000
	for name, c := range map[string]struct {
		fault func(share float64) kmstest.Fault
		want  error
	}{
		"Throttle":    {kmstest.Throttle, kmsencrypted.ErrThrottled},
		"Unavailable": {kmstest.Unavailable, kmsencrypted.ErrUnavailable},
		"WrongKey":    {kmstest.WrongKey, kmsencrypted.ErrBinding},
		"Corrupt":     {kmstest.Corrupt, kmsencrypted.ErrBinding},
	} {
		for _, share := range []float64{0, 0.01, 0.3, 1} {
			service := kmstest.NewService(nil)
			box := service.Box(t)
			column := token(t, box)
			failures := func() (failed int) {
				service.Set(c.fault(share))
				for range calls {
					if err := outcome(t, box, t.Context(), column); errors.Is(err, c.want) {
						failed++
					} else if err != nil {
						t.Fatalf("%s(%v): %v, want %v", name, share, err, c.want)
					}
				}
				return failed
			}
			first := failures()
			if got := float64(first) / calls; math.Abs(got-share) > 0.02 {
				t.Errorf("%s(%v) fails %v of the calls", name, share, got)
			}
			if again := failures(); again != first {
				t.Errorf("%s(%v) fails %d calls, and %d the next time", name, share, first, again)
			}
		}
	}
}

func TestFaultsInTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault kmstest.Fault
		want  [4]error         // of a call at 0, 1, 2 and 3 seconds
		took  [4]time.Duration // by it
	}{
		"Outage": {kmstest.Outage(2 * time.Second), [4]error{kmsencrypted.ErrUnavailable, kmsencrypted.ErrUnavailable}, [4]time.Duration{}},
		"Revoke": {kmstest.Revoke(3), [4]error{nil, nil, kmsencrypted.ErrDenied, kmsencrypted.ErrDenied}, [4]time.Duration{}},
		"Slow":   {kmstest.Slow(100*time.Millisecond, 1), [4]error{}, [4]time.Duration{1e8, 1e8, 1e8, 1e8}},
		"Hang":   {kmstest.Hang(1), [4]error{context.DeadlineExceeded, context.DeadlineExceeded, context.DeadlineExceeded, context.DeadlineExceeded}, [4]time.Duration{5e8, 5e8, 5e8, 5e8}},
		"none":   {kmstest.Fault{}, [4]error{}, [4]time.Duration{}},
		"On":     {kmstest.Revoke(1).On(kmsencrypted.OpWrap, kmsencrypted.OpRewrap), [4]error{}, [4]time.Duration{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := kmstest.NewService(nil)
				box := service.Box(t)
				column := token(t, box)
				service.Set(c.fault)
				begin := time.Now()
				for second := range 4 {
					time.Sleep(time.Until(begin.Add(time.Duration(second) * time.Second)))
					ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
					start := time.Now()
					if err := outcome(t, box, ctx, column); !errors.Is(err, c.want[second]) || (err == nil) != (c.want[second] == nil) {
						t.Errorf("after %d s: %v, want %v", second, err, c.want[second])
					}
					if took := time.Since(start); took != c.took[second] {
						t.Errorf("after %d s: took %v, want %v", second, took, c.took[second])
					}
					cancel()
				}
			})
		})
	}
}

func TestServiceRecordsCalls(t *testing.T) {
	t.Parallel()
	service := kmstest.NewService(nil, kmstest.Throttle(1).On(kmsencrypted.OpUnwrap))
	box := service.Box(t)
	column := token(t, box)
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			if err := outcome(t, box, t.Context(), column); !errors.Is(err, kmsencrypted.ErrThrottled) {
				t.Errorf("Decrypt: %v", err)
			}
			service.Calls()
		})
	}
	running.Wait()
	calls := service.Calls()
	if service.Count(kmsencrypted.OpWrap) != 1 || len(calls) != 1+service.Count(kmsencrypted.OpUnwrap) || len(calls) < 2 {
		t.Fatalf("Calls() = %v", calls)
	}
	if last := calls[len(calls)-1]; last.Op != kmsencrypted.OpUnwrap || !errors.Is(last.Err, kmsencrypted.ErrThrottled) || len(last.Contexts) != 1 || !last.Contexts[0].Absent() {
		t.Errorf("last of Calls() = %+v", last)
	}
	service.Forget()
	if n := len(service.Calls()); n != 0 {
		t.Errorf("%d calls after Forget", n)
	}
}

// A batch is one request: a fault strikes all of its values.
func TestBatchesFailTogether(t *testing.T) {
	t.Parallel()
	service := kmstest.NewService(kmstest.Batches(kmstest.Memory(), 2), kmstest.Revoke(2))
	keys := make([]kmsencrypted.KeyToWrap, 5)
	for i := range keys {
		keys[i] = kmsencrypted.KeyToWrap{Key: kmsencrypted.NewDataKey(), Binding: kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{fmt.Sprint(i)}}}
	}
	wrapped := 0
	for _, r := range service.Box(t).WrapAll(t.Context(), keys) {
		switch {
		case r.Err == nil:
			wrapped++
		case !errors.Is(r.Err, kmsencrypted.ErrDenied):
			t.Errorf("WrapAll: %v, want ErrDenied", r.Err)
		}
	}
	if wrapped != 1 && wrapped != 2 { // the last batch has one value, and the order is open
		t.Errorf("%d keys were wrapped, want those of one request", wrapped)
	}
}

func TestBefore(t *testing.T) {
	t.Parallel()
	service := kmstest.NewService(nil)
	box := service.Box(t)
	column := token(t, box)
	ctx, cancel := context.WithCancel(t.Context())
	service.Set(kmstest.Before(func(context.Context) error { cancel(); return kmsencrypted.ErrDenied }).On(kmsencrypted.OpUnwrap))
	if token(t, box); ctx.Err() != nil {
		t.Error("called before another kind of request")
	}
	if err := outcome(t, box, t.Context(), column); !errors.Is(err, kmsencrypted.ErrDenied) || ctx.Err() == nil {
		t.Errorf("Decrypt: %v, want ErrDenied, and the context ended", err)
	}
}

// A service without faults is as good as the provider behind it.
func TestServiceConformance(t *testing.T) {
	t.Parallel()
	open := func() *kmstest.Service { return kmstest.NewService(kmstest.Memory()) }
	providertest.Run(t, providertest.Harness{
		Open: func(t *testing.T) providertest.Key {
			s := open()
			set := func(f kmstest.Fault) func(*testing.T) { return func(*testing.T) { s.Set(f) } }
			return providertest.Key{
				Provider:    s.Provider(),
				Other:       open().Provider(),
				Disable:     set(kmstest.Fail(kmsencrypted.ErrKeyUnusable, 1)),
				DenyEncrypt: set(kmstest.Revoke(1).On(kmsencrypted.OpWrap)),
				DenyDecrypt: set(kmstest.Revoke(1).On(kmsencrypted.OpUnwrap)),
				Throttle:    set(kmstest.Throttle(1)),
				Interrupt:   set(kmstest.Unavailable(1)),
				Hang:        set(kmstest.Hang(1)),
			}
		},
		Lacks: map[string]string{
			"Missing": "the key is made with the provider",
			"Rotate":  "the key has one version",
		},
	})
}
