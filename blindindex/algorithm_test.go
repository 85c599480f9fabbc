package blindindex

import (
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func TestParseAlgorithm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		slow, fast string
	}{
		{"argon2id", "argon2id t=4 m=2^15 KiB", "argon2id t=3 m=2^12 KiB"},
		{"argon2i", "argon2i t=3 m=2^12 KiB", "argon2i t=3 m=2^12 KiB"},
		{"argon2", "argon2i t=3 m=2^12 KiB", "argon2i t=3 m=2^12 KiB"},
		{"pbkdf2_sha256", "pbkdf2_sha256 100000 iterations", "pbkdf2_sha256 10000 iterations"},
		{"pbkdf2_hmac", "pbkdf2_sha256 100000 iterations", "pbkdf2_sha256 10000 iterations"},
		{"scrypt", "scrypt n=4096 r=8 p=1", "scrypt n=4096 r=8 p=1"},
		{"hmac_sha256", "hmac_sha256", "hmac_sha256"},
	} {
		for slow, want := range map[bool]string{false: c.fast, true: c.slow} {
			a, err := ParseAlgorithm(c.name, slow)
			if err != nil || a.String() != want {
				t.Errorf("ParseAlgorithm(%q, %t) = %v, %v, want %s", c.name, slow, a, err, want)
			}
		}
	}
	for _, name := range []string{"", "md5", "Argon2id", "argon2id "} {
		if a, err := ParseAlgorithm(name, false); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("ParseAlgorithm(%q) = %v, %v, want %v", name, a, err, kmsencrypted.ErrConfig)
		}
	}
}

func FuzzParseAlgorithm(f *testing.F) {
	for _, seed := range []string{"argon2id", "argon2", "pbkdf2_hmac", "scrypt", "hmac_sha256", "", "md5"} {
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, name string, slow bool) {
		a, err := ParseAlgorithm(name, slow)
		if err != nil {
			if !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("ParseAlgorithm(%q) = %v, want %v", name, err, kmsencrypted.ErrConfig)
			}
			return
		}
		// What is known by name has parameters that are accepted.
		if _, err := a.hasher(); err != nil {
			t.Errorf("ParseAlgorithm(%q) = %v, refused: %v", name, a, err)
		}
	})
}

func TestAlgorithmParametersRefused(t *testing.T) {
	t.Parallel()
	for _, a := range []Algorithm{
		Argon2id{Time: 2}, Argon2id{Time: 11}, Argon2id{Time: -1}, Argon2id{MemoryLog2: 2}, Argon2id{MemoryLog2: 23}, Argon2id{MemoryLog2: -1},
		Argon2i{Time: 2}, Argon2i{Time: 11}, Argon2i{MemoryLog2: 2}, Argon2i{MemoryLog2: 23},
		PBKDF2{Iterations: -1},
		Scrypt{N: 1}, Scrypt{N: 1000}, Scrypt{N: -2}, Scrypt{R: -1}, Scrypt{P: -1}, Scrypt{N: 1 << 30}, Scrypt{N: 2, R: 1 << 30}, Scrypt{P: 1 << 30},
	} {
		if _, err := New(testKey(), "email_bidx", Options{Algorithm: a}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("New with %v = %v, want %v", a, err, kmsencrypted.ErrConfig)
		}
	}
}
