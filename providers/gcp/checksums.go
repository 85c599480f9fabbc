package gcp

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// errDamaged reports a value that was changed between this program and the
// service, or for which that cannot be excluded.
var errDamaged = errors.New("damaged in transit")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, castagnoli)))
}

// matches returns false if there is no checksum.
func matches(data []byte, sent *wrapperspb.Int64Value) bool {
	return sent != nil && sent.Value == checksum(data).Value
}

func checkEncrypted(request *kmspb.EncryptRequest, answer *kmspb.EncryptResponse) error {
	switch {
	case !strings.HasPrefix(answer.Name, request.Name+"/cryptoKeyVersions/"):
		return fmt.Errorf("%w: another key answered", errDamaged)
	case !answer.VerifiedPlaintextCrc32C:
		return fmt.Errorf("%w: the service did not confirm the plaintext's checksum", errDamaged)
	case request.AdditionalAuthenticatedDataCrc32C != nil && !answer.VerifiedAdditionalAuthenticatedDataCrc32C:
		return fmt.Errorf("%w: the service did not confirm the context's checksum", errDamaged)
	case !matches(answer.Ciphertext, answer.CiphertextCrc32C):
		return fmt.Errorf("%w: the ciphertext has no checksum or another one", errDamaged)
	}
	return nil
}

func checkDecrypted(answer *kmspb.DecryptResponse) error {
	if !matches(answer.Plaintext, answer.PlaintextCrc32C) {
		return fmt.Errorf("%w: the plaintext has no checksum or another one", errDamaged)
	}
	return nil
}
