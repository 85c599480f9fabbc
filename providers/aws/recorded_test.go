package aws_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/recordings"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

// exchange is a call of a session that was recorded against the real service.
type exchange struct {
	Request struct {
		Header    http.Header
		BodyParts [][]byte
	}
	Response struct {
		StatusCode int
		Header     http.Header
		Body       []byte
	}
}

// TestRecordedSessions replays what the real service answered: the provider
// sends the same requests and understands the answers.
func TestRecordedSessions(t *testing.T) {
	t.Parallel()
	calls := 0
	for name, data := range recordings.Sessions(t, "awskms") {
		var session struct{ Entries []exchange }
		must(t, json.Unmarshal(data, &session))
		t.Run(name, func(t *testing.T) {
			for _, e := range session.Entries {
				if e.op() != "TrentService.ListAliases" { // its recorder's, not a provider's
					e.replay(t)
					calls++
				}
			}
		})
	}
	if calls < 10 {
		t.Errorf("replayed %d calls, want at least 10", calls)
	}
}

func (e exchange) op() string { return e.Request.Header.Get("X-Amz-Target") }

func (e exchange) replay(t *testing.T) {
	var request struct {
		KeyId                     string
		Plaintext, CiphertextBlob []byte
	}
	var answer struct{ Plaintext, CiphertextBlob []byte }
	must(t, json.Unmarshal(bytes.Join(e.Request.BodyParts, nil), &request))
	must(t, json.Unmarshal(e.Response.Body, &answer))
	client := kms.New(kms.Options{
		Region:           "us-east-2",
		Credentials:      credentials.NewStaticCredentialsProvider("id", "secret", ""),
		RetryMaxAttempts: 1,
		HTTPClient:       transport(func(r *http.Request) (*http.Response, error) { return e.answer(t, r), nil }),
	})
	if request.KeyId == "" {
		request.KeyId = "alias/test-secrets"
	}
	p, err := aws.New(client, request.KeyId, aws.Options{AnyKey: true})
	must(t, err)

	switch e.op() {
	case "TrentService.Encrypt":
		ciphertext, err := p.Encrypt(t.Context(), request.Plaintext, kmsencrypted.BoundContext{})
		if err != nil || !bytes.Equal(ciphertext, answer.CiphertextBlob) {
			t.Errorf("Encrypt = %x, %v, want %x", ciphertext, err, answer.CiphertextBlob)
		}
	case "TrentService.Decrypt":
		plaintext, err := p.Decrypt(t.Context(), request.CiphertextBlob, kmsencrypted.BoundContext{})
		refused := e.Response.StatusCode != http.StatusOK
		if refused != errors.Is(err, kmsencrypted.ErrDecrypt) || !bytes.Equal(plaintext, answer.Plaintext) {
			t.Errorf("Decrypt = %q, %v, want %q (status %d)", plaintext, err, answer.Plaintext, e.Response.StatusCode)
		}
	default:
		t.Errorf("unknown operation %s", e.op())
	}
}

func (e exchange) answer(t *testing.T, r *http.Request) *http.Response {
	t.Helper()
	var got, want any
	must(t, json.NewDecoder(r.Body).Decode(&got))
	must(t, json.Unmarshal(bytes.Join(e.Request.BodyParts, nil), &want))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	if op := r.Header.Get("X-Amz-Target"); op != e.op() {
		t.Errorf("sent to %s, want %s", op, e.op())
	}
	return &http.Response{
		StatusCode: e.Response.StatusCode,
		Header:     e.Response.Header,
		Body:       io.NopCloser(bytes.NewReader(e.Response.Body)),
	}
}
