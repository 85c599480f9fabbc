package gcp_test

import (
	"context"
	"hash/crc32"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/kmsvectors"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
)

// TestVectors compares requests with Ruby's; the checksums are ours.
func TestVectors(t *testing.T) {
	t.Parallel()
	kmsvectors.Run(t, "google", func(t *testing.T, keyID string, want kmsvectors.Sent, answer kmsvectors.Answer) (kmsencrypted.Provider, func() kmsvectors.Sent) {
		client := &scripted{answer: answer}
		if !strings.HasPrefix(keyID, "projects/") { // a column that names its own key needs none
			keyID = keyName
		}
		var legacy []string
		if name, ok := want["name"].(string); ok {
			legacy = append(legacy, name)
		}
		p, err := gcp.New(client, keyID, gcp.Options{LegacyKeys: legacy})
		must(t, err)
		return p, func() kmsvectors.Sent { return client.sent }
	})
}

// scripted is a client that gives one answer.
type scripted struct {
	gcp.Client
	answer kmsvectors.Answer
	sent   kmsvectors.Sent
}

func (c *scripted) record(name, field string, value, additional []byte) error {
	c.sent = kmsvectors.Sent{"name": name, field: string(value)}
	if additional != nil {
		c.sent["additional_authenticated_data"] = string(additional)
	}
	switch {
	case c.answer.Undecryptable:
		return status.Error(codes.InvalidArgument, "Decryption failed.")
	case c.answer.Failure:
		return status.Error(codes.PermissionDenied, "no")
	}
	return nil
}

func crc(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))))
}

func (c *scripted) Encrypt(_ context.Context, r *kmspb.EncryptRequest, _ ...gax.CallOption) (*kmspb.EncryptResponse, error) {
	if err := c.record(r.Name, "plaintext", r.Plaintext, r.AdditionalAuthenticatedData); err != nil {
		return nil, err
	}
	return &kmspb.EncryptResponse{
		Name:                    r.Name + "/cryptoKeyVersions/1",
		Ciphertext:              c.answer.Ciphertext,
		CiphertextCrc32C:        crc(c.answer.Ciphertext),
		VerifiedPlaintextCrc32C: true,
		VerifiedAdditionalAuthenticatedDataCrc32C: true,
	}, nil
}

func (c *scripted) Decrypt(_ context.Context, r *kmspb.DecryptRequest, _ ...gax.CallOption) (*kmspb.DecryptResponse, error) {
	if err := c.record(r.Name, "ciphertext", r.Ciphertext, r.AdditionalAuthenticatedData); err != nil {
		return nil, err
	}
	return &kmspb.DecryptResponse{Plaintext: c.answer.Plaintext, PlaintextCrc32C: crc(c.answer.Plaintext)}, nil
}
