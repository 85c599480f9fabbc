package awskms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/canon"
)

type keyState string

const (
	enabled                keyState = "Enabled"
	disabled               keyState = "Disabled"
	pendingDeletion        keyState = "PendingDeletion"
	pendingReplicaDeletion keyState = "PendingReplicaDeletion"
)

// key is a symmetric key in one region.
type key struct {
	id, region, description string
	state                   keyState
	created                 time.Time
	deletion                time.Time // when state is pendingDeletion
	*lineage
}

// lineage is what a multi-region key shares with its replicas: the key material, so that
// each can decrypt what another encrypted. The last material encrypts, all of them
// decrypt.
type lineage struct {
	materials []*material
	related   []*key // the primary and its replicas; none for a key of one region
}

// material is one version of the key material.
type material struct {
	id      [32]byte
	made    time.Time
	rotated bool // false for the material that the key was made with
	aead    cipher.AEAD
}

func newMaterial(rotated bool) *material {
	m := &material{made: time.Now(), rotated: rotated}
	rand.Read(m.id[:])
	secret := make([]byte, 32)
	rand.Read(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic("awskms: " + err.Error())
	}
	if m.aead, err = cipher.NewGCM(block); err != nil {
		panic("awskms: " + err.Error())
	}
	return m
}

func (k *key) arn() string         { return arn(k.region, "key/"+k.id) }
func (k *key) deleting() bool      { return k.state == pendingDeletion || k.state == pendingReplicaDeletion }
func (k *key) current() *material  { return k.materials[len(k.materials)-1] }
func (m *material) idText() string { return hex.EncodeToString(m.id[:]) }
func seconds(t time.Time) float64  { return float64(t.UnixMilli()) / 1000 }

func arn(region, resource string) string {
	return "arn:aws:kms:" + region + ":" + Account + ":" + resource
}
func (s *Server) arn(resource string) string { return arn(s.region, resource) }

func keyNotFound(id string) *apiError {
	return failure("NotFoundException", "Key '"+id+"' does not exist")
}

// AddKey creates a key with the given key id and aliases ("alias/…") and returns its ARN.
// CreateKey, called through a client, chooses the id itself.
func (s *Server) AddKey(id string, aliases ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.addKey(id, "", &lineage{materials: []*material{newMaterial(false)}})
	for _, alias := range aliases {
		s.aliases[alias] = id
	}
	return k.arn()
}

func (s *Server) addKey(id, description string, of *lineage) *key {
	k := &key{id: id, region: s.region, description: description, state: enabled, created: time.Now(), lineage: of}
	s.keys[id] = k
	return k
}

func newKeyID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// find resolves a key id, key ARN, alias name or alias ARN.
func (s *Server) find(id string) (*key, error) {
	resource := strings.TrimPrefix(id, s.arn(""))
	switch {
	case id == "":
		return nil, invalid("keyId", "must not be null")
	case strings.HasPrefix(resource, "arn:"):
		return nil, failure("NotFoundException", "Invalid arn "+id) // another region or account
	case strings.HasPrefix(resource, "alias/"):
		target, ok := s.aliases[resource]
		if !ok {
			return nil, failure("NotFoundException", "Alias "+s.arn(resource)+" is not found.")
		}
		return s.keys[target], nil
	}
	k, ok := s.keys[strings.TrimPrefix(resource, "key/")]
	if !ok {
		return nil, keyNotFound(s.arn("key/" + strings.TrimPrefix(resource, "key/")))
	}
	return k, nil
}

// usable finds a key for a cryptographic operation.
func (s *Server) usable(id string) (*key, error) {
	k, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return k, k.check()
}

func (k *key) check() error {
	switch k.state {
	case disabled:
		return failure("DisabledException", k.arn()+" is disabled.")
	case pendingDeletion, pendingReplicaDeletion:
		return failure("KMSInvalidStateException", k.arn()+" is pending deletion.")
	}
	return nil
}

// The ciphertext blob:
//
//	01 02 02 00 78 || material id 32 || 01 || filler 86 || nonce 12 || ciphertext || tag 16
//
// The first 37 bytes are as in recorded blobs. What the service puts between them and the
// ciphertext is unknown; the filler has the same length.
const (
	blobPrefix = "\x01\x02\x02\x00\x78"
	filler     = 86
	headerSize = len(blobPrefix) + 32 + 1 + filler
)

func (k *key) seal(plaintext []byte, context map[string]string) []byte {
	m := k.current()
	blob := append([]byte(blobPrefix), m.id[:]...)
	blob = append(blob, 1)
	blob = append(blob, make([]byte, filler)...)
	nonce := make([]byte, m.aead.NonceSize())
	rand.Read(nonce)
	additional := canonical(blob, context)
	return m.aead.Seal(append(blob, nonce...), nonce, plaintext, additional)
}

// errCiphertext has no message: the service sends none.
var errCiphertext = failure("InvalidCiphertextException", "")

// owner finds the key of this region that opens a blob: the one that made it, or one
// related to that.
func (s *Server) owner(blob []byte) (*key, *material, error) {
	if len(blob) >= headerSize && strings.HasPrefix(string(blob), blobPrefix) {
		id := [32]byte(blob[len(blobPrefix):])
		for _, k := range s.keys {
			for _, m := range k.materials {
				if m.id == id {
					return k, m, nil
				}
			}
		}
	}
	return nil, nil, errCiphertext
}

func (m *material) open(blob []byte, context map[string]string) ([]byte, error) {
	header, sealed := blob[:headerSize], blob[headerSize:]
	if len(sealed) < m.aead.NonceSize() {
		return nil, errCiphertext
	}
	nonce, ciphertext := sealed[:m.aead.NonceSize()], sealed[m.aead.NonceSize():]
	plaintext, err := m.aead.Open(nil, nonce, ciphertext, canonical(header, context))
	if err != nil {
		return nil, errCiphertext
	}
	return plaintext, nil
}

// canonical returns the additional data. The service treats the context as a map, and an
// empty one as none.
func canonical(header []byte, context map[string]string) []byte {
	data := canon.AppendBytes(nil, header)
	for _, name := range slices.Sorted(maps.Keys(context)) {
		data = canon.AppendString(canon.AppendString(data, name), context[name])
	}
	return data
}
