package kmsencrypted_test

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/keycolumn"
	"github.com/kmsencrypted/kmsencrypted/internal/mac"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// The vectors of testdata/native were written from spec/native.md by a program
// that shares no code with this library.

// nativeContext is an encryption context as the files say it: null, {"text": …}
// or {"pairs": [[name, value], …]}, where a third element marks a Ruby string.
type nativeContext struct{ kmsencrypted.EncryptionContext }

func (c *nativeContext) UnmarshalJSON(data []byte) error {
	var either struct {
		Text  *string
		Pairs [][]any
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&either); err != nil || string(data) == "null" {
		return err
	}
	if either.Text != nil {
		c.EncryptionContext = kmsencrypted.TextContext(*either.Text)
		return nil
	}
	pairs := kmsencrypted.OrderedContext{}
	for _, p := range either.Pairs {
		value := p[1]
		if number, ok := value.(json.Number); ok {
			value, ok = new(big.Int).SetString(number.String(), 10)
			if !ok {
				value, _ = number.Float64()
			}
		}
		pairs = append(pairs, kmsencrypted.Pair{Name: p[0].(string), Value: value, StringName: len(p) > 2})
	}
	c.EncryptionContext = pairs
	return nil
}

// vectorProviders wraps by several of them.
type vectorProviders []vectors.NativeProvider

func (all vectorProviders) Info() kmsencrypted.KeyInfo { return all[0].Info() }

func (all vectorProviders) Encrypt(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	return all[0].Encrypt(ctx, plaintext, ec)
}

func (all vectorProviders) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	return all[0].Decrypt(ctx, ciphertext, ec)
}

func (all vectorProviders) EncryptAll(ctx context.Context, plaintext []byte, ec kmsencrypted.BoundContext) (wraps []kmsencrypted.Wrap, err error) {
	for _, p := range all {
		ciphertext, err := p.Encrypt(ctx, plaintext, ec)
		if err != nil {
			return nil, err
		}
		wraps = append(wraps, kmsencrypted.Wrap{Tag: p.Tag, Ciphertext: ciphertext})
	}
	return wraps, nil
}

func (all vectorProviders) DecryptAny(ctx context.Context, wraps []kmsencrypted.Wrap, ec kmsencrypted.BoundContext, check func([]byte) error) ([]byte, error) {
	for i, p := range all {
		plaintext, err := p.Decrypt(ctx, wraps[i].Ciphertext, ec)
		if err != nil {
			return nil, err
		}
		if err := check(plaintext); err != nil {
			return nil, err
		}
		if i == len(all)-1 { // all of them open to the same key
			return plaintext, nil
		}
	}
	return nil, kmsencrypted.ErrDecrypt
}

// nativeRecipe is what a reader of a vector has in its configuration.
type nativeRecipe struct {
	Version    int
	MinVersion int  `json:"min_version"`
	OmitID     bool `json:"omit_id"`
	RecordSeal bool `json:"record_seal"`
}

func (r nativeRecipe) box(t *testing.T, providers []vectors.NativeProvider) *kmsencrypted.Box {
	t.Helper()
	v := kmsencrypted.Version{Provider: vectorProviders(providers), OmitID: r.OmitID, RecordSeal: r.RecordSeal}
	if len(providers) == 1 {
		v.Provider = providers[0]
	}
	return newBox(t, kmsencrypted.Config{Current: r.Version, MinVersion: r.MinVersion, Versions: map[int]kmsencrypted.Version{r.Version: v}})
}

func TestNativeCanonicalVectors(t *testing.T) {
	t.Parallel()
	cases := vectors.Native[struct {
		Name     string
		Items    []string
		Encoding vectors.Hex
	}](t, "canonical.json")
	for _, c := range cases {
		if got := canon.Strings(c.Items...); !bytes.Equal(got, c.Encoding) {
			t.Errorf("%s: Strings(%q) = %x, want %x", c.Name, c.Items, got, c.Encoding)
		}
	}
	vectors.Ran(t, "native/canonical.json", len(cases))
}

