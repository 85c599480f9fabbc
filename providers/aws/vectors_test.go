package aws_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/kmsvectors"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

// TestVectors compares requests with Ruby's. AnyKey leaves the key of a
// decryption open, as Ruby does.
func TestVectors(t *testing.T) {
	t.Parallel()
	kmsvectors.Run(t, "aws", func(t *testing.T, keyID string, _ kmsvectors.Sent, answer kmsvectors.Answer) (kmsencrypted.Provider, func() kmsvectors.Sent) {
		var sent kmsvectors.Sent
		client := kms.New(kms.Options{
			Region:           regionOf(keyID),
			Credentials:      credentials.NewStaticCredentialsProvider("id", "secret", ""),
			RetryMaxAttempts: 1,
			HTTPClient: transport(func(r *http.Request) (*http.Response, error) {
				sent = sentToAWS(t, r)
				return awsAnswer(t, answer), nil
			}),
		})
		p, err := aws.New(client, keyID, aws.Options{AnyKey: true})
		must(t, err)
		return p, func() kmsvectors.Sent { return sent }
	})
}

func regionOf(keyID string) string {
	if parsed, err := arn.Parse(keyID); err == nil {
		return parsed.Region
	}
	return "us-east-1"
}

func sentToAWS(t *testing.T, r *http.Request) kmsvectors.Sent {
	t.Helper()
	var body struct {
		KeyId                     *string
		Plaintext, CiphertextBlob []byte
		EncryptionContext         map[string]string
		DryRun, GrantTokens       any
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	must(t, decoder.Decode(&body))
	sent := kmsvectors.Sent{}
	if body.KeyId != nil {
		sent["key_id"] = *body.KeyId
	}
	if body.Plaintext != nil {
		sent["plaintext"] = string(body.Plaintext)
	}
	if body.CiphertextBlob != nil {
		sent["ciphertext_blob"] = string(body.CiphertextBlob)
	}
	if body.EncryptionContext != nil {
		sent["encryption_context"] = body.EncryptionContext
	}
	if body.DryRun != nil || body.GrantTokens != nil {
		t.Errorf("request has DryRun %v, GrantTokens %v", body.DryRun, body.GrantTokens)
	}
	return sent
}

func awsAnswer(t *testing.T, answer kmsvectors.Answer) *http.Response {
	t.Helper()
	status, body := http.StatusOK, map[string]any{"KeyId": "arn:aws:kms:us-east-1:123456789012:key/abc"}
	switch {
	case answer.Undecryptable:
		status, body = http.StatusBadRequest, map[string]any{"__type": "InvalidCiphertextException"}
	case answer.Failure:
		status, body = http.StatusBadRequest, map[string]any{"__type": "ThrottlingException"}
	case answer.Ciphertext != nil:
		body["CiphertextBlob"] = answer.Ciphertext
	default:
		body["Plaintext"] = answer.Plaintext
	}
	text, err := json.Marshal(body)
	must(t, err)
	return &http.Response{
		StatusCode: status,
		Header:     http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
		Body:       io.NopCloser(strings.NewReader(string(text))),
	}
}
