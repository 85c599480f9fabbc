package aws_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
)

// BenchmarkDecrypt: the limit is the SDK's client by itself.
func BenchmarkDecrypt(b *testing.B) {
	s := awskms.New()
	defer s.Close()
	id, client := s.AddKey("k"), s.Client()
	p, err := aws.New(client, id, aws.Options{})
	if err != nil {
		b.Fatal(err)
	}
	ec, err := kmsencrypted.Bind(user)
	if err != nil {
		b.Fatal(err)
	}
	ciphertext, err := p.Encrypt(b.Context(), secret, ec)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("limit", func(b *testing.B) {
		for b.Loop() {
			_, err := client.Decrypt(b.Context(), &kms.DecryptInput{
				KeyId: &id, CiphertextBlob: ciphertext, EncryptionContext: map[string]string{"model_name": "User", "model_id": "123"},
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			if _, err := p.Decrypt(b.Context(), ciphertext, ec); err != nil {
				b.Fatal(err)
			}
		}
	})
}