func TestNativeKeysVectors(t *testing.T) {
	t.Parallel()
	cases := vectors.Native[struct {
		Name          string
		DataKey       vectors.Hex `json:"data_key"`
		SealingKey    vectors.Hex `json:"sealing_key"`
		KeyTag        vectors.Hex `json:"key_tag"`
		CommitmentKey vectors.Hex `json:"commitment_key"`
		Derived       []struct {
			Label string
			Bytes vectors.Hex
		}
		KeyColumn string `json:"key_column"`
		Sealed    vectors.Hex
	}](t, "keys.json")
	box := nativeRecipe{Version: 1}.box(t, []vectors.NativeProvider{{Name: "one", Tag: "vector one"}})
	binding := kmsencrypted.Binding{
		Table: "customers", Column: "encrypted_kms_key", ID: []string{"7"},
		Context: kmsencrypted.Context{"model_name": "customers", "model_id": 7},
	}
	for _, c := range cases {
		k, err := box.Unwrap(t.Context(), c.KeyColumn, binding)
		if err != nil {
			t.Errorf("%s: Unwrap: %v", c.Name, err)
			continue
		}
		if raw, err := k.Raw(); err != nil || !bytes.Equal(raw, c.DataKey) {
			t.Errorf("%s: Raw = %x, %v, want %x", c.Name, raw, err, c.DataKey)
		}
		if tag, err := k.Tag(); err != nil || !bytes.Equal(tag[:], c.KeyTag) {
			t.Errorf("%s: Tag = %x, %v, want %x", c.Name, tag, err, c.KeyTag)
		}
		aead, err := k.Cipher()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := aead.Open(nil, nil, c.Sealed, []byte("associated data")); err != nil || string(got) != "plaintext" {
			t.Errorf("%s: Open = %q, %v, want what was sealed under %x", c.Name, got, err, c.SealingKey)
		}
		for _, d := range c.Derived {
			derive := k.Derive
			if strings.HasPrefix(d.Label, "kmsencrypted/") { // which Derive refuses
				derive = func(label string, size int) ([]byte, error) { return mac.Expand(c.DataKey, label, size) }
			}
			if got, err := derive(d.Label, len(d.Bytes)); err != nil || !bytes.Equal(got, d.Bytes) {
				t.Errorf("%s: Derive(%q, %d) = %x, %v, want %x", c.Name, d.Label, len(d.Bytes), got, err, d.Bytes)
			}
		}
		// The commitment key has no method; that it is used, key_column.json shows.
		parts := slices.Concat(c.SealingKey, c.KeyTag, c.CommitmentKey)
		if all, err := mac.Expand(c.DataKey, "kmsencrypted/1 record", 64); err != nil || !bytes.Equal(all, parts) {
			t.Errorf("%s: the keys of the record are %x, %v, want %x", c.Name, all, err, parts)
		}
	}
	vectors.Ran(t, "native/keys.json", len(cases))
}

type nativeKeyColumn struct {
	Name      string
	Recipe    nativeRecipe
	Providers []vectors.NativeProvider
	Binding   struct {
		Table, Column string
		ID            []string
		Context       nativeContext
	}
	Column           string
	DataKey          vectors.Hex `json:"data_key"`
	CanonicalBinding vectors.Hex `json:"canonical_binding"`
	Commitment       vectors.Hex
	Written          bool // a writer with this recipe writes this very column
	Error            string
}

func (c nativeKeyColumn) binding() kmsencrypted.Binding {
	return kmsencrypted.Binding{Table: c.Binding.Table, Column: c.Binding.Column, ID: c.Binding.ID, Context: c.Binding.Context.EncryptionContext}
}

func TestNativeKeyColumnVectors(t *testing.T) {
	t.Parallel()
	cases := vectors.Native[nativeKeyColumn](t, "key_column.json")
	for _, c := range cases {
		box := c.Recipe.box(t, c.Providers)
		k, err := box.Unwrap(t.Context(), c.Column, c.binding())
		one := box.UnwrapAll(t.Context(), []kmsencrypted.WrappedKey{{Column: c.Column, Binding: c.binding()}, {Column: c.Column, Binding: c.binding()}})
		if c.Error != "" {
			vectors.WantOnly(t, c.Name+": Unwrap", err, c.Error)
			vectors.WantOnly(t, c.Name+": UnwrapAll", one[1].Err, c.Error)
			if !k.IsZero() || !one[1].Key.IsZero() {
				t.Errorf("%s: a refused column gives a key", c.Name)
			}
			continue
		}
		if err != nil || one[1].Err != nil {
			t.Errorf("%s: Unwrap: %v, UnwrapAll: %v", c.Name, err, one[1].Err)
			continue
		}
		if raw, err := k.Raw(); err != nil || !bytes.Equal(raw, c.DataKey) || !k.Equal(one[1].Key) {
			t.Errorf("%s: Unwrap = %x, %v, want %x", c.Name, raw, err, c.DataKey)
		}
		checkKeyColumnText(t, c)
		if !c.Written {
			continue
		}
		if got, err := box.Wrap(t.Context(), k, c.binding()); err != nil || got != c.Column {
			t.Errorf("%s: Wrap = %q, %v, want %q", c.Name, got, err, c.Column)
		}
	}
	vectors.Ran(t, "native/key_column.json", len(cases))
}

