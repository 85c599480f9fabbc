// Package gcmstream encrypts and decrypts AES-GCM messages of any size in constant
// memory, with the standard library's assembly and without a GHASH of its own.
//
// GHASH is a polynomial in the hash key H, so parts of it can be computed
// separately and combined by multiplications in the field. The standard library
// computes it over a part as the tag of a separate message. That message has
// either the part as associated data and no plaintext (GMAC), or the part as its
// plaintext: a nonce of 16 bytes can be chosen so that the key stream begins at
// the part. The first only authenticates, the second also encrypts or decrypts in
// the same pass. Each part costs one such tag and a few multiplications.
//
// The caller must ensure what [cipher.AEAD] ensures by itself: nonces must be
// fresh, and a part may be decrypted only after the tag of the whole message was
// checked.
package gcmstream

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
)

const (
	// NonceSize and TagSize are the sizes in bytes of nonce and tag.
	NonceSize = 12
	TagSize   = 16

	// MaxSize is the size in bytes of the longest plaintext: the counter of GCM
	// has 32 bits, two values of which are not for the plaintext (NIST SP 800-38D
	// section 5.2.1.1).
	MaxSize = (1<<32 - 2) * blockSize

	blockSize = aes.BlockSize
)

// ErrTooLarge reports more than [MaxSize] bytes.
var ErrTooLarge = errors.New("more than GCM's 2^36-32 bytes")

// Message is one AES-GCM message. It is not safe for concurrent use.
type Message struct {
	block   cipher.Block
	gmac    cipher.AEAD
	parts   cipher.AEAD // with nonces of 16 bytes
	nonce   [NonceSize]byte
	mask    element // the key stream's block for the tag
	hashKey element
	inverse element // 1/H^2
	adSize  uint64

	hash    element // of associated data and ciphertext so far, times H
	partial []byte  // of the ciphertext, less than a block
	size    uint64  // of the ciphertext so far
	part    part    // the last one

	last struct { // H to the power of blocks; parts are mostly of one size
		blocks uint64
		power  element
	}
}

// part is one part of the ciphertext.
type part struct {
	start, size uint64
	hash        element // of its whole blocks
}

// New begins a message under an AES key of 16, 24 or 32 bytes and a nonce of
// [NonceSize] bytes. The errors are those of [aes.NewCipher] and [cipher.NewGCM].
func New(key, nonce, associatedData []byte) (*Message, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gmac, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	parts, err := cipher.NewGCMWithNonceSize(block, blockSize)
	if err != nil {
		return nil, err
	}
	m := &Message{block: block, gmac: gmac, parts: parts, nonce: [NonceSize]byte(nonce), adSize: uint64(len(associatedData))}
	var hashKey [blockSize]byte
	block.Encrypt(hashKey[:], hashKey[:])
	m.hashKey = load(hashKey[:])
	m.inverse = m.hashKey.times(m.hashKey).inverse()
	m.mask = m.maskOf(1)
	m.absorb(padded(associatedData))
	return m, nil
}

// StreamAt returns the key stream from an offset in the plaintext.
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

// maskOf returns the block of the key stream at a counter.
func (m *Message) maskOf(n uint32) element {
	mask := m.counter(n)
	m.block.Encrypt(mask[:], mask[:])
	return load(mask[:])
}

// nonceAt returns the nonce of a separate message whose key stream begins at an
// offset, which must be a multiple of the block size. GCM's first counter block is
// GHASH of the nonce; for a nonce of 16 bytes that is nonce*H^2 + size*H.
func (m *Message) nonceAt(offset uint64) []byte {
	counter := m.counter(uint32(1 + offset/blockSize))
	nonce := load(counter[:]).plus(element{lo: 8 * blockSize}.times(m.hashKey)).times(m.inverse).bytes()
	return nonce[:]
}

// Encrypt encrypts the next part of the plaintext. dst must have room for it, and
// be src or not overlap it. If dst has room for TagSize more bytes, which it then
// overwrites, Encrypt makes one pass instead of two. Parts of equal sizes,
// multiples of 16, are fastest.
func (m *Message) Encrypt(dst, src []byte) error {
	if uint64(len(src)) > MaxSize-m.size {
		return ErrTooLarge
	}
	dst = dst[:len(src)]
	if len(m.partial) == 0 && cap(dst) >= len(src)+TagSize {
		var tail [blockSize]byte
		whole := len(src) - len(src)%blockSize
		rest := tail[:copy(tail[:], src[whole:])]
		if whole > 0 {
			m.encryptBlocks(dst, src[:whole])
		}
		dst, src = dst[whole:], rest
		defer clear(tail[:])
	}
	m.StreamAt(int64(m.size)).XORKeyStream(dst, src)
	return m.Authenticate(dst)
}

