package attrencrypted

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"slices"
)

// algorithm describes an algorithm that OpenSSL names.
type algorithm struct {
	keySize int
	gcm     bool // otherwise CBC
}

var algorithms = map[string]algorithm{
	"aes-256-gcm": {32, true}, "aes-192-gcm": {24, true}, "aes-128-gcm": {16, true},
	"aes-256-cbc": {32, false}, "aes-192-cbc": {24, false}, "aes-128-cbc": {16, false},
}

const (
	gcmIVSize  = 12
	gcmTagSize = 16
)

func (a algorithm) ivSize() int {
	if a.gcm {
		return gcmIVSize
	}
	return aes.BlockSize
}

// scheme is an algorithm with a key.
type scheme interface {
	seal(plaintext []byte) (iv, value []byte)
	open(iv, value []byte) (plaintext []byte, err error)
}

// newScheme returns the scheme of a key. fill makes its ivs; nil means the
// system's random source.
func (a *Attribute) newScheme(key []byte, fill func([]byte)) (scheme, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, configError("%w", err)
	}
	if !a.algorithm.gcm {
		if fill == nil {
			fill = random
		}
		return cbc{block, fill}, nil
	}
	// FIPS 140 approves only a GCM that makes its own ivs.
	newGCM := cipher.NewGCMWithRandomNonce
	if fill != nil {
		newGCM = cipher.NewGCM
	}
	aead, err := newGCM(block)
	if err != nil {
		return nil, configError("%w", err)
	}
	return gcm{aead, fill, a.options.AuthData}, nil
}

func random(b []byte) { rand.Read(b) }

// gcm writes ciphertext || tag 16.
type gcm struct {
	aead     cipher.AEAD
	fill     func([]byte) // nil if aead makes the ivs and puts them in front
	authData []byte
}

func (s gcm) seal(plaintext []byte) (iv, value []byte) {
	if s.fill == nil {
		sealed := s.aead.Seal(nil, nil, plaintext, s.authData)
		return sealed[:gcmIVSize:gcmIVSize], sealed[gcmIVSize:]
	}
	iv = make([]byte, gcmIVSize)
	s.fill(iv)
	return iv, s.aead.Seal(nil, iv, plaintext, s.authData)
}

// open refuses the empty plaintext, as Ruby does.
func (s gcm) open(iv, value []byte) (plaintext []byte, err error) {
	if len(value) <= gcmTagSize {
		return nil, malformed("a value shorter than one byte and the tag")
	}
	if s.fill == nil {
		plaintext, err = s.aead.Open(nil, nil, slices.Concat(iv, value), s.authData)
	} else {
		plaintext, err = s.aead.Open(nil, iv, value, s.authData)
	}
	if err != nil {
		return nil, errDecrypt
	}
	return plaintext, nil
}

// cbc pads with PKCS #7 and authenticates nothing.
type cbc struct {
	block cipher.Block
	fill  func([]byte)
}

func (s cbc) seal(plaintext []byte) (iv, value []byte) {
	iv = make([]byte, aes.BlockSize)
	s.fill(iv)
	n := aes.BlockSize - len(plaintext)%aes.BlockSize
	value = slices.Grow(slices.Clone(plaintext), n)
	for range n {
		value = append(value, byte(n))
	}
	cipher.NewCBCEncrypter(s.block, iv).CryptBlocks(value, value)
	return iv, value
}

func (s cbc) open(iv, value []byte) ([]byte, error) {
	if len(value) == 0 || len(value)%aes.BlockSize != 0 {
		return nil, malformed("a value whose size is not a multiple of the block size")
	}
	plaintext := make([]byte, len(value))
	cipher.NewCBCDecrypter(s.block, iv).CryptBlocks(plaintext, value)
	n := paddingSize(plaintext)
	if n == 0 {
		clear(plaintext)
		return nil, errDecrypt
	}
	return plaintext[:len(plaintext)-n], nil
}

// paddingSize returns the size of the PKCS #7 padding, or 0 if it is invalid.
// It takes the same time for every padding, so that it is no padding oracle.
func paddingSize(padded []byte) int {
	last := padded[len(padded)-1]
	good := subtle.ConstantTimeLessOrEq(1, int(last)) & subtle.ConstantTimeLessOrEq(int(last), aes.BlockSize)
	for i := range aes.BlockSize {
		inside := subtle.ConstantTimeLessOrEq(i+1, int(last))
		equal := subtle.ConstantTimeByteEq(padded[len(padded)-1-i], last)
		good &= equal | (1 - inside)
	}
	return good * int(last)
}