// checkKeyColumnText takes a column apart and puts it together again.
func checkKeyColumnText(t *testing.T, c nativeKeyColumn) {
	t.Helper()
	version, body, ok := keycolumn.SplitVersion(c.Column)
	parsed, err := keycolumn.ParseText(body)
	if !ok || err != nil || version != c.Recipe.Version || !bytes.Equal(parsed.Commitment[:], c.Commitment) {
		t.Errorf("%s: parsed as version %d, commitment %x, %v, want %d, %x", c.Name, version, parsed.Commitment, err, c.Recipe.Version, c.Commitment)
		return
	}
	again, err := parsed.Append(nil)
	if got := keycolumn.JoinVersion(version, again); err != nil || got != c.Column {
		t.Errorf("%s: written again = %q, %v, want %q", c.Name, got, err, c.Column)
	}
}

// A data key without a primary key is refused unless the recipe leaves it out.
func TestNativeWrapNeedsID(t *testing.T) {
	t.Parallel()
	one := []vectors.NativeProvider{{Name: "one", Tag: "vector one"}}
	binding := kmsencrypted.Binding{Table: "customers", Column: "encrypted_kms_key"}
	_, err := nativeRecipe{Version: 1}.box(t, one).Wrap(t.Context(), kmsencrypted.NewDataKey(), binding)
	vectors.WantOnly(t, "Wrap without an id", err, "ErrNoID")
	if _, err := (nativeRecipe{Version: 1, OmitID: true}).box(t, one).Wrap(t.Context(), kmsencrypted.NewDataKey(), binding); err != nil {
		t.Errorf("Wrap without an id under OmitID: %v", err)
	}
}

// What cannot be read back is not written.
func TestNativeWrapsAtMost16(t *testing.T) {
	t.Parallel()
	providers := make([]vectors.NativeProvider, 17)
	for i := range providers {
		providers[i] = vectors.NativeProvider{Name: "one", Tag: "vector one"}
	}
	binding := kmsencrypted.Binding{Table: "customers", Column: "encrypted_kms_key", ID: []string{"7"}}
	_, err := nativeRecipe{Version: 1}.box(t, providers).Wrap(t.Context(), kmsencrypted.NewDataKey(), binding)
	vectors.WantOnly(t, "Wrap by 17 providers", err, "ErrTooLarge")
	if _, err := (nativeRecipe{Version: 1}).box(t, providers[:16]).Wrap(t.Context(), kmsencrypted.NewDataKey(), binding); err != nil {
		t.Errorf("Wrap by 16 providers: %v", err)
	}
}

// One name twice is refused, in a column from before versions too. A symbol and
// a string are two names.
func TestNativeContextRefusesOneNameTwice(t *testing.T) {
	t.Parallel()
	symbol, text := kmsencrypted.Pair{Name: "a", Value: "1"}, kmsencrypted.Pair{Name: "a", Value: "2", StringName: true}
	legacy := rubyBox(t, &recorder{Provider: testkey.New()})
	for _, c := range []struct {
		pairs   kmsencrypted.OrderedContext
		refused bool
	}{
		{kmsencrypted.OrderedContext{symbol, {Name: "b", Value: 1}, symbol}, true},
		{kmsencrypted.OrderedContext{text, text}, true},
		{kmsencrypted.OrderedContext{symbol, text, symbol}, true},
		{kmsencrypted.OrderedContext{text, symbol}, false},
	} {
		_, bindErr := kmsencrypted.Bind(c.pairs)
		_, legacyErr := legacy.Decrypt(t.Context(), "AAAA", c.pairs)
		for what, err := range map[string]error{"Bind": bindErr, "Decrypt of a column without a version": legacyErr} {
			switch {
			case c.refused:
				vectors.WantOnly(t, fmt.Sprintf("%s under %v", what, c.pairs), err, "ErrContext")
			case err != nil:
				t.Errorf("%s under %v: %v", what, c.pairs, err)
			}
		}
	}
}

