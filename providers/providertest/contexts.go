package providertest

import (
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// testContexts opens each ciphertext under its own context and under no other.
func (s suite) testContexts(t *testing.T) {
	p := s.Open(t).Provider
	contexts := []kmsencrypted.Context{
		user,
		{"model_name": "User", "model_id": 124},
		{"model_name": "user", "model_id": 123},
		{"model_name": "User"},
		{"model_name": "User", "model_id": 123, "tenant": "acme"},
		{"model_name": "User123", "model_id": ""},
		{"a": "b", "c": "d"},
		{"a": "b:c", "d": ""},
		{"a": "\",\"c\":\"d"},
		{"name": "Grüße, Ωmega, 日本, 🔑"},
		{"name": "Grusse, Omega"},
		{"имя": "ключ"},
		{"html": "<b>&</b>"},
		{"html": "\\u003cb\\u003e\\u0026\\u003c/b\\u003e"},
		{"separators": "a\u2028b\u2029c"},
		{"separators": "a b c"},
		{"controls": "a\tb\nc\u0001d\u007f"},
		{"quotes": `"\/`},
		{"long": strings.Repeat("0123456789", 100)},
		{"big": uint64(18446744073709551615)},
	}
	bound := make([]kmsencrypted.BoundContext, len(contexts))
	ciphertexts := make([][]byte, len(contexts))
	for i, ec := range contexts {
		bound[i] = bind(t, ec)
		ciphertexts[i] = encrypt(t, p, secret, bound[i])
		opens(t, p, ciphertexts[i], secret, bound[i])
	}
	for i := 1; i < len(contexts); i++ {
		s.wrong(t, p, ciphertexts[0], bound[i])
		s.wrong(t, p, ciphertexts[i], bound[i-1])
	}
	// A map has no order.
	reversed := bind(t, kmsencrypted.OrderedContext{{Name: "model_name", Value: "User"}, {Name: "model_id", Value: "123"}})
	opens(t, p, ciphertexts[0], secret, reversed)
}

// wrong checks that another context does not open a ciphertext of the secret,
// unless the service is known to ignore contexts.
func (s suite) wrong(t *testing.T, p kmsencrypted.Provider, ciphertext []byte, ec kmsencrypted.BoundContext) {
	t.Helper()
	if p.Info().IgnoresContext {
		opens(t, p, ciphertext, secret, ec)
	} else {
		decryptFails(t, p, "other context "+ec.String(), ciphertext, ec, kmsencrypted.ErrDecrypt)
	}
}

func (s suite) testAbsentAndEmpty(t *testing.T) {
	p := s.Open(t).Provider
	absent, empty, named := bind(t, nil), bind(t, kmsencrypted.Context{}), bind(t, user)
	underEmpty, underNamed := encrypt(t, p, secret, empty), encrypt(t, p, secret, named)
	opens(t, p, underEmpty, secret, empty)
	s.wrong(t, p, underNamed, empty)
	if s.NeedsContext {
		encryptFails(t, p, "no context", absent, kmsencrypted.ErrContext)
		decryptFails(t, p, "no context", underNamed, absent, kmsencrypted.ErrContext)
		return
	}
	underAbsent := encrypt(t, p, secret, absent)
	opens(t, p, underAbsent, secret, absent)
	s.wrong(t, p, underNamed, absent)
	if s.EmptyIsAbsent {
		opens(t, p, underEmpty, secret, absent)
		opens(t, p, underAbsent, secret, empty)
	} else {
		s.wrong(t, p, underEmpty, absent)
		s.wrong(t, p, underAbsent, empty)
	}
}

func (s suite) testTextContext(t *testing.T) {
	p := s.Open(t).Provider
	text, other := bind(t, kmsencrypted.TextContext("tenant/acme")), bind(t, kmsencrypted.TextContext("tenant/acme2"))
	if s.PairsOnly {
		ciphertext := encrypt(t, p, secret, bind(t, user))
		encryptFails(t, p, "text as context", text, kmsencrypted.ErrContext)
		decryptFails(t, p, "text as context", ciphertext, text, kmsencrypted.ErrContext)
		return
	}
	ciphertext := encrypt(t, p, secret, text)
	opens(t, p, ciphertext, secret, text)
	s.wrong(t, p, ciphertext, other)
}
