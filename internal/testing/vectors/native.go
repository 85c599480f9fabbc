package vectors

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
)

// Native returns the cases of a file in testdata/native. They were written from
// spec/native.md by a program that shares no code with this library. The test
// fails for a member that C lacks.
func Native[C any](t testing.TB, file string) []C {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(Root(), "testdata", "native", file))
	if err != nil {
		t.Fatal(err)
	}
	var content struct {
		Source, Section string
		Cases           []C
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&content); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return content.Cases
}

// nativeErrors returns the sentinels that the specification names.
func nativeErrors() map[string]error {
	return map[string]error{
		"ErrMalformed": kmsencrypted.ErrMalformed, "ErrNotCiphertext": kmsencrypted.ErrNotCiphertext, "ErrType": kmsencrypted.ErrType,
		"ErrOtherDataKey": kmsencrypted.ErrOtherDataKey, "ErrDecrypt": kmsencrypted.ErrDecrypt, "ErrBinding": kmsencrypted.ErrBinding,
		"ErrRecordSeal": kmsencrypted.ErrRecordSeal, "ErrNoDataKey": kmsencrypted.ErrNoDataKey,
		"ErrVersionNotActive": kmsencrypted.ErrVersionNotActive, "ErrVersionRetired": kmsencrypted.ErrVersionRetired,
		"ErrContext": kmsencrypted.ErrContext, "ErrNoID": kmsencrypted.ErrNoID, "ErrTooLarge": kmsencrypted.ErrTooLarge,
		"ErrConfig": kmsencrypted.ErrConfig,
	}
}

// WantOnly checks that an error matches the sentinel with this name and none of
// the others in the specification.
func WantOnly(t testing.TB, what string, err error, name string) {
	t.Helper()
	sentinels := nativeErrors()
	if sentinels[name] == nil {
		t.Fatalf("%s: unknown error %q", what, name)
	}
	for other, sentinel := range sentinels {
		if errors.Is(err, sentinel) != (other == name) {
			t.Errorf("%s: error = %v, want %s alone", what, err, name)
			return
		}
	}
}

// Hex holds bytes that a file stores in hexadecimal.
type Hex []byte

// UnmarshalText reads hexadecimal.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// NativeProvider is the provider of the native vectors. It hides nothing: a
// ciphertext is [NativeCheck] bytes computed from name, context and plaintext,
// followed by the plaintext.
type NativeProvider struct {
	Name           string
	Tag            string
	IgnoresContext bool `json:"ignores_context"`
}

// NativeCheck is the size in bytes of what a [NativeProvider] puts before the
// plaintext.
const NativeCheck = 8

// Info implements [kmsencrypted.Provider].
func (p NativeProvider) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "vector", KeyID: p.Name, Tag: p.Tag, IgnoresContext: p.IgnoresContext}
}

// Encrypt implements [kmsencrypted.Provider].
func (p NativeProvider) Encrypt(_ context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	sent := ec.Bytes()
	if p.IgnoresContext {
		sent = nil
	}
	check := sha256.Sum256(canon.Strings(p.Name, string(sent), string(plaintext)))
	return append(check[:NativeCheck:NativeCheck], plaintext...), nil
}

// Decrypt implements [kmsencrypted.Provider].
func (p NativeProvider) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	plaintext := bytes.Clone(ciphertext[min(NativeCheck, len(ciphertext)):])
	if again, err := p.Encrypt(ctx, plaintext, ec); err != nil || !bytes.Equal(again, ciphertext) {
		return nil, kmsencrypted.ErrDecrypt
	}
	return plaintext, nil
}

// OpenGCM opens nonce (12 bytes), ciphertext and tag with AES-GCM alone, to
// check the library's output against the specification.
func OpenGCM(key, sealed, associatedData []byte) (plaintext []byte, err error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	const nonceSize = 12
	if len(sealed) < nonceSize {
		return nil, errors.New("shorter than a nonce")
	}
	// FIPS 140 does not allow AES-GCM with a nonce from the caller.
	fips140.WithoutEnforcement(func() {
		var gcm cipher.AEAD
		if gcm, err = cipher.NewGCM(block); err == nil {
			plaintext, err = gcm.Open(nil, sealed[:nonceSize], sealed[nonceSize:], associatedData)
		}
	})
	return plaintext, err
}
