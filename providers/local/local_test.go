package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
)

func create(t *testing.T) (*local.Provider, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.txt")
	p, err := local.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	return p, path
}

func TestConformance(t *testing.T) {
	const none = "the keys lie in memory: there is no service"
	providertest.Run(t, providertest.Harness{
		Open: func(t *testing.T) providertest.Key {
			p, _ := create(t)
			other, _ := create(t)
			return providertest.Key{Provider: p, Other: other}
		},
		Lacks: map[string]string{
			"Missing": none, "Rotate": "see TestRotate: a provider keeps the keys that it was opened with", "Disable": none,
			"DenyEncrypt": none, "DenyDecrypt": none, "Throttle": none, "Interrupt": none, "Hang": none,
		},
	})
}

func TestKeyFileMistakes(t *testing.T) {
	const key = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"good":              {"# keys\n\na " + key + "\nb " + key + "\n", 0o600, ""},
		"readable by group": {"a " + key, 0o640, "chmod 600"},
		"empty":             {"\n# nothing\n", 0o600, "it contains no key"},
		"short":             {"a 0102", 0o600, "line 1"},
		"no id":             {key, 0o600, "line 1"},
		"twice":             {"a " + key + "\na " + key, 0o600, "line 2"},
	} {
		path := filepath.Join(t.TempDir(), "keys.txt")
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := local.Open(path)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), key[:8]) {
			t.Errorf("%s: error = %v, want ErrConfig with %q and without the key", name, err, c.want)
		}
	}
}

func TestFromEnv(t *testing.T) {
	if _, err := local.FromEnv("KMSENCRYPTED_TEST_UNSET"); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("an unset variable: %v, want ErrConfig", err)
	}
	t.Setenv("KMSENCRYPTED_TEST_KEYS", "a 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20,b ff02030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20")
	p, err := local.FromEnv("KMSENCRYPTED_TEST_KEYS")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Info().KeyID; got != "local:env:KMSENCRYPTED_TEST_KEYS" {
		t.Errorf("KeyID = %q", got)
	}
}
