package gcpkms

import (
	"context"
	"crypto/rand"
	"hash/crc32"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// maxSize is the limit of the service in bytes, for plaintext and for additional
// data.
const maxSize = 64 << 10

// The ciphertext of the fake:
//
//	0a 25 || version 37 || nonce 12 || ciphertext || tag 16
const ciphertextPrefix = "\x0a\x25"

var (
	errOpen    = status.Error(codes.InvalidArgument, "Decryption failed.")
	errInvalid = status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	errKey     = status.Error(codes.InvalidArgument, "Decryption failed: verify that 'name' refers to the correct CryptoKey.")
)

// Encrypt implements the service, with the primary version of a key or the named
// version.
func (s *Server) Encrypt(_ context.Context, r *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(r.Plaintext) > maxSize || len(r.AdditionalAuthenticatedData) > maxSize {
		return nil, status.Error(codes.InvalidArgument, "plaintext and additional data must not exceed 64 KiB.")
	}
	v, err := s.encryptingVersion(r.Name)
	if err != nil {
		return nil, err
	}
	if err := v.check(); err != nil {
		return nil, err
	}
	verifiedPlaintext, err := verify("plaintext", r.Plaintext, r.PlaintextCrc32C)
	if err != nil {
		return nil, err
	}
	verifiedData, err := verify("additional_authenticated_data", r.AdditionalAuthenticatedData, r.AdditionalAuthenticatedDataCrc32C)
	if err != nil {
		return nil, err
	}
	ciphertext := v.seal(r.Plaintext, r.AdditionalAuthenticatedData)
	return &kmspb.EncryptResponse{
		Name:                    v.name,
		Ciphertext:              ciphertext,
		CiphertextCrc32C:        checksum(ciphertext),
		VerifiedPlaintextCrc32C: verifiedPlaintext,
		VerifiedAdditionalAuthenticatedDataCrc32C: verifiedData,
		ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE,
	}, nil
}

func (s *Server) encryptingVersion(name string) (*version, error) {
	if strings.Contains(name, versionsPart) {
		_, v, err := s.findVersion(name)
		return v, err
	}
	k, err := s.findKey(name)
	if err != nil {
		return nil, err
	}
	return k.primary, nil
}

// Decrypt implements the service. The ciphertext determines the version of the key.
func (s *Server) Decrypt(_ context.Context, r *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(r.Name, versionsPart) {
		return nil, status.Errorf(codes.InvalidArgument, "%s does not name a CryptoKey.", r.Name)
	}
	k, err := s.findKey(r.Name)
	if err != nil {
		return nil, err
	}
	if _, err := verify("ciphertext", r.Ciphertext, r.CiphertextCrc32C); err != nil {
		return nil, err
	}
	if _, err := verify("additional_authenticated_data", r.AdditionalAuthenticatedData, r.AdditionalAuthenticatedDataCrc32C); err != nil {
		return nil, err
	}
	v, err := k.versionOf(r.Ciphertext)
	if err != nil {
		return nil, err
	}
	if err := v.check(); err != nil {
		return nil, err
	}
	plaintext, err := v.open(r.Ciphertext, r.AdditionalAuthenticatedData)
	if err != nil {
		return nil, err
	}
	return &kmspb.DecryptResponse{
		Plaintext:       plaintext,
		PlaintextCrc32C: checksum(plaintext),
		UsedPrimary:     v == k.primary,
		ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE,
	}, nil
}

func (v *version) header() []byte { return append([]byte(ciphertextPrefix), v.id[:]...) }

func (v *version) seal(plaintext, additional []byte) []byte {
	header := v.header()
	nonce := make([]byte, v.aead.NonceSize())
	rand.Read(nonce)
	return v.aead.Seal(append(header, nonce...), nonce, plaintext, additional)
}

func (k *key) versionOf(ciphertext []byte) (*version, error) {
	if !strings.HasPrefix(string(ciphertext), ciphertextPrefix) {
		return nil, errInvalid
	}
	for _, v := range k.versions {
		if strings.HasPrefix(string(ciphertext), string(v.header())) {
			return v, nil
		}
	}
	return nil, errKey
}

func (v *version) open(ciphertext, additional []byte) ([]byte, error) {
	sealed := ciphertext[len(v.header()):]
	if len(sealed) < v.aead.NonceSize()+v.aead.Overhead() {
		return nil, errInvalid
	}
	nonce, sealed := sealed[:v.aead.NonceSize()], sealed[v.aead.NonceSize():]
	plaintext, err := v.aead.Open(nil, nonce, sealed, additional)
	if err != nil {
		return nil, errOpen
	}
	return plaintext, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, castagnoli)))
}

// verify reports whether a checksum was sent; a wrong one is an error.
func verify(field string, data []byte, sent *wrapperspb.Int64Value) (bool, error) {
	if sent == nil {
		return false, nil
	}
	if sent.Value != checksum(data).Value {
		return false, status.Errorf(codes.InvalidArgument, "The checksum in field %s_crc32c did not match the data in field %s.", field, field)
	}
	return true, nil
}
