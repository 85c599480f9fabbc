package providertest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// testBatch wraps and unwraps as many values as fit into one request, each under
// a context of its own, and compares with single calls.
func (s suite) testBatch(t *testing.T) {
	p, ok := s.Open(t).Provider.(kmsencrypted.BatchProvider)
	if !ok {
		t.Skip("not a BatchProvider")
	}
	n := min(p.BatchSize(), 1000)
	if n < 2 {
		t.Fatalf("BatchSize() = %d, want at least 2", n)
	}
	plain := make([]kmsencrypted.Plain, n)
	for i := range plain {
		ec := bind(t, kmsencrypted.Context{"model_name": "User", "model_id": i})
		plain[i] = kmsencrypted.NewPlain(fmt.Appendf(nil, "data key of record %d", i), ec)
	}
	wrapped := make([]kmsencrypted.Wrapped, n)
	for i, r := range results(t, n)(p.EncryptBatch(t.Context(), plain)) {
		if r.Err != nil {
			t.Fatalf("item %d of EncryptBatch: %v", i, r.Err)
		}
		wrapped[i] = kmsencrypted.Wrapped{Ciphertext: r.Bytes, Context: plain[i].Context}
	}
	for i, r := range results(t, n)(p.DecryptBatch(t.Context(), wrapped)) {
		if r.Err != nil || !bytes.Equal(r.Bytes, plain[i].Plaintext()) {
			t.Fatalf("item %d of DecryptBatch = %q, %v, want %q", i, r.Bytes, r.Err, plain[i].Plaintext())
		}
	}
	opens(t, p, wrapped[n-1].Ciphertext, plain[n-1].Plaintext(), plain[n-1].Context)
	results(t, 0)(p.EncryptBatch(t.Context(), nil))
	results(t, 0)(p.DecryptBatch(t.Context(), nil))
}

// results returns a function that checks that a batch was answered as a whole.
func results(t *testing.T, n int) func([]kmsencrypted.Result, error) []kmsencrypted.Result {
	return func(answers []kmsencrypted.Result, err error) []kmsencrypted.Result {
		t.Helper()
		if err != nil {
			t.Fatalf("batch of %d: %v", n, err)
		}
		if len(answers) != n {
			t.Fatalf("batch of %d has %d answers", n, len(answers))
		}
		return answers
	}
}

// testBatchWithBadItems checks that good items between bad ones are answered, in
// order.
func (s suite) testBatchWithBadItems(t *testing.T) {
	key := s.Open(t)
	p, ok := key.Provider.(kmsencrypted.BatchProvider)
	if !ok {
		t.Skip("not a BatchProvider")
	}
	ec, other := bind(t, user), bind(t, kmsencrypted.Context{"model_name": "User", "model_id": 124})
	good := encrypt(t, p, secret, ec)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	items := []struct {
		name string
		kmsencrypted.Wrapped
		opens bool
	}{
		{"flipped", kmsencrypted.Wrapped{Ciphertext: flipped, Context: ec}, false},
		{"good", kmsencrypted.Wrapped{Ciphertext: good, Context: ec}, true},
		{"other context", kmsencrypted.Wrapped{Ciphertext: good, Context: other}, p.Info().IgnoresContext},
		{"empty", kmsencrypted.Wrapped{Ciphertext: nil, Context: ec}, false},
		{"good", kmsencrypted.Wrapped{Ciphertext: good, Context: ec}, true},
		{"text", kmsencrypted.Wrapped{Ciphertext: []byte("not a ciphertext"), Context: ec}, false},
		{"good", kmsencrypted.Wrapped{Ciphertext: encrypt(t, p, secret, other), Context: other}, true},
	}
	check := func(from, to int) {
		t.Helper()
		var batch []kmsencrypted.Wrapped
		for _, item := range items[from:to] {
			batch = append(batch, item.Wrapped)
		}
		for i, r := range results(t, to-from)(p.DecryptBatch(t.Context(), batch)) {
			switch item := items[from+i]; {
			case !item.opens:
				fails(t, p, fmt.Sprintf("item %d (%s)", from+i, item.name), r.Err, kmsencrypted.ErrDecrypt)
			case r.Err != nil || !bytes.Equal(r.Bytes, secret):
				t.Errorf("item %d (%s) = %d bytes, %v, want the plaintext", from+i, item.name, len(r.Bytes), r.Err)
			}
		}
	}
	check(0, len(items))
	for i := range items {
		check(i, i+1)
	}
	if s.NeedsContext {
		good, bad := kmsencrypted.NewPlain(secret, ec), kmsencrypted.NewPlain(secret, kmsencrypted.BoundContext{})
		plain := []kmsencrypted.Plain{good, bad, good}
		answers := results(t, 3)(p.EncryptBatch(t.Context(), plain))
		fails(t, p, "item without a context", answers[1].Err, kmsencrypted.ErrContext)
		opens(t, p, answers[0].Bytes, secret, ec)
		opens(t, p, answers[2].Bytes, secret, ec)
	}
	if key.DenyDecrypt != nil {
		key.DenyDecrypt(t)
		_, err := p.DecryptBatch(t.Context(), []kmsencrypted.Wrapped{items[1].Wrapped, items[1].Wrapped})
		fails(t, p, "denied batch", err, kmsencrypted.ErrDenied)
	}
}