// encryptBlocks encrypts whole blocks at a multiple of the block size, in one
// pass.
func (m *Message) encryptBlocks(dst, src []byte) {
	sealed := m.parts.Seal(dst[:0], m.nonceAt(m.size), src, nil)
	sizes := element{lo: 8 * uint64(len(src))}
	q := load(sealed[len(src):]).plus(m.maskOf(uint32(1 + m.size/blockSize))).plus(sizes.times(m.hashKey))
	m.append(q, uint64(len(src))/blockSize)
	m.size += uint64(len(src))
}

// Authenticate adds the next part of the ciphertext to the tag without decrypting
// it.
func (m *Message) Authenticate(ciphertext []byte) error {
	if uint64(len(ciphertext)) > MaxSize-m.size {
		return ErrTooLarge
	}
	m.part = part{start: m.size, size: uint64(len(ciphertext))}
	m.size += m.part.size
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
	m.part.hash = m.absorb(ciphertext[:whole])
	m.partial = append(m.partial, ciphertext[whole:]...)
	return nil
}

// Proof returns what opens the part that was authenticated last, after the tag of
// the whole was checked. The part must begin at a multiple of the block size. The
// proof must stay secret, like the hash key.
func (m *Message) Proof() [TagSize]byte {
	q := m.part.hash
	if len(m.partial) > 0 {
		q = q.plus(load(padded(m.partial)).times(m.hashKey)).times(m.hashKey)
	}
	sizes := element{lo: 8 * m.part.size}
	return q.plus(sizes.times(m.hashKey)).plus(m.maskOf(uint32(1 + m.part.start/blockSize))).bytes()
}

// Open decrypts a part in place, and overwrites the TagSize bytes after it, which
// must exist. It reports whether proof is of this part at this offset. If not, it
// leaves no plaintext. It does not change the message.
func (m *Message) Open(part []byte, offset int64, proof [TagSize]byte) bool {
	_, err := m.parts.Open(part[:0], m.nonceAt(uint64(offset)), append(part, proof[:]...), nil)
	return err == nil
}

// Tag returns the tag of the message with the ciphertext added so far.
func (m *Message) Tag() [TagSize]byte {
	before := m.hash
	m.absorb(padded(m.partial))
	sizes := element{hi: 8 * m.adSize, lo: 8 * m.size}
	tag := m.hash.plus(sizes.times(m.hashKey)).plus(m.mask).bytes()
	m.hash = before
	return tag
}

// absorb adds whole blocks to the hash and returns their own contribution.
//
// Of blocks X1 … Xm let Q = X1*H^(m+1) + … + Xm*H^2, which is how they count in
// a tag: their Horner sum, times H once more for the sizes that come behind. Then
//
//	tag of GMAC over the part = Q + sizes*H + mask
//	Q of two parts            = Q1 * H^(blocks of the second) + Q2
func (m *Message) absorb(blocks []byte) (q element) {
	if len(blocks) == 0 {
		return q
	}
	sizes := element{hi: 8 * uint64(len(blocks))}
	q = load(m.gmacTag(blocks)).plus(m.mask).plus(sizes.times(m.hashKey))
	m.append(q, uint64(len(blocks))/blockSize)
	return q
}

// append adds Q of a number of blocks to the hash.
func (m *Message) append(q element, blocks uint64) {
	if m.last.blocks != blocks {
		m.last.blocks, m.last.power = blocks, m.hashKey.power(blocks)
	}
	m.hash = m.hash.times(m.last.power).plus(q)
}

// gmacTag returns the GMAC of blocks under the nonce of the message, so both have
// the same mask. It must stay secret, because it would reveal H.
func (m *Message) gmacTag(blocks []byte) []byte {
	return m.gmac.Seal(nil, m.nonce[:], nil, blocks)
}

// padded returns a copy of p with zeros up to a whole block.
func padded(p []byte) []byte {
	out := make([]byte, (len(p)+blockSize-1)/blockSize*blockSize)
	copy(out, p)
	return out
}
