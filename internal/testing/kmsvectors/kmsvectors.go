// Package kmsvectors compares providers with the recorded requests of the Ruby
// clients. Only tests import it.
//
// Each case runs the whole path: a [kmsencrypted.Box] under a Ruby version, the
// provider, and a fake service from the provider's test, which stores the request
// and returns the recorded answer.
package kmsvectors

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"regexp"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// Sent is a request by Ruby's field names. Bytes are strings, a map of pairs is a
// map[string]string. Vault's path is the field "path".
type Sent map[string]any

// Answer is what the service replies.
type Answer struct {
	Ciphertext, Plaintext []byte
	Undecryptable         bool // the service answers that it cannot decrypt
	Failure               bool // some other failure of the service
}

// Provider creates the provider under test.
//
// want is what Ruby sent: a google column from before 1.0 names a key that must be
// allowed. sent returns the only request so far, or nil if there was none.
type Provider func(t *testing.T, keyID string, want Sent, answer Answer) (p kmsencrypted.Provider, sent func() Sent)

// Run runs all cases of a provider, "aws", "google" or "vault".
func Run(t *testing.T, name string, open Provider) {
	r := runner{name, open}
	t.Run("requests", r.requests)
	t.Run("legacy", r.legacy)
	t.Run("contexts", r.contexts)
}

type runner struct {
	name string
	open Provider
}

func (s *Sent) UnmarshalJSON(data []byte) error {
	var fields map[string]struct {
		Text  *string
		Bytes []byte             `json:"b64"`
		Pairs [][2]vectors.Value `json:"map"`
	}
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	*s = make(Sent)
	for name, f := range fields {
		switch {
		case f.Text != nil:
			(*s)[name] = *f.Text
		case f.Pairs != nil:
			(*s)[name] = pairs(f.Pairs)
		default:
			(*s)[name] = string(f.Bytes)
		}
	}
	return nil
}

func pairs(list [][2]vectors.Value) map[string]string {
	m := make(map[string]string)
	for _, pair := range list {
		value, _ := pair[1].Go()
		m[pair[0].Text], _ = value.(string)
	}
	return m
}

// marks are the fields that identify the provider of a request.
var marks = map[string][]string{
	"aws":    {"key_id", "ciphertext_blob"},
	"google": {"name"},
	"vault":  {"path"},
}

func (r runner) concerns(want Sent) bool {
	for _, mark := range marks[r.name] {
		if want[mark] != nil {
			return true
		}
	}
	return false
}

type request struct {
	Op, Name, Path, Column string
	KeyID                  string `json:"key_id"`
	Version                int
	Previous               map[int]*string `json:"previous_versions"`
	Context                vectors.Value
	Plaintext              []byte `json:"plaintext_b64"`
	Response               []byte `json:"response_b64"`
	Request                Sent
	Error                  *vectors.Failure
}

func (r runner) requests(t *testing.T) {
	var file struct{ Cases []request }
	vectors.Load(t, "kms_requests.json", &file)
	ran := 0
	for _, c := range file.Cases {
		if c.Path != "" {
			c.Request["path"] = c.Path
		}
		if r.concerns(c.Request) {
			ran++
			r.request(t, c)
		}
	}
	vectors.Ran(t, "kms_requests.json", ran)
}

func (r runner) request(t *testing.T, c request) {
	version := max(c.Version, 1)
	keys := map[int]*string{version: &c.KeyID}
	maps.Copy(keys, c.Previous)
	if c.Op == "decrypt" {
		version = kmsencrypted.ColumnVersion(c.Column)
	}
	keyID := defaultKeys[r.name]
	if listed := keys[version]; listed != nil {
		keyID = *listed
	}
	provider, sent := r.open(t, keyID, c.Request, Answer{
		Ciphertext:    c.Response,
		Plaintext:     c.Plaintext,
		Undecryptable: c.Error != nil && c.Error.Class == "KmsEncrypted::DecryptionError",
		Failure:       c.Error != nil && c.Error.Class == "RuntimeError",
	})
	config := kmsencrypted.Config{Current: max(c.Version, 1), Versions: make(map[int]kmsencrypted.Version), AllowInsecure: true}
	for n, keyID := range keys {
		v := kmsencrypted.Version{Format: kmsencrypted.Ruby, AllowIgnoredContext: true}
		switch {
		case n == version && keyID != nil:
			v.Provider = provider
		case keyID != nil:
			v.Provider = testkey.New() // not asked
		}
		config.Versions[n] = v
	}
	got, want, err := c.run(t, config)
	switch {
	case c.refusedByBox():
		if err == nil || sent() != nil {
			t.Errorf("%s %s = %q, %v after sending %q, Ruby refuses: %v", c.Op, c.Name, got, err, sent(), c.Error)
		}
		return
	case c.Error == nil && (err != nil || got != want):
		t.Errorf("%s %s = %q, %v, want %q", c.Op, c.Name, got, err, want)
	case c.Error != nil && errors.Is(err, kmsencrypted.ErrDecrypt) != (c.Error.Class == "KmsEncrypted::DecryptionError"):
		t.Errorf("%s %s: error = %v, Ruby's %v", c.Op, c.Name, err, c.Error)
	}
	same(t, c.Name, sent(), c.Request)
}

var leadingZero = regexp.MustCompile(`^v0\d+:`)

// refusedByBox reports whether the Box refuses a request: Ruby raises before it
// calls a provider, or, for "v01:", sends garbage.
func (c request) refusedByBox() bool {
	return c.Op == "decrypt" && leadingZero.MatchString(c.Column) ||
		c.Error != nil && (c.Error.Class == "KmsEncrypted::Error" || c.Error.Class == "ArgumentError")
}

