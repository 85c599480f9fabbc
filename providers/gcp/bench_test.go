package gcp_test

import (
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/gcpkms"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
)

// BenchmarkDecrypt: the limit is the official client by itself, without checksums.
func BenchmarkDecrypt(b *testing.B) {
	s := gcpkms.New()
	defer s.Close()
	s.AddKey(keyName)
	client, err := s.Client(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	p, err := gcp.New(client, keyName, gcp.Options{})
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
			_, err := client.Decrypt(b.Context(), &kmspb.DecryptRequest{
				Name: keyName, Ciphertext: ciphertext, AdditionalAuthenticatedData: ec.Bytes(),
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
