package awskms

import (
	"crypto/rand"
	"fmt"
)

// Limits of the service, in bytes.
const (
	maxPlaintext = 4096
	maxBlob      = 6144
	maxDataKey   = 1024
)

const symmetric = "SYMMETRIC_DEFAULT"

var cryptographic = map[string]func(*Server, []byte) (any, error){
	"Encrypt":                         handle(encrypt),
	"Decrypt":                         handle(decrypt),
	"ReEncrypt":                       handle(reEncrypt),
	"GenerateDataKey":                 handle(generateDataKey),
	"GenerateDataKeyWithoutPlaintext": handle(generateDataKeyWithoutPlaintext),
}

type encryptInput struct {
	KeyId               string
	Plaintext           []byte
	EncryptionContext   map[string]string
	EncryptionAlgorithm string
	DryRun              bool
}

type encryptOutput struct {
	CiphertextBlob      []byte
	EncryptionAlgorithm string
	KeyId               string
}

func encrypt(s *Server, in encryptInput) (any, error) {
	if err := checkSize("plaintext", in.Plaintext, maxPlaintext); err != nil {
		return nil, err
	}
	if err := checkAlgorithm(in.EncryptionAlgorithm); err != nil {
		return nil, err
	}
	k, err := s.usable(in.KeyId)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, errDryRun
	}
	return encryptOutput{k.seal(in.Plaintext, in.EncryptionContext), symmetric, k.arn()}, nil
}

type decryptInput struct {
	KeyId               string
	CiphertextBlob      []byte
	EncryptionContext   map[string]string
	EncryptionAlgorithm string
	DryRun              bool
}

type decryptOutput struct {
	EncryptionAlgorithm string
	KeyId               string
	KeyMaterialId       string
	KeyOrigin           string
	Plaintext           []byte
}

func decrypt(s *Server, in decryptInput) (any, error) {
	k, m, plaintext, err := s.open(in)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, errDryRun
	}
	return decryptOutput{symmetric, k.arn(), m.idText(), "AWS_KMS", plaintext}, nil
}

// open is the decrypting half of Decrypt and ReEncrypt. A key id is optional,
// because the blob names its key.
func (s *Server) open(in decryptInput) (*key, *material, []byte, error) {
	if err := checkSize("ciphertextBlob", in.CiphertextBlob, maxBlob); err != nil {
		return nil, nil, nil, err
	}
	if err := checkAlgorithm(in.EncryptionAlgorithm); err != nil {
		return nil, nil, nil, err
	}
	var asked *key
	if in.KeyId != "" {
		var err error
		if asked, err = s.usable(in.KeyId); err != nil {
			return nil, nil, nil, err
		}
	}
	k, m, err := s.owner(in.CiphertextBlob)
	if err != nil {
		return nil, nil, nil, err
	}
	if asked != nil && asked != k {
		return nil, nil, nil, failure("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	if err := k.check(); err != nil {
		return nil, nil, nil, err
	}
	plaintext, err := m.open(in.CiphertextBlob, in.EncryptionContext)
	return k, m, plaintext, err
}

type reEncryptInput struct {
	CiphertextBlob                 []byte
	SourceKeyId                    string
	SourceEncryptionContext        map[string]string
	SourceEncryptionAlgorithm      string
	DestinationKeyId               string
	DestinationEncryptionContext   map[string]string
	DestinationEncryptionAlgorithm string
	DryRun                         bool
}

type reEncryptOutput struct {
	CiphertextBlob                                            []byte
	SourceKeyId, KeyId                                        string
	SourceKeyMaterialId, DestinationKeyMaterialId             string
	SourceEncryptionAlgorithm, DestinationEncryptionAlgorithm string
}

func reEncrypt(s *Server, in reEncryptInput) (any, error) {
	if err := checkAlgorithm(in.DestinationEncryptionAlgorithm); err != nil {
		return nil, err
	}
	source, m, plaintext, err := s.open(decryptInput{
		KeyId:               in.SourceKeyId,
		CiphertextBlob:      in.CiphertextBlob,
		EncryptionContext:   in.SourceEncryptionContext,
		EncryptionAlgorithm: in.SourceEncryptionAlgorithm,
	})
	if err != nil {
		return nil, err
	}
	destination, err := s.usable(in.DestinationKeyId)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, errDryRun
	}
	return reEncryptOutput{
		CiphertextBlob:                 destination.seal(plaintext, in.DestinationEncryptionContext),
		SourceKeyId:                    source.arn(),
		KeyId:                          destination.arn(),
		SourceKeyMaterialId:            m.idText(),
		DestinationKeyMaterialId:       destination.current().idText(),
		SourceEncryptionAlgorithm:      symmetric,
		DestinationEncryptionAlgorithm: symmetric,
	}, nil
}

type dataKeyInput struct {
	KeyId             string
	KeySpec           string
	NumberOfBytes     int
	EncryptionContext map[string]string
	DryRun            bool
}

type dataKeyOutput struct {
	CiphertextBlob []byte
	KeyId          string
	KeyMaterialId  string
	Plaintext      []byte `json:",omitempty"`
}

func generateDataKey(s *Server, in dataKeyInput) (any, error) {
	size, err := in.size()
	if err != nil {
		return nil, err
	}
	k, err := s.usable(in.KeyId)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, errDryRun
	}
	dataKey := make([]byte, size)
	rand.Read(dataKey)
	return dataKeyOutput{k.seal(dataKey, in.EncryptionContext), k.arn(), k.current().idText(), dataKey}, nil
}

func generateDataKeyWithoutPlaintext(s *Server, in dataKeyInput) (any, error) {
	answer, err := generateDataKey(s, in)
	if err != nil {
		return nil, err
	}
	out := answer.(dataKeyOutput)
	out.Plaintext = nil
	return out, nil
}

func (in dataKeyInput) size() (int, error) {
	sizes := map[string]int{"AES_256": 32, "AES_128": 16}
	switch size, known := sizes[in.KeySpec]; {
	case known && in.NumberOfBytes == 0:
		return size, nil
	case in.KeySpec == "" && in.NumberOfBytes > 0 && in.NumberOfBytes <= maxDataKey:
		return in.NumberOfBytes, nil
	case in.KeySpec == "" && in.NumberOfBytes != 0:
		return 0, invalid("numberOfBytes", fmt.Sprintf("Member must have value between 1 and %d", maxDataKey))
	}
	return 0, failure("ValidationException", "Please specify either number of bytes or key spec.")
}

// errDryRun answers a call that would have succeeded.
var errDryRun = failure("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")

func checkSize(field string, value []byte, limit int) error {
	if len(value) < 1 || len(value) > limit {
		return invalid(field, fmt.Sprintf("Member must have length between 1 and %d", limit))
	}
	return nil
}

func checkAlgorithm(name string) error {
	if name != "" && name != symmetric {
		return failure("InvalidKeyUsageException", "Algorithm "+name+" is incompatible with key spec SYMMETRIC_DEFAULT.")
	}
	return nil
}

func invalid(field, constraint string) *apiError {
	return failure("ValidationException", "1 validation error detected: Value at '"+field+"' failed to satisfy constraint: "+constraint)
}
