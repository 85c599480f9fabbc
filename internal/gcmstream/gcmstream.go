// Package gcmstream makes and reads AES-GCM messages of any size in constant
// memory, with the standard library's assembly and without a GHASH of its own.
//
// The ciphertext is AES in counter mode, [cipher.NewCTR]. GHASH is a polynomial
// in the hash key H, so parts of it can be computed apart and put together by
// multiplications in the field; and the standard library computes it over any
// bytes as the tag of a message that has them as associated data and no
// plaintext (GMAC). Per segment that costs one such tag and one multiplication.
//
// Whoever uses it takes care of what [cipher.AEAD] cannot let go wrong: nonces
// must be fresh, and nothing that [Message.Decrypt] returns may be used before
// the tag was checked.
package gcmstream

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
)

const (
	// NonceSize and TagSize are the sizes in bytes of what surrounds a ciphertext.
	NonceSize = 12
	TagSize   = 16

	// MaxSize is the size in bytes of the longest plaintext: the counter of GCM
	// has 32 bits, two values of which are not for the plaintext (NIST SP 800-38D
	// section 5.2.1.1).
	MaxSize = (1<<32 - 2) * blockSize

	blockSize = aes.BlockSize
)

// ErrTooLarge: more than [MaxSize] bytes.
var ErrTooLarge = errors.New("more than GCM's 2^36-32 bytes")

// Message is one AES-GCM message. It is not safe for concurrent use.
type Message struct {
	block   cipher.Block
	gmac    cipher.AEAD
	nonce   [NonceSize]byte
	mask    element // the key stream's block for the tag
	hashKey element
	adSize  uint64
	ad      element // the hash of the associated data

	stream  cipher.Stream
	hash    element // of associated data and ciphertext so far, times H
	partial []byte  // of the ciphertext, less than a block
	size    uint64  // of the ciphertext so far

	last struct { // H to the power of blocks; segments are mostly of one size
		blocks uint64
		power  element
	}
}

// New begins a message under an AES key of 16, 24 or 32 bytes and a nonce of
// [NonceSize] bytes. An error is that of [aes.NewCipher] or [cipher.NewGCM].
func New(key, nonce, associatedData []byte) (*Message, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gmac, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	m := &Message{block: block, gmac: gmac, nonce: [NonceSize]byte(nonce), adSize: uint64(len(associatedData))}
	var hashKey [blockSize]byte
	block.Encrypt(hashKey[:], hashKey[:])
	m.hashKey = load(hashKey[:])
	mask := m.counter(1)
	block.Encrypt(mask[:], mask[:])
	m.mask = load(mask[:])
	m.absorb(padded(associatedData))
	m.ad = m.hash
	m.Reset()
	return m, nil
}

// Reset goes back to the beginning of the same message, to read it once more.
// What was encrypted must not be encrypted again.
func (m *Message) Reset() {
	m.hash, m.size, m.partial = m.ad, 0, m.partial[:0]
	m.stream = m.StreamAt(0)
}

// StreamAt returns the key stream from an offset into the plaintext on.
func (m *Message) StreamAt(offset int64) cipher.Stream {
	counter := m.counter(uint32(2 + offset/blockSize))
	stream := cipher.NewCTR(m.block, counter[:])
	var skipped [blockSize]byte
	stream.XORKeyStream(skipped[:offset%blockSize], skipped[:offset%blockSize])
	clear(skipped[:])
	return stream
}

func (m *Message) counter(n uint32) (counter [blockSize]byte) {
	copy(counter[:], m.nonce[:])
	binary.BigEndian.PutUint32(counter[NonceSize:], n)
	return counter
}

// Encrypt encrypts the next part of the plaintext; dst has room for it and is src
// or does not overlap it. Parts of equal sizes, multiples of 16, are fastest.
func (m *Message) Encrypt(dst, src []byte) error {
	dst = dst[:len(src)]
	if uint64(len(src)) > MaxSize-m.size {
		return ErrTooLarge
	}
	m.stream.XORKeyStream(dst, src)
	return m.Authenticate(dst)
}

// Authenticate takes the next part of the ciphertext into the tag without
// decrypting it.
func (m *Message) Authenticate(ciphertext []byte) error {
	if uint64(len(ciphertext)) > MaxSize-m.size {
		return ErrTooLarge
	}
	m.size += uint64(len(ciphertext))
	if len(m.partial) > 0 {
		n := min(blockSize-len(m.partial), len(ciphertext))
		m.partial = append(m.partial, ciphertext[:n]...)
		ciphertext = ciphertext[n:]
		if len(m.partial) < blockSize {
			return nil
		}
		m.absorb(m.partial)
		m.partial = m.partial[:0]
	}
	whole := len(ciphertext) - len(ciphertext)%blockSize
	m.absorb(ciphertext[:whole])
	m.partial = append(m.partial, ciphertext[whole:]...)
	return nil
}

// Decrypt decrypts the next part of the ciphertext, which it does not check.
func (m *Message) Decrypt(dst, src []byte) { m.stream.XORKeyStream(dst[:len(src)], src) }

// Tag returns the tag of the message with the ciphertext so far.
func (m *Message) Tag() [TagSize]byte {
	before := m.hash
	m.absorb(padded(m.partial))
	var sizes [blockSize]byte
	binary.BigEndian.PutUint64(sizes[:], 8*m.adSize)
	binary.BigEndian.PutUint64(sizes[8:], 8*m.size)
	tag := m.hash.plus(load(sizes[:]).times(m.hashKey)).plus(m.mask).bytes()
	m.hash = before
	return tag
}

// absorb takes whole blocks into the hash.
//
// Of blocks X1 … Xm let Q = X1*H^(m+1) + … + Xm*H^2, which is how they count in
// a tag: their Horner sum, times H once more for the sizes that come behind. Then
//
//	tag of GMAC over the segment = Q + sizes*H + mask
//	Q of two segments            = Q1 * H^(blocks of the second) + Q2
func (m *Message) absorb(segment []byte) {
	if len(segment) == 0 {
		return
	}
	blocks := uint64(len(segment)) / blockSize
	if m.last.blocks != blocks {
		m.last.blocks, m.last.power = blocks, m.hashKey.power(blocks)
	}
	var sizes [blockSize]byte
	binary.BigEndian.PutUint64(sizes[:], 8*uint64(len(segment)))
	q := load(m.segmentTag(segment)).plus(m.mask).plus(load(sizes[:]).times(m.hashKey))
	m.hash = m.hash.times(m.last.power).plus(q)
}

// segmentTag is the GMAC of a segment under the nonce of the message, so that
// its mask is that of the message. It must stay secret: it would reveal H.
func (m *Message) segmentTag(segment []byte) []byte {
	return m.gmac.Seal(nil, m.nonce[:], nil, segment)
}

// padded is a copy of bytes with zeros up to a whole block.
func padded(p []byte) []byte {
	out := make([]byte, (len(p)+blockSize-1)/blockSize*blockSize)
	copy(out, p)
	return out
}
