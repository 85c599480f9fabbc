package kmsencrypted_test

import (
	"bytes"
	"context"
	"maps"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// encodings is one context as each provider was sent it.
type encodings struct {
	AWS struct {
		Map    [][2]vectors.Value
		Absent bool
		Error  *vectors.Failure
	}
	Google struct {
		AAD    []byte `json:"aad_b64"`
		Absent bool
		Error  *vectors.Failure
		// NotAString: Ruby's client would fail later, on a value that is no string.
		NotAString *vectors.Value `json:"not_a_string"`
	}
	Vault struct {
		Context string
		Absent  bool
		Error   *vectors.Failure
	}
	Test struct {
		Ciphertext []byte `json:"ciphertext_b64"`
		Error      *vectors.Failure
	}
}

// recorder is a provider that keeps the context of the last call.
type recorder struct {
	*testkey.Provider
	bound      kmsencrypted.BoundContext
	ciphertext []byte
}

func (r *recorder) Decrypt(_ context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	r.bound, r.ciphertext = ec, ciphertext
	return make([]byte, kmsencrypted.DataKeySize), nil
}

func (r *recorder) DecryptLegacy(_ context.Context, column string, ec kmsencrypted.BoundContext) ([]byte, error) {
	r.bound, r.ciphertext = ec, []byte(column)
	return make([]byte, kmsencrypted.DataKeySize), nil
}

func TestContextVectors(t *testing.T) {
	var file struct {
		Cases []struct {
			Name              string
			Context           vectors.Value
			Versioned, Legacy encodings
			Elsewhere         map[string][]byte `json:"json_elsewhere"`
		}
	}
	vectors.Load(t, "kms_context.json", &file)
	for _, c := range file.Cases {
		ec, err := c.Context.Context()
		if err != nil {
			// Ruby refuses it for AWS or sends something that no Go type can say.
			if c.Versioned.Google.Error == nil && c.Versioned.Google.NotAString == nil {
				t.Errorf("%s: cannot be said in Go: %v", c.Name, err)
			}
			continue
		}
		checkEncodings(t, c.Name+", versioned", "v1:", ec, c.Versioned)
		checkEncodings(t, c.Name+", legacy", "", ec, c.Legacy)
		for where, want := range c.Elsewhere {
			checkElsewhere(t, c.Name+" in "+where, ec, want)
		}
	}
	vectors.Ran(t, "kms_context.json", len(file.Cases))
}

// checkEncodings reads a column under the context and compares what reaches a
// provider with what reached Ruby's.
func checkEncodings(t *testing.T, name, prefix string, ec kmsencrypted.EncryptionContext, want encodings) {
	t.Helper()
	r := &recorder{Provider: testkey.New()}
	box := rubyBox(t, r)
	_, err := box.Decrypt(t.Context(), prefix+"AAAA", ec)
	if refused := want.Google.Error != nil; refused != (err != nil) {
		t.Errorf("%s: error = %v, Ruby's %v", name, err, want.Google.Error)
	}
	if err != nil {
		return
	}
	if got := r.bound.Bytes(); !bytes.Equal(got, want.Google.AAD) || r.bound.Absent() != want.Google.Absent {
		t.Errorf("%s: bytes = %q, want %q", name, got, want.Google.AAD)
	}
	if got := rubycompat.Encode64(r.bound.Bytes()); got != want.Vault.Context {
		t.Errorf("%s: Vault's context = %q, want %q", name, got, want.Vault.Context)
	}
	pairs, err := r.bound.Map()
	if refused := want.AWS.Error != nil; refused != (err != nil) {
		t.Errorf("%s: Map error = %v, Ruby's %v", name, err, want.AWS.Error)
	}
	wantPairs := make(map[string]string)
	for _, pair := range want.AWS.Map {
		value, _ := pair[1].Go()
		wantPairs[pair[0].Text], _ = value.(string)
	}
	if want.AWS.Error == nil && !maps.Equal(pairs, wantPairs) {
		t.Errorf("%s: Map = %q, want %q", name, pairs, wantPairs)
	}
	ciphertext, err := testkey.New().Encrypt(t.Context(), []byte("p"), r.bound)
	if err != nil || !bytes.Equal(ciphertext, want.Test.Ciphertext) {
		t.Errorf("%s: test ciphertext = %q, want %q", name, ciphertext, want.Test.Ciphertext)
	}
}

// checkElsewhere wraps a key as a Ruby process with another JSON would and reads it.
func checkElsewhere(t *testing.T, name string, ec kmsencrypted.EncryptionContext, json []byte) {
	t.Helper()
	box := rubyBox(t, testkey.New())
	written, err := box.Encrypt(t.Context(), []byte("p"), kmsencrypted.TextContext(json))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := box.Decrypt(t.Context(), written, ec); err != nil || string(got) != "p" {
		t.Errorf("%s: Decrypt = %q, %v", name, got, err)
	}
}

func rubyBox(t *testing.T, p kmsencrypted.Provider) *kmsencrypted.Box {
	t.Helper()
	return newBox(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: p, Format: kmsencrypted.Ruby}}})
}

func newBox(t *testing.T, c kmsencrypted.Config) *kmsencrypted.Box {
	t.Helper()
	box, err := c.Box()
	if err != nil {
		t.Fatal(err)
	}
	return box
}