func TestNativeSecretVectors(t *testing.T) {
	t.Parallel()
	cases := vectors.Native[struct {
		Name      string
		Recipe    nativeRecipe
		Providers []vectors.NativeProvider
		Context   nativeContext
		Column    string
		Plaintext []byte `json:"plaintext_b64"`
		Error     string
	}](t, "secret.json")
	for _, c := range cases {
		box := c.Recipe.box(t, c.Providers)
		got, err := box.Decrypt(t.Context(), c.Column, c.Context.EncryptionContext)
		if c.Error != "" {
			vectors.WantOnly(t, c.Name, err, c.Error)
			if got != nil {
				t.Errorf("%s: a refused secret gives %q", c.Name, got)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, c.Plaintext) {
			t.Errorf("%s: Decrypt = %q, %v, want %q", c.Name, got, err, c.Plaintext)
		}
		written, err := box.Encrypt(t.Context(), c.Plaintext, c.Context.EncryptionContext)
		if err != nil {
			t.Errorf("%s: Encrypt: %v", c.Name, err)
			continue
		}
		if got := openSecret(t, written); !bytes.Equal(got, c.Plaintext) {
			t.Errorf("%s: Encrypt holds %q, want %q", c.Name, got, c.Plaintext)
		}
		if again, err := box.Decrypt(t.Context(), written, c.Context.EncryptionContext); err != nil || !bytes.Equal(again, c.Plaintext) {
			t.Errorf("%s: Decrypt(Encrypt) = %q, %v", c.Name, again, err)
		}
	}
	vectors.Ran(t, "native/secret.json", len(cases))
}

// openSecret opens a secret by section 6 of the specification, not by the library.
func openSecret(t *testing.T, column string) []byte {
	t.Helper()
	_, text, _ := strings.Cut(column, ":")
	body, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	const head = 1 + 32 + 1
	tag := int(body[head])
	wrap := body[head+1+tag+2:]
	dataKey, rest := wrap[vectors.NativeCheck:vectors.NativeCheck+32], wrap[vectors.NativeCheck+32:]
	okm, err := hkdf.Expand(sha512.New, dataKey, "kmsencrypted/1 record", 64)
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := vectors.OpenGCM(okm[:32], rest, append([]byte{0, 0, 0, 21}, "kmsencrypted/1 secret"...))
	if err != nil {
		t.Errorf("what was written does not open by the specification: %v", err)
	}
	return plaintext
}

func TestNativeLocalVectors(t *testing.T) {
	t.Parallel()
	cases := vectors.Native[struct {
		Name       string
		Keys       string
		Context    nativeContext
		Ciphertext []byte `json:"ciphertext_b64"`
		Plaintext  []byte `json:"plaintext_b64"`
		Error      string
	}](t, "local.json")
	path := filepath.Join(t.TempDir(), "keys.txt")
	for _, c := range cases {
		if err := os.WriteFile(path, []byte(c.Keys), 0o600); err != nil {
			t.Fatal(err)
		}
		provider, err := local.Open(path)
		if c.Error == "ErrConfig" {
			vectors.WantOnly(t, c.Name, err, c.Error)
			continue
		}
		bound, berr := kmsencrypted.Bind(c.Context.EncryptionContext)
		if err := errors.Join(err, berr); err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		got, err := provider.Decrypt(t.Context(), c.Ciphertext, bound)
		if c.Error != "" {
			vectors.WantOnly(t, c.Name, err, c.Error)
			continue
		}
		if err != nil || !bytes.Equal(got, c.Plaintext) {
			t.Errorf("%s: Decrypt = %x, %v, want %x", c.Name, got, err, c.Plaintext)
		}
		// What it writes differs in the nonce alone and is under the first key.
		written, err := provider.Encrypt(t.Context(), c.Plaintext, bound)
		if err != nil || !bytes.HasPrefix(written, []byte("\x0a2024-02-29")) || len(written) != 11+12+len(c.Plaintext)+16 {
			t.Errorf("%s: Encrypt = %x, %v", c.Name, written, err)
		}
		if again, err := provider.Decrypt(t.Context(), written, bound); err != nil || !bytes.Equal(again, c.Plaintext) {
			t.Errorf("%s: Decrypt(Encrypt) = %x, %v", c.Name, again, err)
		}
	}
	vectors.Ran(t, "native/local.json", len(cases))
}
