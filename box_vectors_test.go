package kmsencrypted_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strconv"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// testProvider is the provider that a key id of the vectors names.
func testProvider(t *testing.T, keyID string) kmsencrypted.Provider {
	switch keyID {
	case "", testkey.KeyID:
		return testkey.New()
	case testkey.EncryptKeyID:
		return testkey.EncryptOnly()
	}
	t.Fatalf("unknown key id %q", keyID)
	return nil
}

func TestBoxVectors(t *testing.T) {
	var file struct {
		Cases []struct {
			Op, Name  string
			KeyID     string `json:"key_id"`
			Version   *int
			Previous  map[string]string `json:"previous_versions"`
			Context   vectors.Value
			Plaintext []byte `json:"plaintext_b64"`
			Column    string
			Error     *vectors.Failure
		}
	}
	vectors.Load(t, "kms_box_test_key.json", &file)
	for _, c := range file.Cases {
		config := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{}}
		if c.Version != nil {
			config.Current = *c.Version
		}
		config.Versions[config.Current] = kmsencrypted.Version{Provider: testProvider(t, c.KeyID), Format: kmsencrypted.Ruby}
		for version, keyID := range c.Previous {
			n, err := strconv.Atoi(version)
			if err != nil {
				t.Fatal(err)
			}
			config.Versions[n] = kmsencrypted.Version{Provider: testProvider(t, keyID), Format: kmsencrypted.Ruby}
		}
		box := newBox(t, config)
		ec, err := c.Context.Context()
		if err != nil { // no Go value can say it
			if c.Error == nil {
				t.Errorf("%s %s: %v", c.Op, c.Name, err)
			}
			continue
		}
		var got, want string
		if c.Op == "encrypt" {
			got, err = box.Encrypt(t.Context(), c.Plaintext, ec)
			want = c.Column
		} else {
			var plaintext []byte
			plaintext, err = box.Decrypt(t.Context(), c.Column, ec)
			got, want = string(plaintext), string(c.Plaintext)
		}
		if c.Error != nil {
			if err == nil {
				t.Errorf("%s %s = %q, Ruby refuses: %v", c.Op, c.Name, got, c.Error)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%s %s = %q, %v, want %q", c.Op, c.Name, got, err, want)
		}
	}
	vectors.Ran(t, "kms_box_test_key.json", len(file.Cases))
}

// The key columns of whole rows open to the data keys that Ruby had, and these
// are wrapped to the same text again.
func TestModelRowKeyVectors(t *testing.T) {
	var file struct {
		Rows []struct {
			Step     string
			Context  vectors.Value
			Columns  map[string]vectors.Stored
			DataKeys map[string]string `json:"data_keys"`
		}
	}
	vectors.Load(t, "model_rows.json", &file)
	checked := 0
	for _, row := range file.Rows {
		ec, err := row.Context.Context()
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range row.DataKeys {
			stored := row.Columns["encrypted_"+name]
			if want == "" && stored.Null {
				continue
			}
			column := string(stored.Bytes)
			version := kmsencrypted.ColumnVersion(column)
			box := newBox(t, kmsencrypted.Config{Current: version, Versions: map[int]kmsencrypted.Version{version: {Provider: testkey.New(), Format: kmsencrypted.Ruby}}})
			k, err := box.Unwrap(t.Context(), column, kmsencrypted.Binding{Context: ec})
			if err != nil {
				t.Errorf("%s, %s: %v", row.Step, name, err)
				continue
			}
			if raw, err := k.Raw(); err != nil || hex.EncodeToString(raw) != want {
				t.Errorf("%s, %s: data key %x, %v, want %s", row.Step, name, raw, err, want)
			}
			if again, err := box.Wrap(t.Context(), k, kmsencrypted.Binding{Context: ec}); err != nil || again != column {
				t.Errorf("%s, %s: Wrap = %q, %v, want %q", row.Step, name, again, err, column)
			}
			checked++
		}
	}
	vectors.Ran(t, "model_rows.json", checked)
}

// Columns from before 1.0: what reaches the provider is what reached Ruby's
// 1.8.1, and their own test key is refused.
func TestLegacyVectors(t *testing.T) {
	var file struct {
		Cases []struct {
			Provider, Column string
			Context          vectors.Value
			Request          *struct {
				Blob       vectors.Stored  `json:"ciphertext_blob"`
				Ciphertext vectors.Stored  `json:"ciphertext"`
				AAD        *vectors.Stored `json:"additional_authenticated_data"`
				Vault      *vectors.Stored `json:"context"`
			} `json:"request_of_1_8_1"`
			Read struct {
				Error *vectors.Failure
			} `json:"read_by_1_8_1"`
		}
	}
	vectors.Load(t, "kms_legacy.json", &file)
	for _, c := range file.Cases {
		ec, err := c.Context.Context()
		if err != nil {
			t.Fatal(err)
		}
		if c.Read.Error != nil {
			if _, err := rubyBox(t, testkey.New()).Decrypt(t.Context(), c.Column, ec); !errors.Is(err, kmsencrypted.ErrDecrypt) {
				t.Errorf("%s: error = %v, want ErrDecrypt", c.Column, err)
			}
			continue
		}
		r := &recorder{Provider: testkey.New()}
		if _, err := rubyBox(t, r).Decrypt(t.Context(), c.Column, ec); err != nil {
			t.Errorf("%s: %v", c.Column, err)
			continue
		}
		want := append(c.Request.Blob.Bytes, c.Request.Ciphertext.Bytes...)
		if c.Provider == "google" { // its column names its own key, which is the provider's to read
			want = []byte(c.Column)
		}
		if !bytes.Equal(r.ciphertext, want) {
			t.Errorf("%s: ciphertext = %q, want %q", c.Column, r.ciphertext, want)
		}
		if aad := c.Request.AAD; aad != nil && !bytes.Equal(r.bound.Bytes(), aad.Bytes) {
			t.Errorf("%s: context = %q, want %q", c.Column, r.bound.Bytes(), aad.Bytes)
		}
		if ec := c.Request.Vault; ec != nil && rubycompat.Encode64(r.bound.Bytes()) != string(ec.Bytes) {
			t.Errorf("%s: context = %q, want %q in base64", c.Column, r.bound.Bytes(), ec.Bytes)
		}
	}
	vectors.Ran(t, "kms_legacy.json", len(file.Cases))
}
