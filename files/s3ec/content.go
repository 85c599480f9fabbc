package s3ec

import (
	"crypto/hkdf"
	"crypto/sha512"
	"crypto/subtle"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/gcmstream"
)

const (
	tagSize   = gcmstream.TagSize
	blockSize = 16

	// segmentSize is the number of bytes that are encrypted or decrypted at once, a
	// multiple of the cipher's block.
	segmentSize = 256 << 10
)

// content decrypts an object in segments. First it takes all of them, in order, and
// keeps a proof of each. After finish it opens any of them, if it is the one that was
// taken.
type content interface {
	// take adds the next segment of the ciphertext, and does not change it.
	take(segment []byte) error
	// finish checks the object as a whole: its tag, or the padding in V1. It returns the
	// size in bytes of the plaintext.
	finish(tag []byte) (size int64, ok bool)
	// open decrypts a segment in its place, where there is room for a tag behind it.
	open(segment []byte, index int) (plaintext []byte, ok bool)
	// tagSize is the number of bytes that follow the ciphertext.
	tagSize() int64
}

// v3Suite is the number of the algorithm suite, which is also the AAD of V3.
var v3Suite = []byte{0x00, 0x73}

// message begins the AES-GCM message of an object in format V2 or V3. In V3 the data key
// is an input of HKDF, and message fills in the commitment if e has none.
func (e *envelope) messageUnder(dataKey []byte) (*gcmstream.Message, error) {
	if e.format == V2 {
		return gcmstream.New(dataKey, e.iv, nil)
	}
	extracted, err := hkdf.Extract(sha512.New, dataKey, e.message)
	if err != nil {
		return nil, err
	}
	defer clear(extracted)
	commitment, err := hkdf.Expand(sha512.New, extracted, string(v3Suite)+"COMMITKEY", commitLen)
	if err != nil {
		return nil, err
	}
	if e.commitment == nil {
		e.commitment = commitment
	}
	if subtle.ConstantTimeCompare(commitment, e.commitment) != 1 {
		return nil, errDecrypt
	}
	key, err := hkdf.Expand(sha512.New, extracted, string(v3Suite)+"DERIVEKEY", keySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return gcmstream.New(key, []byte(strings.Repeat("\x01", ivSize)), v3Suite)
}

// newContent returns the content under a data key, whose size is correct.
func (e *envelope) newContent(dataKey []byte) (content, error) {
	if e.format == V1 {
		return newCBC(dataKey, e.iv)
	}
	message, err := e.messageUnder(dataKey)
	if err != nil {
		return nil, err
	}
	return &gcmContent{message: message}, nil
}

type gcmContent struct {
	message *gcmstream.Message
	proofs  [][tagSize]byte
	size    int64
}

func (c *gcmContent) tagSize() int64 { return tagSize }

func (c *gcmContent) take(segment []byte) error {
	if err := c.message.Authenticate(segment); err != nil {
		return errLarge
	}
	c.proofs = append(c.proofs, c.message.Proof())
	c.size += int64(len(segment))
	return nil
}

func (c *gcmContent) finish(tag []byte) (int64, bool) {
	want := c.message.Tag()
	return c.size, subtle.ConstantTimeCompare(tag, want[:]) == 1
}

func (c *gcmContent) open(segment []byte, index int) ([]byte, bool) {
	return segment, c.message.Open(segment, int64(index)*segmentSize, c.proofs[index])
}
