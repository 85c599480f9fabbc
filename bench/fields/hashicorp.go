package fields

import (
	"context"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/v2/aead"
	"google.golang.org/protobuf/proto"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// hashicorp seals each field in an envelope, as the wrappers of its cloud services
// do, with its wrapper of a key in memory in the place of the service.
func hashicorp() store {
	kek := aead.NewWrapper()
	job.Must(kek.SetAesGcmKeyBytes(limit.Random(32)))
	ctx := context.Background()
	return eachField(store{
		name: "HashiCorp go-kms-wrapping", module: "github.com/hashicorp/go-kms-wrapping/v2", bound: true,
		otherwise: "wraps a key for each field, so five calls to a key service where we make one; no commitment",
	}, func(plaintext, place []byte) ([]byte, error) {
		envelope, err := wrapping.EnvelopeEncrypt(plaintext, wrapping.WithAad(place))
		if err != nil {
			return nil, err
		}
		key, err := kek.Encrypt(ctx, envelope.Key)
		if err != nil {
			return nil, err
		}
		return proto.Marshal(&wrapping.BlobInfo{
			Ciphertext: envelope.Ciphertext, Iv: envelope.Iv,
			KeyInfo: &wrapping.KeyInfo{WrappedKey: key.Ciphertext},
		})
	}, func(sealed, place []byte) ([]byte, error) {
		var blob wrapping.BlobInfo
		if err := proto.Unmarshal(sealed, &blob); err != nil {
			return nil, err
		}
		key, err := kek.Decrypt(ctx, &wrapping.BlobInfo{Ciphertext: blob.KeyInfo.WrappedKey})
		if err != nil {
			return nil, err
		}
		return wrapping.EnvelopeDecrypt(&wrapping.EnvelopeInfo{Ciphertext: blob.Ciphertext, Key: key, Iv: blob.Iv}, wrapping.WithAad(place))
	})
}
