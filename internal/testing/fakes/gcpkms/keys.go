package gcpkms

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// key is a symmetric key of software protection.
type key struct {
	name     string
	versions []*version // numbered from 1
	primary  *version
}

type version struct {
	name  string
	id    [37]byte // begins every ciphertext of this version
	state kmspb.CryptoKeyVersion_CryptoKeyVersionState
	made  time.Time
	aead  cipher.AEAD
}

const versionsPart = "/cryptoKeyVersions/"

// AddKey creates a key with one enabled primary version.
func (s *Server) AddKey(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addKey(name)
}

func (s *Server) addKey(name string) *key {
	k := &key{name: name}
	k.primary = k.addVersion()
	s.keys[name] = k
	return k
}

func (k *key) addVersion() *version {
	v := &version{
		name:  k.name + versionsPart + strconv.Itoa(len(k.versions)+1),
		state: kmspb.CryptoKeyVersion_ENABLED,
		made:  time.Now(),
	}
	rand.Read(v.id[:])
	secret := make([]byte, 32)
	rand.Read(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic("gcpkms: " + err.Error())
	}
	if v.aead, err = cipher.NewGCM(block); err != nil {
		panic("gcpkms: " + err.Error())
	}
	k.versions = append(k.versions, v)
	return v
}

func (s *Server) findKey(name string) (*key, error) {
	k, ok := s.keys[name]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "CryptoKey %s not found.", name)
	}
	return k, nil
}

func (s *Server) findVersion(name string) (*key, *version, error) {
	keyName, _, isVersion := strings.Cut(name, versionsPart)
	if !isVersion {
		return nil, nil, status.Errorf(codes.InvalidArgument, "%s does not name a CryptoKeyVersion.", name)
	}
	k, err := s.findKey(keyName)
	if err != nil {
		return nil, nil, err
	}
	for _, v := range k.versions {
		if v.name == name {
			return k, v, nil
		}
	}
	return nil, nil, status.Errorf(codes.NotFound, "CryptoKeyVersion %s not found.", name)
}

func (v *version) check() error {
	if v.state != kmspb.CryptoKeyVersion_ENABLED {
		return status.Errorf(codes.FailedPrecondition, "%s is not enabled, current state is: %s.", v.name, v.state)
	}
	return nil
}

func (v *version) proto() *kmspb.CryptoKeyVersion {
	return &kmspb.CryptoKeyVersion{
		Name:            v.name,
		State:           v.state,
		ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE,
		Algorithm:       kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION,
		CreateTime:      timestamppb.New(v.made),
	}
}

func (k *key) proto() *kmspb.CryptoKey {
	return &kmspb.CryptoKey{
		Name:       k.name,
		Primary:    k.primary.proto(),
		Purpose:    kmspb.CryptoKey_ENCRYPT_DECRYPT,
		CreateTime: timestamppb.New(k.versions[0].made),
	}
}

// CreateCryptoKey implements the service. Key rings need not exist.
func (s *Server) CreateCryptoKey(_ context.Context, r *kmspb.CreateCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := r.Parent + "/cryptoKeys/" + r.CryptoKeyId
	if s.keys[name] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "CryptoKey %s already exists.", name)
	}
	if r.CryptoKey.GetPurpose() != kmspb.CryptoKey_ENCRYPT_DECRYPT {
		return nil, status.Error(codes.Unimplemented, "only keys for symmetric encryption")
	}
	return s.addKey(name).proto(), nil
}

// GetCryptoKey implements the service.
func (s *Server) GetCryptoKey(_ context.Context, r *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.findKey(r.Name)
	if err != nil {
		return nil, err
	}
	return k.proto(), nil
}

// CreateCryptoKeyVersion implements the service. The new version is not the primary one.
func (s *Server) CreateCryptoKeyVersion(_ context.Context, r *kmspb.CreateCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.findKey(r.Parent)
	if err != nil {
		return nil, err
	}
	return k.addVersion().proto(), nil
}

// UpdateCryptoKeyPrimaryVersion implements the service.
func (s *Server) UpdateCryptoKeyPrimaryVersion(_ context.Context, r *kmspb.UpdateCryptoKeyPrimaryVersionRequest) (*kmspb.CryptoKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, v, err := s.findVersion(r.Name + versionsPart + r.CryptoKeyVersionId)
	if err != nil {
		return nil, err
	}
	k.primary = v
	return k.proto(), nil
}

// transitions lists the state changes of a version that a caller may request, by method.
var transitions = map[string]map[[2]kmspb.CryptoKeyVersion_CryptoKeyVersionState]bool{
	"update": {
		{kmspb.CryptoKeyVersion_ENABLED, kmspb.CryptoKeyVersion_DISABLED}: true,
		{kmspb.CryptoKeyVersion_DISABLED, kmspb.CryptoKeyVersion_ENABLED}: true,
	},
	"destroy": {
		{kmspb.CryptoKeyVersion_ENABLED, kmspb.CryptoKeyVersion_DESTROY_SCHEDULED}:  true,
		{kmspb.CryptoKeyVersion_DISABLED, kmspb.CryptoKeyVersion_DESTROY_SCHEDULED}: true,
	},
	"restore": {
		{kmspb.CryptoKeyVersion_DESTROY_SCHEDULED, kmspb.CryptoKeyVersion_DISABLED}: true,
	},
}

func (s *Server) move(by, name string, to kmspb.CryptoKeyVersion_CryptoKeyVersionState) (*kmspb.CryptoKeyVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, v, err := s.findVersion(name)
	if err != nil {
		return nil, err
	}
	if !transitions[by][[2]kmspb.CryptoKeyVersion_CryptoKeyVersionState{v.state, to}] {
		return nil, status.Errorf(codes.FailedPrecondition, "%s cannot go from %s to %s.", v.name, v.state, to)
	}
	v.state = to
	return v.proto(), nil
}

// UpdateCryptoKeyVersion implements the service. It enables and disables.
func (s *Server) UpdateCryptoKeyVersion(_ context.Context, r *kmspb.UpdateCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	return s.move("update", r.CryptoKeyVersion.GetName(), r.CryptoKeyVersion.GetState())
}

// DestroyCryptoKeyVersion implements the service. The version is scheduled for
// destruction and can be restored.
func (s *Server) DestroyCryptoKeyVersion(_ context.Context, r *kmspb.DestroyCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	return s.move("destroy", r.Name, kmspb.CryptoKeyVersion_DESTROY_SCHEDULED)
}

// RestoreCryptoKeyVersion implements the service.
func (s *Server) RestoreCryptoKeyVersion(_ context.Context, r *kmspb.RestoreCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	return s.move("restore", r.Name, kmspb.CryptoKeyVersion_DISABLED)
}

// Shred ends the waiting period of a version that is scheduled for destruction.
func (s *Server) Shred(version string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, v, err := s.findVersion(version)
	if err != nil {
		return err
	}
	if v.state != kmspb.CryptoKeyVersion_DESTROY_SCHEDULED {
		return fmt.Errorf("gcpkms: %s is %s", v.name, v.state)
	}
	v.state = kmspb.CryptoKeyVersion_DESTROYED
	return nil
}
