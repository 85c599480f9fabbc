package providertest_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
)

// memory is a key service in memory that has everything a harness can describe.
// flaw names a mistake that it makes on purpose.
type memory struct {
	flaw string

	mu                       sync.Mutex
	versions                 []cipher.AEAD // none: the key does not exist
	disabled                 bool
	denyEncrypt, denyDecrypt bool
	throttled, down, hanging bool
	lastAnswer               []byte
}

func newMemory(flaw string) *memory {
	m := &memory{flaw: flaw}
	m.rotate(nil)
	return m
}

func (m *memory) rotate(*testing.T) {
	if m.flaw == "rotation" {
		m.versions = nil
	}
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	m.versions = append(m.versions, aead)
}

func set(flag *bool) func(*testing.T) { return func(*testing.T) { *flag = true } }

func (m *memory) key() providertest.Key {
	return providertest.Key{
		Provider:    m,
		Other:       newMemory(m.flaw),
		Missing:     &memory{flaw: m.flaw},
		Rotate:      m.rotate,
		Disable:     set(&m.disabled),
		DenyEncrypt: set(&m.denyEncrypt),
		DenyDecrypt: set(&m.denyDecrypt),
		Throttle:    set(&m.throttled),
		Interrupt:   set(&m.down),
		Hang:        set(&m.hanging),
	}
}

func (m *memory) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "memory", KeyID: "memory:key", Tag: "memory"}
}

func (m *memory) failed(op string, err error) error {
	return &kmsencrypted.Error{Op: op, Provider: "memory", KeyID: "memory:key", Err: err}
}

func (m *memory) check(ctx context.Context, denied bool) error {
	if m.hanging && m.flaw != "cancellation" {
		<-ctx.Done()
	}
	switch {
	case ctx.Err() != nil && m.flaw != "cancellation":
		return ctx.Err()
	case denied:
		return kmsencrypted.ErrDenied
	case len(m.versions) == 0 && m.flaw == "missing":
		m.rotate(nil)
	case len(m.versions) == 0 || m.disabled && m.flaw != "disabled":
		return kmsencrypted.ErrKeyUnusable
	case m.throttled:
		return kmsencrypted.ErrThrottled
	case m.down && m.flaw == "retryable":
		return kmsencrypted.ErrKeyUnusable
	case m.down:
		return kmsencrypted.ErrUnavailable
	}
	return nil
}

func additional(ec kmsencrypted.BoundContext) []byte {
	if ec.Absent() {
		return nil
	}
	return canon.AppendBytes(nil, ec.Bytes())
}

func (m *memory) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(ctx, m.denyEncrypt); err != nil {
		if m.flaw == "leak" {
			err = errors.Join(err, errors.New(string(plaintext)))
		}
		return nil, m.failed("encrypt", err)
	}
	if m.flaw == "context" {
		ec = kmsencrypted.BoundContext{}
	}
	current := len(m.versions) - 1
	return m.versions[current].Seal([]byte{byte(current)}, nil, plaintext, additional(ec)), nil
}

func (m *memory) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(ctx, m.denyDecrypt); err != nil {
		return nil, m.failed("decrypt", err)
	}
	if m.flaw == "context" {
		ec = kmsencrypted.BoundContext{}
	}
	if len(ciphertext) == 0 || int(ciphertext[0]) >= len(m.versions) {
		return nil, m.failed("decrypt", kmsencrypted.ErrDecrypt)
	}
	plaintext, err := m.versions[ciphertext[0]].Open(nil, nil, ciphertext[1:], additional(ec))
	if err != nil && m.flaw == "tampering" && len(ciphertext) > 1 {
		return []byte("whatever"), nil
	}
	if err != nil {
		return nil, m.failed("decrypt", kmsencrypted.ErrDecrypt)
	}
	if m.flaw == "memory" {
		m.lastAnswer = append(m.lastAnswer[:0], plaintext...)
		return m.lastAnswer, nil
	}
	return plaintext, nil
}

func (m *memory) Rewrap(ctx context.Context, from kmsencrypted.Wrapped, source kmsencrypted.Provider, to kmsencrypted.BoundContext) ([]byte, error) {
	if source != kmsencrypted.Provider(m) {
		return nil, errors.ErrUnsupported
	}
	if m.flaw == "rewrap" {
		return from.Ciphertext, nil
	}
	plaintext, err := m.Decrypt(ctx, from.Ciphertext, from.Context)
	if err != nil {
		return nil, err
	}
	return m.Encrypt(ctx, plaintext, to)
}

func (m *memory) Probe(ctx context.Context) error {
	if m.flaw == "probe" {
		return nil
	}
	if err := m.check(ctx, false); err != nil {
		return m.failed("probe", err)
	}
	return nil
}

func (m *memory) BatchSize() int { return 100 }

func (m *memory) EncryptBatch(ctx context.Context, items []kmsencrypted.Plain) ([]kmsencrypted.Result, error) {
	return m.batch(ctx, m.denyEncrypt, len(items), func(i int) ([]byte, error) {
		return m.Encrypt(ctx, items[i].Plaintext(), items[i].Context)
	})
}

func (m *memory) DecryptBatch(ctx context.Context, items []kmsencrypted.Wrapped) ([]kmsencrypted.Result, error) {
	return m.batch(ctx, m.denyDecrypt, len(items), func(i int) ([]byte, error) {
		if m.flaw == "batch order" {
			i = len(items) - 1 - i
		}
		return m.Decrypt(ctx, items[i].Ciphertext, items[i].Context)
	})
}

func (m *memory) batch(ctx context.Context, denied bool, n int, one func(i int) ([]byte, error)) ([]kmsencrypted.Result, error) {
	if err := m.check(ctx, denied); err != nil {
		return nil, m.failed("batch", err)
	}
	results := make([]kmsencrypted.Result, n)
	for i := range results {
		results[i].Bytes, results[i].Err = one(i)
		if results[i].Err != nil && m.flaw == "batch errors" {
			return nil, results[i].Err
		}
	}
	return results, nil
}

// flaws are the mistakes of [memory], each with the test that has to notice it.
var flaws = map[string]string{
	"context":      "contexts",
	"tampering":    "tampering",
	"memory":       "memory",
	"cancellation": "cancellation",
	"leak":         "denied",
	"rotation":     "rotation",
	"rewrap":       "rewrap",
	"probe":        "probe",
	"missing":      "missing_key",
	"disabled":     "disabled_key",
	"retryable":    "interrupted",
	"batch order":  "batch",
	"batch errors": "batch_with_bad_items",
	"harness":      "harness",
}

func harness(flaw string) providertest.Harness {
	return providertest.Harness{Open: func(*testing.T) providertest.Key {
		key := newMemory(flaw).key()
		if flaw == "harness" {
			key.Rotate = nil
		}
		return key
	}}
}
