package fields

import (
	"context"

	materials "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	materialtypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	esdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	esdktypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// awsEncryptionSDK makes a message of each field, without the signature that its
// default suite adds: nothing here signs.
func awsEncryptionSDK() store {
	ctx := context.Background()
	client := job.OrPanic(esdk.NewClient(esdktypes.AwsEncryptionSdkConfig{}))
	provider := job.OrPanic(materials.NewClient(materialtypes.MaterialProvidersConfig{}))
	keyring := job.OrPanic(provider.CreateRawAesKeyring(ctx, materialtypes.CreateRawAesKeyringInput{
		KeyNamespace: "memory", KeyName: "bench",
		WrappingAlg: materialtypes.AesWrappingAlgAlgAes256GcmIv12Tag16, WrappingKey: limit.Random(32),
	}))
	suite := materialtypes.ESDKAlgorithmSuiteIdAlgAes256GcmHkdfSha512CommitKey
	return eachField(store{
		name: "AWS Encryption SDK", module: "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk", bound: true,
		otherwise: "wraps a key for each field, so five calls to a key service where we make one; commits to each; is generated from Dafny",
	}, func(plaintext, place []byte) ([]byte, error) {
		out, err := client.Encrypt(ctx, esdktypes.EncryptInput{
			Plaintext: plaintext, Keyring: keyring, AlgorithmSuiteId: &suite, EncryptionContext: contextOf(place),
		})
		if err != nil {
			return nil, err
		}
		return out.Ciphertext, nil
	}, func(sealed, place []byte) ([]byte, error) {
		out, err := client.Decrypt(ctx, esdktypes.DecryptInput{Ciphertext: sealed, Keyring: keyring, EncryptionContext: contextOf(place)})
		if err != nil {
			return nil, err
		}
		return out.Plaintext, nil
	})
}

func contextOf(place []byte) map[string]string { return map[string]string{"place": string(place)} }
