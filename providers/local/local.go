// Package local wraps data keys under key-encryption keys from a file or an
// environment variable. It is for development, tests and small installations:
// anybody who reads the file can open every record, and there is no audit log.
// Use a key management service where there is one.
//
//	provider, err := local.Create("keys.txt") // once; also: kmsencrypted keygen keys.txt
//	provider, err := local.Open("keys.txt")   // at every start
//
// A program that may start on an empty database can use [OpenOrCreate] for both.
//
// A key file is text, one key a line: its id, a space and 64 hex digits. The
// first key encrypts, all of them decrypt, so [Rotate] adds a new first line and
// the old ones stay until nothing is wrapped under them any more. Empty lines
// and lines that begin with '#' are skipped.
package local

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// KeySize is the size of a key-encryption key in bytes.
const KeySize = 32

// label separates this use of AES-GCM from all others.
const label = "kmsencrypted/1 local"

type redacted = secret.Redacted

// Provider wraps data keys under local keys. It is immutable and safe for
// concurrent use, and prints as "[redacted]". The zero value has no keys, and its
// calls return [kmsencrypted.ErrConfig].
type Provider struct {
	redacted
	hidden secret.Pointer[ring]
}

// ring holds the ciphers of all keys.
type ring struct {
	source string // "local:keys.txt"
	first  string
	keys   map[string]cipher.AEAD
}

// key is one line of a key file.
type key struct {
	id    string
	bytes []byte
}

func newProvider(source string, keys []key) (*Provider, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: %w: it contains no key", source, kmsencrypted.ErrConfig)
	}
	r := ring{source: source, first: keys[0].id, keys: make(map[string]cipher.AEAD)}
	for _, k := range keys {
		block, err := aes.NewCipher(k.bytes)
		if err != nil {
			return nil, err
		}
		// Random nonces are the only ones that GODEBUG=fips140=only allows.
		if r.keys[k.id], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, err
		}
		clear(k.bytes)
	}
	return &Provider{hidden: secret.Hide(r)}, nil
}

// noKeys is the ring of a nil or zero Provider.
var noKeys = ring{source: "local"}

func (p *Provider) ring() *ring {
	if p != nil {
		if r := p.hidden.Get(); r != nil {
			return r
		}
	}
	return &noKeys
}

// Check returns [kmsencrypted.ErrConfig] for a nil or zero Provider.
func (p *Provider) Check() error {
	if len(p.ring().keys) == 0 {
		return fmt.Errorf("local: %w: the provider was not made by this package and has no keys", kmsencrypted.ErrConfig)
	}
	return nil
}

// Info returns the name of the file or variable.
func (p *Provider) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "local", KeyID: p.ring().source, Tag: "local"}
}

// Encrypt returns
//
//	id length 1 | id | nonce 12 | ciphertext | tag 16
//
// under the first key. id and context are associated data.
func (p *Provider) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	id := p.ring().first
	out := make([]byte, 0, 1+len(id)+12+len(plaintext)+16)
	out = append(out, byte(len(id)))
	out = append(out, id...)
	return p.ring().keys[id].Seal(out, nil, plaintext, associatedData(id, ec)), nil
}

// Decrypt opens what Encrypt returned, with any of the keys. If the key is not in
// the file any more, the text of the [kmsencrypted.ErrDecrypt] names it.
func (p *Provider) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	if len(ciphertext) == 0 || len(ciphertext) < 1+int(ciphertext[0]) {
		return nil, p.failed(kmsencrypted.ErrDecrypt, nil)
	}
	id, sealed := string(ciphertext[1:1+ciphertext[0]]), ciphertext[1+ciphertext[0]:]
	aead, ok := p.ring().keys[id]
	if !ok {
		if !validID(id) {
			return nil, p.failed(kmsencrypted.ErrDecrypt, nil)
		}
		return nil, p.failed(kmsencrypted.ErrDecrypt, fmt.Errorf("key %q is not in %s", id, p.ring().source))
	}
	plaintext, err := aead.Open(nil, nil, sealed, associatedData(id, ec))
	if err != nil {
		return nil, p.failed(kmsencrypted.ErrDecrypt, nil)
	}
	return plaintext, nil
}

// InMemory marks unwrapping as fast, so that callers do not share it.
func (p *Provider) InMemory() {}

// Probe succeeds for every provider with keys, because they are in memory.
func (p *Provider) Probe(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.Check()
}

func (p *Provider) failed(err, cause error) error {
	return &kmsencrypted.Error{Op: "decrypt", Provider: "local", KeyID: p.ring().source, Err: err, Cause: cause}
}

// associatedData encodes the length, which distinguishes an absent context from
// an empty one.
func associatedData(id string, ec kmsencrypted.BoundContext) []byte {
	ad := canon.Strings(label, id)
	if ec.Absent() {
		return ad
	}
	return canon.AppendBytes(ad, ec.Bytes())
}

var errKeyLine = errors.New("a key line is an id of letters, digits, '.', '_' or '-', a space and 64 hex digits")
