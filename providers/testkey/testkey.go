// Package testkey is the insecure test key of kms_encrypted, byte for byte. It
// does not encrypt: its ciphertext contains the data key in plain. With it an
// application can run offline on the same rows as a Rails application under the
// same test key.
//
// Its key ids are "insecure-test-key" and, for a server that may only encrypt,
// "insecure-test-key/encrypt". Nothing ever falls back to it.
package testkey

import (
	"bytes"
	"context"
	"crypto/subtle"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// The key ids of kms_encrypted.
const (
	KeyID        = "insecure-test-key"
	EncryptKeyID = "insecure-test-key/encrypt"
)

// prefix begins every ciphertext: the 11 bytes that decode from
// "insecure+data+A", so that a column reads "v1:insecure+data+A6…".
var prefix = rubycompat.Decode64("insecure+data+A")

// Provider is the test key. It is immutable and safe for concurrent use.
type Provider struct {
	encryptOnly bool
}

// New returns the test key. There is no service to call, and the provider has no Close
// method.
func New() *Provider { return &Provider{} }

// EncryptOnly returns the test key of a server that may not decrypt. It writes
// what [New] reads. Its Decrypt always returns [kmsencrypted.ErrDenied].
func EncryptOnly() *Provider { return &Provider{encryptOnly: true} }

// Info returns the key id and marks the key as insecure.
func (p *Provider) Info() kmsencrypted.KeyInfo {
	id := KeyID
	if p.encryptOnly {
		id = EncryptKeyID
	}
	return kmsencrypted.KeyInfo{Provider: KeyID, KeyID: id, Tag: KeyID, Insecure: true}
}

// Encrypt returns prefix, ":", base64 of the plaintext and, if there is a
// context, ":" and base64 of its JSON in lines of 60. It is deterministic.
func (p *Provider) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ciphertext := bytes.Clone(prefix)
	ciphertext = append(ciphertext, ':')
	ciphertext = append(ciphertext, rubycompat.StrictEncode64(plaintext)...)
	if !ec.Absent() {
		ciphertext = append(ciphertext, ':')
		ciphertext = append(ciphertext, rubycompat.Encode64(ec.Bytes())...)
	}
	return ciphertext, nil
}

// Decrypt reads what Encrypt wrote under the same context.
func (p *Provider) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fail := func(err error) ([]byte, error) {
		return nil, &kmsencrypted.Error{Op: "decrypt", Provider: KeyID, KeyID: p.Info().KeyID, Err: err}
	}
	if p.encryptOnly {
		return fail(kmsencrypted.ErrDenied)
	}
	head, rest, _ := bytes.Cut(ciphertext, []byte(":"))
	plaintext, stored, hasContext := bytes.Cut(rest, []byte(":"))
	want := []byte(rubycompat.Encode64(ec.Bytes()))
	switch {
	case !bytes.Equal(head, prefix),
		hasContext == ec.Absent(),
		hasContext && subtle.ConstantTimeCompare(stored, want) != 1,
		// Ruby drops trailing empty fields and then fails on this one.
		len(plaintext) == 0 && !hasContext:
		return fail(kmsencrypted.ErrDecrypt)
	}
	return rubycompat.Decode64(string(plaintext)), nil
}

// InMemory marks unwrapping as fast, so that callers do not share it.
func (p *Provider) InMemory() {}

// Probe always succeeds.
func (p *Provider) Probe(ctx context.Context) error { return ctx.Err() }
