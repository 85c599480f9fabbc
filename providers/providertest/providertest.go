// Package providertest is the test suite that every [kmsencrypted.Provider]
// must pass. A provider's own test describes its key service in a [Harness] and
// calls [Run].
package providertest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// Harness describes a provider and its key service.
type Harness struct {
	// Open creates a key that no other test uses.
	Open func(t *testing.T) Key
	// Lacks names the fields of [Key] that stay empty for this service, each with
	// the reason. The suite fails for an empty field that is not listed.
	Lacks map[string]string

	// MaxPlaintext is the limit of the service in bytes; 0 means that there is no
	// limit worth testing.
	MaxPlaintext int
	// RefusesEmpty means that the service accepts no plaintext of zero bytes.
	RefusesEmpty bool
	// NeedsContext means that the service refuses a call without a context with
	// [kmsencrypted.ErrContext].
	NeedsContext bool
	// EmptyIsAbsent means that the service treats an empty context as none.
	EmptyIsAbsent bool
	// PairsOnly means that the service accepts no text as a context.
	PairsOnly bool
	// Deterministic means that equal values have equal ciphertexts.
	Deterministic bool
}

// Key is a key, with functions that change how its service behaves. Each change
// lasts until the end of the test.
type Key struct {
	Provider kmsencrypted.Provider
	Other    kmsencrypted.Provider // the same service under another key
	Missing  kmsencrypted.Provider // the same service under a key that does not exist

	Rotate      func(t *testing.T) // a new version of the key becomes current
	Disable     func(t *testing.T)
	DenyEncrypt func(t *testing.T) // removes the permission
	DenyDecrypt func(t *testing.T)
	Throttle    func(t *testing.T) // every call exceeds the quota
	Interrupt   func(t *testing.T) // the service answers that it is unavailable, or not at all
	Hang        func(t *testing.T) // calls get no answer until they are cancelled
}

// Run runs the suite. Its tests run in parallel.
func Run(t *testing.T, h Harness) {
	s := suite{h}
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"harness", s.testHarness},
		{"info", s.testInfo},
		{"round trip", s.testRoundTrip},
		{"sizes", s.testSizes},
		{"contexts", s.testContexts},
		{"absent and empty context", s.testAbsentAndEmpty},
		{"text context", s.testTextContext},
		{"tampering", s.testTampering},
		{"other key", s.testOtherKey},
		{"memory", s.testMemory},
		{"concurrency", s.testConcurrency},
		{"cancellation", s.testCancellation},
		{"rotation", s.testRotation},
		{"rewrap", s.testRewrap},
		{"probe", s.testProbe},
		{"missing key", s.testMissing},
		{"disabled key", s.testDisabled},
		{"denied", s.testDenied},
		{"throttled", s.testThrottled},
		{"interrupted", s.testInterrupted},
		{"batch", s.testBatch},
		{"batch with bad items", s.testBatchWithBadItems},
		{"batch of rewraps", s.testRewrapBatch},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t)
		})
	}
}

type suite struct{ Harness }

// testHarness checks that no field of a [Key] was forgotten.
func (s suite) testHarness(t *testing.T) {
	key := reflect.ValueOf(s.Open(t))
	for i := range key.NumField() {
		name := key.Type().Field(i).Name
		reason, lacking := s.Lacks[name]
		switch empty := key.Field(i).IsZero(); {
		case empty && !lacking:
			t.Errorf("Key.%s is empty and Lacks does not say why", name)
		case !empty && lacking:
			t.Errorf("Key.%s is there, although Lacks says: %s", name, reason)
		case lacking:
			t.Logf("no %s: %s", name, reason)
		}
	}
}

func (s suite) testInfo(t *testing.T) {
	info := s.Open(t).Provider.Info()
	if info.Provider == "" || info.KeyID == "" {
		t.Errorf("Info() = %+v, want names of provider and key", info)
	}
	if len(info.Tag) > 255 {
		t.Errorf("Info().Tag has %d bytes, want at most 255", len(info.Tag))
	}
}

// secret is the value that most tests wrap: as long as a data key, and easy to
// find in an error text.
var secret = []byte("32 bytes that no error may hold!")

var user = kmsencrypted.Context{"model_name": "User", "model_id": 123}

func bind(t *testing.T, ec kmsencrypted.EncryptionContext) kmsencrypted.BoundContext {
	t.Helper()
	bound, err := kmsencrypted.Bind(ec)
	if err != nil {
		t.Fatal(err)
	}
	return bound
}

func encrypt(t *testing.T, p kmsencrypted.Provider, plaintext []byte, ec kmsencrypted.BoundContext) []byte {
	t.Helper()
	ciphertext, err := p.Encrypt(t.Context(), plaintext, ec)
	if err != nil {
		t.Fatalf("Encrypt under %v: %v", ec, err)
	}
	return ciphertext
}

// opens checks that ciphertext is plaintext under ec.
func opens(t *testing.T, p kmsencrypted.Provider, ciphertext, plaintext []byte, ec kmsencrypted.BoundContext) {
	t.Helper()
	got, err := p.Decrypt(t.Context(), ciphertext, ec)
	if err != nil {
		t.Errorf("Decrypt under %v: %v", ec, err)
	} else if !bytes.Equal(got, plaintext) {
		t.Errorf("Decrypt under %v = %d bytes that differ from the %d encrypted", ec, len(got), len(plaintext))
	}
}

// fails checks that an error is the expected one, names the operation and the
// provider, and contains no plaintext.
func fails(t *testing.T, p kmsencrypted.Provider, doing string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error = %v, want %v", doing, err, want)
		return
	}
	if located, ok := errors.AsType[*kmsencrypted.Error](err); !ok {
		// The end of the caller's own context needs no explanation.
		if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: error is a %T, want a *kmsencrypted.Error", doing, err)
		}
	} else if info := p.Info(); located.Provider != info.Provider || located.KeyID != info.KeyID || located.Op == "" {
		t.Errorf("%s: error says %q, %q, %q, want an operation of %q, %q",
			doing, located.Op, located.Provider, located.KeyID, info.Provider, info.KeyID)
	}
	text := err.Error()
	for _, form := range []string{string(secret), base64.StdEncoding.EncodeToString(secret), hex.EncodeToString(secret)} {
		if strings.Contains(text, form) {
			t.Errorf("%s: error holds the plaintext", doing)
		}
	}
}

// encryptFails and decryptFails make one call and check its error.
func encryptFails(t *testing.T, p kmsencrypted.Provider, doing string, ec kmsencrypted.BoundContext, want error) {
	t.Helper()
	ciphertext, err := p.Encrypt(t.Context(), secret, ec)
	if ciphertext != nil {
		t.Errorf("%s: Encrypt gives a ciphertext beside its error", doing)
	}
	fails(t, p, doing+": Encrypt", err, want)
}

func decryptFails(t *testing.T, p kmsencrypted.Provider, doing string, ciphertext []byte, ec kmsencrypted.BoundContext, want error) {
	t.Helper()
	plaintext, err := p.Decrypt(t.Context(), ciphertext, ec)
	if plaintext != nil {
		t.Errorf("%s: Decrypt gives a plaintext beside its error", doing)
	}
	fails(t, p, doing+": Decrypt", err, want)
}
