package keyvault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"
)

// key is a key with its versions, the newest last.
type key struct {
	bits     int // of RSA; 0 means an AES key of 256 bits
	versions []*version
}

type version struct {
	name     string // 32 hex digits
	rsa      *rsa.PrivateKey
	aes      cipher.Block
	disabled bool
	expires  time.Time
}

// AddRSA adds a key of 2048 bits, as vaults have.
func (s *Server) AddRSA(name string) { s.add(name, 2048) }

// AddAES adds a key of 256 bits, as Managed HSMs have.
func (s *Server) AddAES(name string) { s.add(name, 0) }

func (s *Server) add(name string, bits int) {
	s.mu.Lock()
	s.keys[name] = &key{bits: bits}
	s.mu.Unlock()
	s.Rotate(name)
}

// Rotate adds a version to a key, which becomes the current one.
func (s *Server) Rotate(name string) {
	var id [16]byte
	rand.Read(id[:])
	v := &version{name: fmt.Sprintf("%x", id)}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	var err error
	if k.bits != 0 {
		v.rsa, err = rsa.GenerateKey(rand.Reader, k.bits)
	} else {
		var raw [32]byte
		rand.Read(raw[:])
		v.aes, err = aes.NewCipher(raw[:])
	}
	if err != nil {
		panic("keyvault: " + err.Error())
	}
	k.versions = append(k.versions, v)
}

// Disable disables all versions of a key.
func (s *Server) Disable(name string) {
	s.each(name, func(v *version) { v.disabled = true })
}

// Expire sets the date after which a key is not to be used.
func (s *Server) Expire(name string, at time.Time) {
	s.each(name, func(v *version) { v.expires = at })
}

func (s *Server) each(name string, change func(*version)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.keys[name].versions {
		change(v)
	}
}

// version returns a version of a key; an empty name means the newest. The caller
// holds the lock.
func (s *Server) version(name, version string) (*version, error) {
	if k := s.keys[name]; k != nil {
		for i := len(k.versions) - 1; i >= 0; i-- {
			if v := k.versions[i]; version == "" || v.name == version {
				return v, nil
			}
		}
	}
	return nil, refusal{status: http.StatusNotFound, code: "KeyNotFound"}
}

func (v *version) bundle(id string) any {
	kind := "oct-HSM"
	if v.rsa != nil {
		kind = "RSA"
	}
	attributes := map[string]any{"enabled": !v.disabled}
	if !v.expires.IsZero() {
		attributes["exp"] = v.expires.Unix()
	}
	return map[string]any{
		"key": map[string]any{
			"kid": id + "/" + v.name, "kty": kind,
			"key_ops": []string{"encrypt", "decrypt", "wrapKey", "unwrapKey"},
		},
		"attributes": attributes,
	}
}

func (v *version) do(operation string, p parameters) (map[string]any, error) {
	result := func(value []byte, err error) (map[string]any, error) {
		if err != nil {
			return nil, refusal{status: http.StatusBadRequest, code: "BadParameter"}
		}
		return map[string]any{"value": bytes(value)}, nil
	}
	switch {
	case v.rsa != nil && p.Alg == "RSA-OAEP-256" && operation == "wrapkey":
		return result(rsa.EncryptOAEP(sha256.New(), rand.Reader, &v.rsa.PublicKey, p.Value, nil))
	case v.rsa != nil && p.Alg == "RSA-OAEP-256" && operation == "unwrapkey":
		return result(rsa.DecryptOAEP(sha256.New(), nil, v.rsa, p.Value, nil))
	case v.aes != nil && p.Alg == "A256KW" && operation == "wrapkey":
		return result(keyWrap(v.aes, p.Value))
	case v.aes != nil && p.Alg == "A256KW" && operation == "unwrapkey":
		return result(keyUnwrap(v.aes, p.Value))
	case v.aes != nil && p.Alg == "A256GCM" && operation == "encrypt":
		return v.seal(p)
	case v.aes != nil && p.Alg == "A256GCM" && operation == "decrypt":
		return result(v.open(p))
	}
	return nil, refusal{status: http.StatusBadRequest, code: "BadParameter"}
}

func (v *version) seal(p parameters) (map[string]any, error) {
	gcm, err := cipher.NewGCM(v.aes)
	if err != nil || p.IV != nil { // the HSM chooses it
		return nil, refusal{status: http.StatusBadRequest, code: "BadParameter"}
	}
	iv := make([]byte, gcm.NonceSize())
	rand.Read(iv)
	sealed := gcm.Seal(nil, iv, p.Value, p.AAD)
	cut := len(sealed) - gcm.Overhead()
	return map[string]any{"value": bytes(sealed[:cut]), "tag": bytes(sealed[cut:]), "iv": bytes(iv)}, nil
}

func (v *version) open(p parameters) ([]byte, error) {
	gcm, err := cipher.NewGCM(v.aes)
	if err != nil {
		return nil, err
	}
	if len(p.IV) != gcm.NonceSize() {
		return nil, fmt.Errorf("a nonce of %d bytes", len(p.IV))
	}
	return gcm.Open(nil, p.IV, append(append([]byte(nil), p.Value...), p.Tag...), p.AAD)
}
