package vault_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/kmsvectors"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
)

// These tests need no server: a transport answers in its place.

type transport func(path string, body map[string]any) (status int, answer string)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body map[string]any
	if r.Body != nil {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			return nil, err
		}
	}
	status, answer := f(r.URL.Path, body)
	return &http.Response{StatusCode: status, Request: r, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer))}, nil
}

func scripted(t *testing.T, keyID string, options vault.Options, f transport) *vault.Provider {
	t.Helper()
	client, err := api.NewClient(&api.Config{Address: "http://vault.test", HttpClient: &http.Client{Transport: f}})
	must(t, err)
	client.ClearNamespace()
	client.SetToken("hvs.token")
	p, err := vault.New(client, keyID, options)
	must(t, err)
	return p
}

// TestVectors compares requests with Ruby's. To wrap, ours names a type beside
// Ruby's fields, which keeps the server from making a missing key.
func TestVectors(t *testing.T) {
	t.Parallel()
	kmsvectors.Run(t, "vault", func(t *testing.T, keyID string, _ kmsvectors.Sent, answer kmsvectors.Answer) (kmsencrypted.Provider, func() kmsvectors.Sent) {
		var sent kmsvectors.Sent
		p := scripted(t, keyID, vault.Options{}, func(path string, body map[string]any) (int, string) {
			sent = kmsvectors.Sent(body)
			sent["path"] = strings.TrimPrefix(path, "/v1/")
			if strings.Contains(path, "/encrypt/") {
				if sent["type"] == nil {
					t.Error("encrypt does not keep the server from making a key")
				}
				delete(sent, "type")
			}
			switch {
			case answer.Undecryptable:
				return 400, `{"errors":["cipher: message authentication failed"]}`
			case answer.Failure:
				return 429, `{"errors":["throttled"]}`
			case answer.Ciphertext != nil:
				return 200, `{"data":{"ciphertext":"` + string(answer.Ciphertext) + `"}}`
			}
			// Ruby reads base64 leniently.
			return 200, `{"data":{"plaintext":"` + strings.TrimRight(rubycompat.StrictEncode64(answer.Plaintext), "=") + `"}}`
		})
		return p, func() kmsvectors.Sent { return sent }
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, keyID := range []string{"", "vault/", "my-key", "vault/../sys", "vault/a/../b", "vault//a", "vault/a?b", "Vault/a", "vault/a b"} {
		if p, err := vault.New(nil, keyID, vault.Options{}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("New(%q) = %v, %v, want %v", keyID, p, err, kmsencrypted.ErrConfig)
		}
	}
	for _, options := range []vault.Options{{Mount: "../sys"}, {Mount: "a b"}, {Namespace: "a/../b"}} {
		if _, err := vault.New(nil, "vault/k", options); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("New with %+v: error = %v, want %v", options, err, kmsencrypted.ErrConfig)
		}
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	for _, notDerived := range []bool{false, true} {
		want := kmsencrypted.KeyInfo{Provider: "vault", KeyID: "vault/k", Tag: "vault", IgnoresContext: notDerived}
		if got := scripted(t, "vault/k", vault.Options{NotDerived: notDerived}, nil).Info(); got != want {
			t.Errorf("Info() = %+v, want %+v", got, want)
		}
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		keyID   string
		options vault.Options
		want    string
	}{
		{"vault/k", vault.Options{}, "/v1/transit/encrypt/k"},
		{"vault/k", vault.Options{Mount: "/teams/kms/"}, "/v1/teams/kms/encrypt/k"},
		{"vault/k", vault.Options{Namespace: "emea/sales/"}, "/v1/emea/sales/transit/encrypt/k"},
		{"vault/vault/k", vault.Options{Namespace: "n", Mount: "m"}, "/v1/n/m/encrypt/vault/k"},
	} {
		var got string
		p := scripted(t, tt.keyID, tt.options, func(path string, _ map[string]any) (int, string) {
			got = path
			return 200, `{"data":{"ciphertext":"vault:v1:AAAA"}}`
		})
		encrypt(t, p)
		if got != tt.want {
			t.Errorf("path of %s with %+v = %s, want %s", tt.keyID, tt.options, got, tt.want)
		}
	}
}

var sealedText = []byte("vault:v1:AAAA")

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		answer string
		want   error
	}{
		{400, `{"errors":["cipher: message authentication failed"]}`, kmsencrypted.ErrDecrypt},
		{500, `{"errors":["cipher: message authentication failed"]}`, kmsencrypted.ErrDecrypt},
		{400, `{"errors":["unable to decrypt"]}`, kmsencrypted.ErrDecrypt},
		{400, `{"errors":["invalid ciphertext: version is too new"]}`, kmsencrypted.ErrDecrypt},
		{400, `{"errors":["ciphertext or signature version is disallowed by policy (too old)"]}`, kmsencrypted.ErrKeyUnusable},
		{400, `{"errors":["encryption key not found"]}`, kmsencrypted.ErrKeyUnusable},
		{400, `{"errors":["missing 'context' for key derivation; …"]}`, kmsencrypted.ErrContext},
		{403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`, kmsencrypted.ErrDenied},
		{404, `{"errors":["no handler for route \"transit/decrypt/k\""]}`, kmsencrypted.ErrKeyUnusable},
		{412, `{"errors":["required index state not present"]}`, kmsencrypted.ErrUnavailable},
		{413, `<html>too large</html>`, kmsencrypted.ErrTooLarge},
		{429, `{"errors":["request path \"transit/decrypt/k\": rate limit quota exceeded"]}`, kmsencrypted.ErrThrottled},
		{500, `{"errors":["internal error"]}`, kmsencrypted.ErrUnavailable},
		{502, `<html>bad gateway</html>`, kmsencrypted.ErrUnavailable},
		{503, `{"errors":["Vault is sealed"]}`, kmsencrypted.ErrUnavailable},
		{200, `{"data":{}}`, kmsencrypted.ErrUnavailable},
		{200, `{"data":{"plaintext":"MzI`, kmsencrypted.ErrUnavailable},
		{200, `<html>sign in`, kmsencrypted.ErrUnavailable},
		{204, ``, kmsencrypted.ErrUnavailable},
	} {
		p := scripted(t, "vault/k", vault.Options{}, func(string, map[string]any) (int, string) { return tt.status, tt.answer })
		_, err := p.Decrypt(t.Context(), sealedText, bind(t, user))
		if !errors.Is(err, tt.want) {
			t.Errorf("%d %s: error = %v, want %v", tt.status, tt.answer, err, tt.want)
		}
		if refused, ok := errors.AsType[*api.ResponseError](err); tt.status >= 400 && (!ok || refused.StatusCode != tt.status) {
			t.Errorf("%d: the client's error is not behind %v", tt.status, err)
		}
		if text := err.Error(); strings.Contains(text, "hvs.token") || strings.Contains(text, "\n") {
			t.Errorf("%d: the error holds the token or is of several lines: %s", tt.status, text)
		}
	}
	p := scripted(t, "vault/k", vault.Options{}, func(string, map[string]any) (int, string) { return 400, `{"errors":["something new"]}` })
	_, err := p.Decrypt(t.Context(), sealedText, bind(t, user))
	if err == nil || errors.Is(err, kmsencrypted.ErrDecrypt) || kmsencrypted.Retryable(err) || kmsencrypted.ConcernsAll(err) {
		t.Errorf("error = %v, want one without a sentinel", err)
	}
}

// TestWellFormed: what cannot be a ciphertext, or is one in another spelling, is
// not sent.
func TestWellFormed(t *testing.T) {
	t.Parallel()
	p := scripted(t, "vault/k", vault.Options{}, func(_ string, body map[string]any) (int, string) {
		t.Errorf("sent %v", body)
		return 500, ""
	})
	for _, ciphertext := range []string{
		"", "vault:v1:", "vault:v0:AAAA", "vault:v01:AAAA", "vault:v-1:AAAA", "vault:1:AAAA", "Vault:v1:AAAA", "vault:v1:AAAA\n",
		"vault:v1:AA\nAA", "vault:v1:AAA", "vault:v1:AAB=", "vault:v1:AAAA=", "vault:v1:AA-_", "vault:v1:AAAA:AAAA", " vault:v1:AAAA",
	} {
		_, err := p.Decrypt(t.Context(), []byte(ciphertext), bind(t, user))
		if !errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("Decrypt(%q): error = %v, want %v", ciphertext, err, kmsencrypted.ErrDecrypt)
		}
	}
}

// TestBatchOfOlderServer: a server that knows no partial_failure_response_code
// refuses the batch, and the client drops what it says about the items.
func TestBatchOfOlderServer(t *testing.T) {
	t.Parallel()
	requests := 0
	p := scripted(t, "vault/k", vault.Options{}, func(_ string, body map[string]any) (int, string) {
		requests++
		switch {
		case body["batch_input"] != nil:
			return 400, `{"data":{"batch_results":[{"plaintext":"YQ=="},{"error":"cipher: message authentication failed"}]}}`
		case body["ciphertext"] == "vault:v1:AAAA":
			return 200, `{"data":{"plaintext":"YQ=="}}`
		}
		return 400, `{"errors":["cipher: message authentication failed"]}`
	})
	ec := bind(t, user)
	results, err := p.DecryptBatch(t.Context(), []kmsencrypted.Wrapped{
		{Ciphertext: []byte("vault:v1:AAAA"), Context: ec}, {Ciphertext: []byte("vault:v1:BBBB"), Context: ec},
	})
	must(t, err)
	if string(results[0].Bytes) != "a" || results[0].Err != nil || requests != 3 {
		t.Errorf("first item = %q, %v after %d requests, want %q after 3", results[0].Bytes, results[0].Err, requests, "a")
	}
	fails(t, results[1].Err, kmsencrypted.ErrDecrypt)
}

// TestBatchWithTooFewAnswers must not shift answers between records.
func TestBatchWithTooFewAnswers(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{`{"data":{"batch_results":[{"plaintext":"YQ=="}]}}`, `{"data":{}}`, `{"data":{"batch_results":[1,{}]}}`} {
		p := scripted(t, "vault/k", vault.Options{}, func(string, map[string]any) (int, string) { return 200, answer })
		item := kmsencrypted.Wrapped{Ciphertext: sealedText, Context: bind(t, user)}
		results, err := p.DecryptBatch(t.Context(), []kmsencrypted.Wrapped{item, item})
		if err == nil {
			err = errors.Join(results[0].Err, results[1].Err)
		}
		fails(t, err, kmsencrypted.ErrUnavailable)
	}
}
