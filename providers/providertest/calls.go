package providertest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// testMemory checks that neither side keeps or changes slices of the other.
func (s suite) testMemory(t *testing.T) {
	p, ec := s.Open(t).Provider, bind(t, user)
	plaintext := bytes.Clone(secret)
	ciphertext := encrypt(t, p, plaintext, ec)
	if !bytes.Equal(plaintext, secret) {
		t.Error("Encrypt changes the plaintext")
	}
	clear(plaintext)
	sent := bytes.Clone(ciphertext)
	first, err := p.Decrypt(t.Context(), sent, ec)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent, ciphertext) {
		t.Error("Decrypt changes the ciphertext")
	}
	clear(sent)
	second, err := p.Decrypt(t.Context(), ciphertext, ec)
	if err != nil {
		t.Fatal(err)
	}
	clear(first[:cap(first)])
	if !bytes.Equal(second, secret) {
		t.Error("two calls of Decrypt share memory")
	}
	clear(second[:cap(second)])
	opens(t, p, ciphertext, secret, ec)
}

// testConcurrency makes 1,000 calls at once, each with a value and context of its own.
func (s suite) testConcurrency(t *testing.T) {
	const calls = 1000
	p := s.Open(t).Provider
	var running sync.WaitGroup
	for i := range calls {
		running.Go(func() {
			ec, err := kmsencrypted.Bind(kmsencrypted.Context{"model_name": "User", "model_id": i})
			if err != nil {
				t.Error(err)
				return
			}
			plaintext := fmt.Appendf(nil, "data key of record %d", i)
			ciphertext, err := p.Encrypt(t.Context(), plaintext, ec)
			if err != nil {
				t.Errorf("call %d: %v", i, err)
				return
			}
			opens(t, p, ciphertext, plaintext, ec)
		})
	}
	running.Wait()
}

// patience is how long a call may continue after it was cancelled: short for a service that
// hangs for ever, and long for a busy machine.
const patience = 15 * time.Second

func (s suite) testCancellation(t *testing.T) {
	key, ec := s.Open(t), bind(t, user)
	p := key.Provider
	ciphertext := encrypt(t, p, secret, ec)
	calls := map[string]func(context.Context) error{
		"Encrypt": func(ctx context.Context) error { _, err := p.Encrypt(ctx, secret, ec); return err },
		"Decrypt": func(ctx context.Context) error { _, err := p.Decrypt(ctx, ciphertext, ec); return err },
	}
	if batch, ok := p.(kmsencrypted.BatchProvider); ok {
		calls["EncryptBatch"] = func(ctx context.Context) error {
			_, err := batch.EncryptBatch(ctx, []kmsencrypted.Plain{kmsencrypted.NewPlain(secret, ec)})
			return err
		}
		calls["DecryptBatch"] = func(ctx context.Context) error {
			_, err := batch.DecryptBatch(ctx, []kmsencrypted.Wrapped{{Ciphertext: ciphertext, Context: ec}})
			return err
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls {
		fails(t, p, name+" with a cancelled context", call(cancelled), context.Canceled)
	}
	if key.Hang == nil {
		t.Log(s.Lacks["Hang"])
		return
	}
	key.Hang(t)
	for name, call := range calls {
		fails(t, p, name+" past its deadline", givenUp(t, name, call, context.WithTimeout), context.DeadlineExceeded)
		fails(t, p, name+" cancelled", givenUp(t, name, call, cancelAfter), context.Canceled)
	}
}

func cancelAfter(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	time.AfterFunc(d, cancel)
	return ctx, cancel
}

// givenUp returns what a call returns whose context ends while it waits.
func givenUp(t *testing.T, name string, call func(context.Context) error, end func(context.Context, time.Duration) (context.Context, context.CancelFunc)) error {
	t.Helper()
	const after = 30 * time.Millisecond
	ctx, cancel := end(t.Context(), after)
	defer cancel()
	start := time.Now()
	err := call(ctx)
	if late := time.Since(start) - after; late > patience {
		t.Errorf("%s goes on for %v after its context has ended, want %v", name, late, patience)
	}
	return err
}
