package s3ec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
)

// legacyWrapSize is the size in bytes of a data key that V1 wraps with AES: the key and a
// whole block of padding.
const legacyWrapSize = keySize + blockSize

// unwrapECB decrypts block by block, which is AES in ECB mode.
func unwrapECB(block cipher.Block, wrapped []byte) ([]byte, error) {
	if len(wrapped) != legacyWrapSize {
		return nil, errDecrypt
	}
	plaintext := make([]byte, len(wrapped))
	for at := 0; at < len(wrapped); at += blockSize {
		block.Decrypt(plaintext[at:], wrapped[at:])
	}
	if paddingOf(plaintext) != blockSize {
		clear(plaintext)
		return nil, errDecrypt
	}
	return plaintext[:keySize:keySize], nil
}

// unwrapPKCS1 returns a random key if the wrapped one does not decrypt, so that an attacker
// does not learn whether its padding was correct. Then the content does not open.
func unwrapPKCS1(private *rsa.PrivateKey, wrapped []byte) ([]byte, error) {
	dataKey := randomBytes(keySize)
	//lint:ignore SA1019 V1 objects are wrapped in this way; they are read only with LegacyRead
	if err := rsa.DecryptPKCS1v15SessionKey(nil, private, wrapped, dataKey); err != nil {
		return nil, errDecrypt // about public sizes only
	}
	return dataKey, nil
}

// paddingOf returns the number of bytes of the padding of PKCS #7 at the end of a
// plaintext, or 0 if it is invalid. It takes the same time for each content.
func paddingOf(plaintext []byte) int {
	last := plaintext[len(plaintext)-blockSize:]
	n := int(last[blockSize-1])
	valid := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, blockSize)
	for i, b := range last {
		outside := subtle.ConstantTimeLessOrEq(i+1+n, blockSize)
		valid &= outside | subtle.ConstantTimeByteEq(b, byte(n))
	}
	return subtle.ConstantTimeSelect(valid, n, 0)
}

// cbcContent is the content of V1: AES-256-CBC with the padding of PKCS #7. Nothing
// authenticates it. Its proofs are hashes, so that at least an object does not change
// between check and read.
type cbcContent struct {
	block   cipher.Block
	proofs  []cbcProof
	before  []byte // the last block so far, or the IV
	final   []byte // the last two blocks
	size    int64  // of the ciphertext
	padding int    // 0 before finish
}

type cbcProof struct {
	iv  []byte // the block before the segment
	sum [sha256.Size]byte
}

func newCBC(dataKey, iv []byte) (*cbcContent, error) {
	block, err := aes.NewCipher(dataKey)
	return &cbcContent{block: block, before: iv}, err
}

func (c *cbcContent) tagSize() int64 { return 0 }

func (c *cbcContent) take(segment []byte) error {
	if len(segment) == 0 || len(segment)%blockSize != 0 {
		return errDecrypt
	}
	c.proofs = append(c.proofs, cbcProof{c.before, sha256.Sum256(segment)})
	last := slices.Clone(segment[len(segment)-blockSize:])
	if len(segment) > blockSize {
		c.before = segment[len(segment)-2*blockSize : len(segment)-blockSize]
	}
	c.final = slices.Concat(c.before, last)
	c.before = last
	c.size += int64(len(segment))
	return nil
}

func (c *cbcContent) finish([]byte) (int64, bool) {
	if c.size == 0 {
		return 0, false
	}
	last := slices.Clone(c.final[blockSize:])
	defer clear(last)
	cipher.NewCBCDecrypter(c.block, c.final[:blockSize]).CryptBlocks(last, last)
	c.padding = paddingOf(last)
	return c.size - int64(c.padding), c.padding > 0
}

func (c *cbcContent) open(segment []byte, index int) ([]byte, bool) {
	proof := c.proofs[index]
	if sha256.Sum256(segment) != proof.sum {
		return nil, false
	}
	cipher.NewCBCDecrypter(c.block, proof.iv).CryptBlocks(segment, segment)
	if end := c.size - int64(index)*segmentSize; int64(len(segment)) == end {
		segment = segment[:len(segment)-c.padding]
	}
	return segment, true
}
