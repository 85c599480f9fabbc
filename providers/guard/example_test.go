package guard_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
)

func ExampleNew() {
	// Half of the calls are throttled.
	provider := kmstest.Faulty(kmstest.NewService(nil).Provider(), kmstest.Throttle(0.5))
	provider = guard.New(provider, guard.Options{
		Concurrency: 50,
		Rate:        500,
		Attempts:    10,
		Backoff:     time.Millisecond,
	})
	box, err := kmsencrypted.NewBox(provider)
	if err != nil {
		fmt.Println(err)
		return
	}
	column, err := box.Encrypt(context.Background(), []byte("token"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	token, err := box.Decrypt(context.Background(), column, nil)
	fmt.Println(string(token), err)
	// Output: token <nil>
}

func ExampleOpenError() {
	provider := kmstest.Faulty(kmstest.NewService(nil).Provider(), kmstest.Unavailable(1))
	provider = guard.New(provider, guard.Options{Attempts: 1, BreakAfter: 1})
	for range 2 {
		_, err := provider.Encrypt(context.Background(), []byte("x"), kmsencrypted.BoundContext{})
		_, open := errors.AsType[*guard.OpenError](err)
		fmt.Println("retryable:", kmsencrypted.Retryable(err), "circuit open:", open)
	}
	// Output:
	// retryable: true circuit open: false
	// retryable: true circuit open: true
}