func (c request) run(t *testing.T, config kmsencrypted.Config) (got, want string, err error) {
	t.Helper()
	ec, err := c.Context.Context()
	if err != nil {
		t.Fatal(err)
	}
	box, err := config.Box()
	if err != nil {
		return "", "", err
	}
	if c.Op == "encrypt" {
		got, err = box.Encrypt(t.Context(), c.Plaintext, ec)
		return got, c.Column, err
	}
	plaintext, err := box.Decrypt(t.Context(), c.Column, ec)
	return string(plaintext), string(c.Plaintext), err
}

func (r runner) legacy(t *testing.T) {
	var file struct {
		Cases []struct {
			Provider, Path, Column string
			KeyID                  string `json:"key_id"`
			Context                vectors.Value
			DataKey                string `json:"data_key"`
			Request                Sent   `json:"request_of_1_8_1"`
		}
	}
	vectors.Load(t, "kms_legacy.json", &file)
	ran := 0
	for _, c := range file.Cases {
		if c.Provider != r.name {
			continue
		}
		ran++
		if c.Path != "" {
			c.Request["path"] = c.Path
		}
		key, err := hex.DecodeString(c.DataKey)
		if err != nil {
			t.Fatal(err)
		}
		ec, err := c.Context.Context()
		if err != nil {
			t.Fatal(err)
		}
		provider, sent := r.open(t, c.KeyID, c.Request, Answer{Plaintext: key})
		got, err := rubyBox(t, 1, provider).Decrypt(t.Context(), c.Column, ec)
		if err != nil || !bytes.Equal(got, key) {
			t.Errorf("Decrypt(%.20q) = %x, %v, want %x", c.Column, got, err, key)
		}
		same(t, c.Column, sent(), c.Request)
	}
	vectors.Ran(t, "kms_legacy.json", ran)
}

// encoding is one context as sent to a provider.
type encoding struct {
	Pairs  [][2]vectors.Value `json:"map"`
	AAD    []byte             `json:"aad_b64"`
	Text   string             `json:"context"`
	Absent bool
	Error  *vectors.Failure
	// NotAString is set if Ruby passes on what its client would refuse.
	NotAString *vectors.Value `json:"not_a_string"`
}

// field returns the name of the context in a request, and its value.
func (e encoding) field(provider string) (name string, value any) {
	switch provider {
	case "aws":
		return "encryption_context", pairs(e.Pairs)
	case "google":
		return "additional_authenticated_data", string(e.AAD)
	}
	return "context", e.Text
}

func (r runner) contexts(t *testing.T) {
	var file struct {
		Cases []struct {
			Name              string
			Context           vectors.Value
			Versioned, Legacy map[string]encoding
		}
	}
	vectors.Load(t, "kms_context.json", &file)
	ran := 0
	for _, c := range file.Cases {
		ec, err := c.Context.Context()
		if err != nil {
			continue // Go has no type for it; the root package's test says which these are
		}
		ran++
		r.context(t, c.Name+", versioned", "v1:AAAA", ec, c.Versioned[r.name])
		r.context(t, c.Name+", legacy", "AAAA", ec, c.Legacy[r.name])
	}
	vectors.Ran(t, "kms_context.json", ran)
}

func (r runner) context(t *testing.T, name, column string, ec kmsencrypted.EncryptionContext, want encoding) {
	t.Helper()
	if r.name == "aws" && want.Error == nil && !utf8Pairs(want.Pairs) {
		return // Ruby sends AWS bytes that are not UTF-8; here no provider gets them
	}
	provider, sent := r.open(t, defaultKeys[r.name], Sent{}, Answer{Plaintext: make([]byte, kmsencrypted.DataKeySize)})
	if r.name == "vault" {
		column = vaultColumns[column]
	}
	_, err := rubyBox(t, 1, provider).Decrypt(t.Context(), column, ec)
	if want.Error != nil || want.NotAString != nil {
		if !errors.Is(err, kmsencrypted.ErrContext) || sent() != nil {
			t.Errorf("%s: error = %v after sending %v, Ruby's %v", name, err, sent(), want.Error)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	field, value := want.field(r.name)
	if want.Absent {
		value = nil
	}
	if got := sent()[field]; !reflect.DeepEqual(got, value) {
		t.Errorf("%s: %s = %q, want %q", name, field, got, value)
	}
}

var defaultKeys = map[string]string{
	"aws":    "alias/my-alias",
	"google": "projects/my-project/locations/global/keyRings/my-ring/cryptoKeys/my-key",
	"vault":  "vault/my-key",
}

// vaultColumns are columns whose content looks like a Vault ciphertext.
var vaultColumns = map[string]string{"v1:AAAA": "v1:dmF1bHQ6djE6QUFBQQ==", "AAAA": "vault:v1:AAAA"}

func utf8Pairs(list [][2]vectors.Value) bool {
	for _, pair := range list {
		if pair[0].Kind == "bin" || pair[1].Kind == "bin" && pair[1].Enc == "UTF-8" {
			return false
		}
	}
	return true
}

func same(t *testing.T, name string, got, want Sent) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: sent %q, Ruby sends %q", name, got, want)
	}
}

func rubyBox(t *testing.T, version int, p kmsencrypted.Provider) *kmsencrypted.Box {
	t.Helper()
	box, err := kmsencrypted.Config{
		Current: version,
		Versions: map[int]kmsencrypted.Version{
			version: {Provider: p, Format: kmsencrypted.Ruby, AllowIgnoredContext: true},
		},
	}.Box()
	if err != nil {
		t.Fatal(err)
	}
	return box
}
