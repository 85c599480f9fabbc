package providertest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func (s suite) testRotation(t *testing.T) {
	key, ec := s.Open(t), bind(t, user)
	if key.Rotate == nil {
		t.Skip(s.Lacks["Rotate"])
	}
	old := encrypt(t, key.Provider, secret, ec)
	for range 2 {
		key.Rotate(t)
		opens(t, key.Provider, old, secret, ec)
		opens(t, key.Provider, encrypt(t, key.Provider, secret, ec), secret, ec)
		s.wrong(t, key.Provider, old, bind(t, kmsencrypted.Context{"model_name": "User", "model_id": 124}))
	}
}

// testRewrap rewraps to the newest version of the key, and to another context
// if the service supports it.
func (s suite) testRewrap(t *testing.T) {
	key, from, to := s.Open(t), bind(t, user), bind(t, kmsencrypted.Context{"tenant": "acme"})
	p, ok := key.Provider.(kmsencrypted.Rewrapper)
	if !ok {
		t.Skip("not a Rewrapper")
	}
	old := encrypt(t, p, secret, from)
	if key.Rotate != nil {
		key.Rotate(t)
	}
	renewed, err := p.Rewrap(t.Context(), kmsencrypted.Wrapped{Ciphertext: old, Context: from}, p, from)
	if err != nil {
		t.Fatalf("Rewrap: %v", err)
	}
	if bytes.Equal(renewed, old) {
		t.Error("Rewrap returns what it was given")
	}
	opens(t, p, renewed, secret, from)
	opens(t, p, old, secret, from)

	moved, err := p.Rewrap(t.Context(), kmsencrypted.Wrapped{Ciphertext: old, Context: from}, p, to)
	if err == nil {
		opens(t, p, moved, secret, to)
		s.wrong(t, p, moved, bind(t, kmsencrypted.Context{"tenant": "acme2"}))
	} else if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Rewrap to another context: %v, want success or %v", err, errors.ErrUnsupported)
	}

	if !p.Info().IgnoresContext {
		_, err = p.Rewrap(t.Context(), kmsencrypted.Wrapped{Ciphertext: old, Context: to}, p, to)
		fails(t, p, "Rewrap under another context", err, kmsencrypted.ErrDecrypt)
	}
	flipped := bytes.Clone(old)
	flipped[len(flipped)/2] ^= 1
	_, err = p.Rewrap(t.Context(), kmsencrypted.Wrapped{Ciphertext: flipped, Context: from}, p, from)
	fails(t, p, "Rewrap of changed bytes", err, kmsencrypted.ErrDecrypt)
	_, err = p.Rewrap(t.Context(), kmsencrypted.Wrapped{Ciphertext: old, Context: from}, stranger{}, from)
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Rewrap from another key service: %v, want %v", err, errors.ErrUnsupported)
	}
}

// testRewrapBatch checks that good items between bad ones are rewrapped, in
// order.
func (s suite) testRewrapBatch(t *testing.T) {
	key, own, other := s.Open(t), bind(t, user), bind(t, kmsencrypted.Context{"model_name": "User", "model_id": 124})
	p, ok := key.Provider.(kmsencrypted.BatchRewrapper)
	if !ok {
		t.Skip("not a BatchRewrapper")
	}
	ciphertexts := [][]byte{encrypt(t, p, secret, own), encrypt(t, p, secret, other), nil, encrypt(t, p, secret, own)}
	items := []kmsencrypted.Rewrapping{
		{From: kmsencrypted.Wrapped{Ciphertext: ciphertexts[0], Context: own}, To: own},
		{From: kmsencrypted.Wrapped{Ciphertext: ciphertexts[1], Context: other}, To: other},
		{From: kmsencrypted.Wrapped{Ciphertext: ciphertexts[2], Context: own}, To: own},
		{From: kmsencrypted.Wrapped{Ciphertext: ciphertexts[3], Context: own}, To: own},
	}
	if key.Rotate != nil {
		key.Rotate(t)
	}
	_, err := p.RewrapBatch(t.Context(), items, stranger{})
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("RewrapBatch from another key service: %v, want %v", err, errors.ErrUnsupported)
	}
	answers, err := p.RewrapBatch(t.Context(), items, p)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("what is behind this provider does not rewrap in batches")
	}
	for i, r := range results(t, len(items))(answers, err) {
		if i == 2 {
			fails(t, p, "RewrapBatch of no ciphertext", r.Err, kmsencrypted.ErrDecrypt)
			continue
		}
		if r.Err != nil || bytes.Equal(r.Bytes, ciphertexts[i]) {
			t.Errorf("item %d of RewrapBatch: %v, or what it was given", i, r.Err)
			continue
		}
		opens(t, p, r.Bytes, secret, items[i].To)
	}
	results(t, 0)(p.RewrapBatch(t.Context(), nil, p))
}

