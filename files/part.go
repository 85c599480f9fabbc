package files

import (
	"bytes"
	"crypto/rand"

	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// PrefixSize is the size in bytes of an object before its first chunk: header, salt
// and commitment.
const PrefixSize = bodyStart

// PartSealer seals the chunks of one object in any order and in any process, for an
// upload in parts that can be resumed. Package files/attach has such uploads.
//
// A chunk that is sealed twice must be the same both times: another plaintext under the
// same nonce reveals both, and lets anybody forge chunks of this object. So a program
// must record a digest of each sealed part before the part leaves the process, and
// must never let out another one. A [Writer] cannot be misused like that.
//
// A PartSealer is safe for concurrent use.
type PartSealer struct {
	body   *body
	prefix [PrefixSize]byte
}

// NewPartSealer begins an object with a random salt and a random file id. The key must
// be new. NewPartSealer returns [kmsencrypted.ErrWiped] for a wiped key.
func NewPartSealer(k Key) (*PartSealer, error) {
	id := NewID()
	var salt [saltSize]byte
	rand.Read(salt[:])
	return partSealer(k, appendHeader(nil, id), salt[:])
}

var errNoPartSealer = configError("the PartSealer was not made by NewPartSealer")

func partSealer(k Key, header, salt []byte) (*PartSealer, error) {
	b, err := newBody(k, salt, header)
	if err != nil {
		return nil, err
	}
	s := &PartSealer{body: b}
	copy(s.prefix[:], header)
	copy(s.prefix[HeaderSize:], salt)
	copy(s.prefix[HeaderSize+saltSize:], b.commitment[:])
	return s, nil
}

// ResumePartSealer continues an object by its prefix and its key. It returns the errors of
// [NewReader] for a prefix that is none, or of another key.
func ResumePartSealer(k Key, prefix []byte) (*PartSealer, error) {
	if _, err := parseHeader(prefix[:min(len(prefix), HeaderSize)]); err != nil {
		return nil, err
	}
	if len(prefix) != PrefixSize {
		return nil, ErrTruncated
	}
	s, err := partSealer(k, prefix[:HeaderSize], prefix[HeaderSize:][:saltSize])
	if err == nil && !bytes.Equal(s.prefix[:], prefix) {
		err = errHeader
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Prefix returns the beginning of the object, [PrefixSize] bytes. It is not secret.
func (s *PartSealer) Prefix() []byte {
	if s == nil {
		return nil
	}
	return bytes.Clone(s.prefix[:])
}

// ID returns the file id.
func (s *PartSealer) ID() ID {
	if s == nil {
		return ID{}
	}
	return ID(s.prefix[idOffset:HeaderSize])
}

// Seal appends the sealed chunks of plaintext to dst, of which the first has the number
// chunk. The last chunk of the object is shorter than [ChunkSize], possibly empty; last says that
// plaintext ends with it. Otherwise plaintext must have whole chunks.
func (s *PartSealer) Seal(dst, plaintext []byte, chunk int64, last bool) ([]byte, error) {
	whole := len(plaintext) - len(plaintext)%ChunkSize
	switch {
	case s == nil || s.body == nil:
		return nil, errNoPartSealer
	case chunk < 0 || !last && whole != len(plaintext):
		return nil, configError("chunk %d, with %d bytes", chunk, len(plaintext))
	}
	dst, err := s.body.sealAll(dst, plaintext[:whole], chunk)
	if err != nil || !last {
		return dst, err
	}
	return s.body.seal(dst, plaintext[whole:], chunk+int64(whole/ChunkSize))
}

// ObjectKey is what seals the chunks of one object (spec/files.md section 3), for a program
// that must not have the file key. Whoever has it can read this object. It prints as
// "[redacted]".
type ObjectKey struct {
	secret.Redacted
	hidden secret.Pointer[objectKey]
}

type objectKey struct {
	prefix [PrefixSize]byte
	key    [aeadKeySize]byte
	nonce  [nonceSize]byte
}

// ObjectKey derives the object key from the file key that the sealer was made with. The
// caller must wipe it. The warning of [PartSealer] applies to it. ObjectKey returns
// [kmsencrypted.ErrDecrypt] for another file key.
func (s *PartSealer) ObjectKey(k Key) (ObjectKey, error) {
	if s == nil || s.body == nil {
		return ObjectKey{}, errNoPartSealer
	}
	if _, err := ResumePartSealer(k, s.prefix[:]); err != nil {
		return ObjectKey{}, err
	}
	o := objectKey{prefix: s.prefix, nonce: s.body.baseNonce}
	defer clear(o.key[:])
	err := k.use(func(key []byte) error {
		okm, err := deriveBody(key, s.prefix[HeaderSize:][:saltSize], s.prefix[:HeaderSize])
		copy(o.key[:], okm)
		clear(okm)
		return err
	})
	if err != nil {
		return ObjectKey{}, err
	}
	return ObjectKey{hidden: secret.Hide(o)}, nil
}

// Raw returns copies of the beginning of the object, of the key of AES-256-GCM and of the
// base nonce. The nonce of chunk k is the base nonce XOR k. The caller must wipe the key with
// clear. Raw returns nil after Wipe.
func (o ObjectKey) Raw() (prefix, key, nonce []byte) {
	h := o.hidden.Get()
	if h == nil || *h == (objectKey{}) {
		return nil, nil, nil
	}
	return bytes.Clone(h.prefix[:]), bytes.Clone(h.key[:]), bytes.Clone(h.nonce[:])
}

// Wipe overwrites the key. It is not safe for use while another goroutine calls Raw.
func (o ObjectKey) Wipe() {
	if h := o.hidden.Get(); h != nil {
		*h = objectKey{}
	}
}
