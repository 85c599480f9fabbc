package providers_test

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

func TestOpenChoosesTheService(t *testing.T) {
	path := t.TempDir() + "/keys.txt"
	if _, err := local.Create(path); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KMSENCRYPTED_TEST_KEYS", "a 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20")
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for keyID, want := range map[string]string{
		"insecure-test-key":                 "insecure-test-key",
		"insecure-test-key/encrypt":         "insecure-test-key",
		"local:" + path:                     "local",
		"local:env:KMSENCRYPTED_TEST_KEYS":  "local",
		"alias/my-key":                      "aws",
		"arn:aws:kms:us-east-1:1:key/abc":   "aws",
		"1234abcd-12ab-34cd-56ef-123456789": "aws",
		"insecure-test-key2":                "aws",
	} {
		p, err := providers.Open(t.Context(), keyID)
		if err != nil {
			t.Errorf("Open(%q): %v", keyID, err)
			continue
		}
		if got := p.Info().Provider; got != want {
			t.Errorf("Open(%q) is %s, want %s", keyID, got, want)
		}
	}
}

func TestOpenNeverFallsBack(t *testing.T) {
	t.Setenv(providers.KeyIDVariable, "")
	if p, err := providers.Open(t.Context(), ""); !errors.Is(err, kmsencrypted.ErrConfig) || p != nil {
		t.Errorf("Open without a key id = %v, %v, want ErrConfig", p, err)
	}
	t.Setenv(providers.KeyIDVariable, "insecure-test-key")
	if p, err := providers.Open(t.Context(), ""); err != nil || !p.Info().Insecure {
		t.Errorf("Open with KMS_KEY_ID=insecure-test-key = %v, %v", p, err)
	}
	// Neither is a misspelt id one of AWS.
	for _, keyID := range []string{"valt/customers", "project/p/locations/l/keyRings/r/cryptoKeys/k", "lokal:keys.txt", "Vault/customers", "aliases/customers", "ARN:aws:kms:us-east-1:1:key/abc"} {
		if p, err := providers.Open(t.Context(), keyID); !errors.Is(err, kmsencrypted.ErrConfig) || p != nil {
			t.Errorf("Open(%q) = %v, %v, want ErrConfig", keyID, p, err)
		}
	}
	// A malformed id of a known service is that service's error, not AWS's.
	for _, keyID := range []string{"projects/p", "local:/nowhere/keys.txt", "vault/../secret"} {
		if p, err := providers.Open(t.Context(), keyID); err == nil || p != nil {
			t.Errorf("Open(%q) = %v, %v, want an error", keyID, p, err)
		}
	}
}
