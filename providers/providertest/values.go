package providertest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

func (s suite) testRoundTrip(t *testing.T) {
	p, ec := s.Open(t).Provider, bind(t, user)
	first, second := encrypt(t, p, secret, ec), encrypt(t, p, secret, ec)
	opens(t, p, first, secret, ec)
	opens(t, p, second, secret, ec)
	if bytes.Equal(first, second) != s.Deterministic {
		t.Errorf("two ciphertexts of one value are equal: %t, want %t", !s.Deterministic, s.Deterministic)
	}
	if !p.Info().Insecure && bytes.Contains(first, secret) {
		t.Error("ciphertext holds the plaintext")
	}
}

func (s suite) testSizes(t *testing.T) {
	p, ec := s.Open(t).Provider, bind(t, user)
	sizes := []int{1, 15, 16, 17, 31, 32, 33, 64, 1024, 4096}
	if s.MaxPlaintext > 0 {
		sizes = slices.DeleteFunc(sizes, func(size int) bool { return size > s.MaxPlaintext })
		sizes = append(sizes, s.MaxPlaintext)
	}
	for _, size := range sizes {
		plaintext := make([]byte, size)
		rand.Read(plaintext)
		opens(t, p, encrypt(t, p, plaintext, ec), plaintext, ec)
	}
	if s.MaxPlaintext > 0 {
		_, err := p.Encrypt(t.Context(), make([]byte, s.MaxPlaintext+1), ec)
		fails(t, p, fmt.Sprintf("Encrypt of %d bytes", s.MaxPlaintext+1), err, kmsencrypted.ErrTooLarge)
	}
	ciphertext, err := p.Encrypt(t.Context(), []byte{}, ec)
	switch {
	case s.RefusesEmpty && err == nil:
		t.Error("Encrypt of no bytes succeeds, although RefusesEmpty is set")
	case !s.RefusesEmpty && err != nil:
		t.Errorf("Encrypt of no bytes: %v", err)
	case err == nil:
		opens(t, p, ciphertext, nil, ec)
	}
}

func (s suite) testTampering(t *testing.T) {
	p, ec := s.Open(t).Provider, bind(t, user)
	if p.Info().Insecure {
		t.Skip("an insecure key notices nothing")
	}
	ciphertext := encrypt(t, p, secret, ec)
	for i := range ciphertext {
		changed := bytes.Clone(ciphertext)
		changed[i] ^= 1 << (i % 7)
		decryptFails(t, p, fmt.Sprintf("bit %d of byte %d of %d flipped", i%7, i, len(ciphertext)), changed, ec, kmsencrypted.ErrDecrypt)
		decryptFails(t, p, fmt.Sprintf("cut to %d bytes of %d", i, len(ciphertext)), ciphertext[:i], ec, kmsencrypted.ErrDecrypt)
	}
	for name, foreign := range map[string][]byte{
		"none":         nil,
		"one byte":     {0},
		"a byte added": append(bytes.Clone(ciphertext), 0),
		"twice":        append(bytes.Clone(ciphertext), ciphertext...),
		"very long":    make([]byte, 1<<16),
		"text":         []byte("not a ciphertext at all"),
	} {
		decryptFails(t, p, name, foreign, ec, kmsencrypted.ErrDecrypt)
	}
}

func (s suite) testOtherKey(t *testing.T) {
	key, ec := s.Open(t), bind(t, user)
	if key.Other == nil {
		t.Skip(s.Lacks["Other"])
	}
	decryptFails(t, key.Provider, "ciphertext of another key", encrypt(t, key.Other, secret, ec), ec, kmsencrypted.ErrDecrypt)
	decryptFails(t, key.Other, "ciphertext of another key", encrypt(t, key.Provider, secret, ec), ec, kmsencrypted.ErrDecrypt)
}
