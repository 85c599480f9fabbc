package keyvault

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// defaultIV is the initial value of RFC 3394, section 2.2.3.1.
const defaultIV = 0xa6a6a6a6a6a6a6a6

var errKeyWrap = errors.New("not a multiple of 8 bytes from 16")

// keyWrap is the AES key wrap of RFC 3394, section 2.2.1.
func keyWrap(block cipher.Block, plaintext []byte) ([]byte, error) {
	if len(plaintext) < 16 || len(plaintext)%8 != 0 {
		return nil, errKeyWrap
	}
	out := binary.BigEndian.AppendUint64(nil, defaultIV)
	out = append(out, plaintext...)
	n := len(plaintext) / 8
	var b [16]byte
	for t := 1; t <= 6*n; t++ {
		r := out[8*((t-1)%n+1):][:8]
		copy(b[:8], out)
		copy(b[8:], r)
		block.Encrypt(b[:], b[:])
		binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b[:])^uint64(t))
		copy(r, b[8:])
	}
	return out, nil
}

// keyUnwrap is its inverse, section 2.2.2.
func keyUnwrap(block cipher.Block, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 24 || len(wrapped)%8 != 0 {
		return nil, errKeyWrap
	}
	out := append([]byte(nil), wrapped...)
	n := len(wrapped)/8 - 1
	var b [16]byte
	for t := 6 * n; t >= 1; t-- {
		r := out[8*((t-1)%n+1):][:8]
		binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(out)^uint64(t))
		copy(b[8:], r)
		block.Decrypt(b[:], b[:])
		copy(out, b[:8])
		copy(r, b[8:])
	}
	if subtle.ConstantTimeCompare(out[:8], binary.BigEndian.AppendUint64(nil, defaultIV)) != 1 {
		return nil, errors.New("the integrity check failed")
	}
	return out[8:], nil
}
