package testkey_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

func TestConformance(t *testing.T) {
	const none = "the test key has no service and no secret"
	providertest.Run(t, providertest.Harness{
		Open: func(*testing.T) providertest.Key {
			return providertest.Key{Provider: testkey.New()}
		},
		Lacks: map[string]string{
			"Other": none, "Missing": none, "Rotate": none, "Disable": none, "DenyEncrypt": none,
			"DenyDecrypt": "it is another key, EncryptOnly: see TestEncryptOnly",
			"Throttle":    none, "Interrupt": none, "Hang": none,
		},
		Deterministic: true,
	})
}

func TestEncryptOnly(t *testing.T) {
	ec, err := kmsencrypted.Bind(kmsencrypted.Context{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := testkey.EncryptOnly().Encrypt(t.Context(), []byte("x"), ec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := testkey.EncryptOnly().Decrypt(t.Context(), ciphertext, ec); !errors.Is(err, kmsencrypted.ErrDenied) {
		t.Errorf("Decrypt under the encrypt-only key: %v, want ErrDenied", err)
	}
	if got, err := testkey.New().Decrypt(t.Context(), ciphertext, ec); err != nil || string(got) != "x" {
		t.Errorf("Decrypt = %q, %v", got, err)
	}
}