// stranger is a provider of another kind.
type stranger struct{ kmsencrypted.Provider }

func (s suite) testProbe(t *testing.T) {
	key := s.Open(t)
	p, ok := key.Provider.(kmsencrypted.Prober)
	if !ok {
		t.Skip("not a Prober")
	}
	if err := p.Probe(t.Context()); err != nil {
		t.Errorf("Probe: %v", err)
	}
	if missing, ok := key.Missing.(kmsencrypted.Prober); ok {
		fails(t, missing, "Probe of a missing key", missing.Probe(t.Context()), kmsencrypted.ErrKeyUnusable)
	}
	if key.Disable != nil {
		key.Disable(t)
		fails(t, p, "Probe of a disabled key", p.Probe(t.Context()), kmsencrypted.ErrKeyUnusable)
	}
}

// testMissing checks that no call creates a key because its name was misspelt.
func (s suite) testMissing(t *testing.T) {
	key, ec := s.Open(t), bind(t, user)
	if key.Missing == nil {
		t.Skip(s.Lacks["Missing"])
	}
	ciphertext := encrypt(t, key.Provider, secret, ec)
	for range 2 {
		encryptFails(t, key.Missing, "missing key", ec, kmsencrypted.ErrKeyUnusable)
		decryptFails(t, key.Missing, "missing key", ciphertext, ec, kmsencrypted.ErrKeyUnusable)
	}
}

func (s suite) testDisabled(t *testing.T) {
	key, ec := s.Open(t), bind(t, user)
	if key.Disable == nil {
		t.Skip(s.Lacks["Disable"])
	}
	ciphertext := encrypt(t, key.Provider, secret, ec)
	key.Disable(t)
	encryptFails(t, key.Provider, "disabled key", ec, kmsencrypted.ErrKeyUnusable)
	decryptFails(t, key.Provider, "disabled key", ciphertext, ec, kmsencrypted.ErrKeyUnusable)
}

// testDenied checks a server that may only write, and one that may only read.
func (s suite) testDenied(t *testing.T) {
	ec := bind(t, user)
	if key := s.Open(t); key.DenyEncrypt == nil {
		t.Log(s.Lacks["DenyEncrypt"])
	} else {
		ciphertext := encrypt(t, key.Provider, secret, ec)
		key.DenyEncrypt(t)
		encryptFails(t, key.Provider, "denied", ec, kmsencrypted.ErrDenied)
		opens(t, key.Provider, ciphertext, secret, ec)
	}
	if key := s.Open(t); key.DenyDecrypt == nil {
		t.Log(s.Lacks["DenyDecrypt"])
	} else {
		ciphertext := encrypt(t, key.Provider, secret, ec)
		key.DenyDecrypt(t)
		decryptFails(t, key.Provider, "denied", ciphertext, ec, kmsencrypted.ErrDenied)
		encrypt(t, key.Provider, secret, ec)
	}
}

func (s suite) testThrottled(t *testing.T) {
	key := s.Open(t)
	s.retryable(t, key, key.Throttle, "Throttle", kmsencrypted.ErrThrottled)
}

func (s suite) testInterrupted(t *testing.T) {
	key := s.Open(t)
	s.retryable(t, key, key.Interrupt, "Interrupt", kmsencrypted.ErrUnavailable)
}

func (s suite) retryable(t *testing.T, key Key, happen func(*testing.T), hook string, want error) {
	if happen == nil {
		t.Skip(s.Lacks[hook])
	}
	ec := bind(t, user)
	ciphertext := encrypt(t, key.Provider, secret, ec)
	happen(t)
	encryptFails(t, key.Provider, hook, ec, want)
	decryptFails(t, key.Provider, hook, ciphertext, ec, want)
	if _, err := key.Provider.Decrypt(t.Context(), ciphertext, ec); !kmsencrypted.Retryable(err) {
		t.Errorf("Retryable(%v) = false", err)
	}
}
