//go:build cgo

package pkcs11

import (
	"crypto/rand"
	"errors"

	"github.com/miekg/pkcs11"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/canon"
	"github.com/kmsencrypted/kmsencrypted/internal/keywrap"
)

// Mechanism is how a token wraps.
type Mechanism string

const (
	// AESGCM is CKM_AES_GCM with the context as additional authenticated data. The key
	// needs CKA_ENCRYPT and CKA_DECRYPT. Nonces are random: use a new key before one has
	// wrapped 2^32 data keys (NIST SP 800-38D, section 8.3).
	AESGCM Mechanism = "AES-GCM"
	// AESKeyWrap is CKM_AES_KEY_WRAP, the AES key wrap of RFC 3394. It binds no context.
	// The key needs CKA_WRAP and CKA_UNWRAP. The data key is an object of the session
	// meanwhile, so the token must let a program make such objects and read them.
	AESKeyWrap Mechanism = "AES-KW"
)

// mechanism is how a provider wraps. Both functions have one session to themselves.
type mechanism struct {
	name         Mechanism
	code         byte // in ciphertexts
	bindsContext bool
	encrypts     uint // the attribute that permits it
	decrypts     uint
	wrap         func(s *session, key pkcs11.ObjectHandle, plaintext, ad []byte) ([]byte, error)
	unwrap       func(s *session, key pkcs11.ObjectHandle, body, ad []byte) ([]byte, error)
}

func mechanismNamed(name Mechanism) (mechanism, bool) {
	if name == "" {
		name = AESGCM
	}
	for _, m := range []mechanism{
		{AESGCM, 1, true, pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT, encrypt, decrypt},
		{AESKeyWrap, 2, false, pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP, wrapPadded, unwrapPadded},
	} {
		if m.name == name {
			return m, true
		}
	}
	return mechanism{}, false
}

// errNotWrapped reports bytes that no wrap of this provider has.
var errNotWrapped = errors.New("not a wrapped key")

// label separates this use of AES-GCM from all others.
const label = "kmsencrypted/1 pkcs11"

// associatedData distinguishes an absent context from an empty one.
func associatedData(id string, ec kmsencrypted.BoundContext) []byte {
	ad := canon.Strings(label, id)
	if ec.Absent() {
		return ad
	}
	return canon.AppendBytes(ad, ec.Bytes())
}

const nonceSize, tagSize = 12, 16

func encrypt(s *session, key pkcs11.ObjectHandle, plaintext, ad []byte) ([]byte, error) {
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never fails
	parameters := pkcs11.NewGCMParams(nonce, ad, 8*tagSize)
	defer parameters.Free()
	err := s.library.EncryptInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, parameters)}, key)
	if err != nil {
		return nil, err
	}
	sealed, err := s.library.Encrypt(s.handle, plaintext)
	if err != nil {
		return nil, err
	}
	nonce = parameters.IV() // some modules insist on one of their own
	if len(nonce) != nonceSize || len(sealed) != len(plaintext)+tagSize {
		return nil, errors.New("the token's AES-GCM has a nonce or tag of another size than 12 and 16 bytes")
	}
	return append(nonce, sealed...), nil
}

func decrypt(s *session, key pkcs11.ObjectHandle, body, ad []byte) ([]byte, error) {
	if len(body) < nonceSize+tagSize {
		return nil, errNotWrapped
	}
	parameters := pkcs11.NewGCMParams(body[:nonceSize], ad, 8*tagSize)
	defer parameters.Free()
	err := s.library.DecryptInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, parameters)}, key)
	if err != nil {
		return nil, err
	}
	plaintext, err := s.library.Decrypt(s.handle, body[nonceSize:])
	return plaintext, opening(err)
}

// leastKeyWrap is the size in bytes of a wrap of 16 bytes, the least (RFC 3394).
const leastKeyWrap = 24

// CKM_AES_KEY_WRAP_PAD would pad by itself, but SoftHSM 2.6.1 returns its padding with the
// value.
func wrapPadded(s *session, key pkcs11.ObjectHandle, plaintext, _ []byte) ([]byte, error) {
	padded := keywrap.Pad(plaintext)
	defer clear(padded)
	object, err := s.library.CreateObject(s.handle, append(dataKey(), pkcs11.NewAttribute(pkcs11.CKA_VALUE, padded)))
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.library.DestroyObject(s.handle, object) }()
	return s.library.WrapKey(s.handle, keyWrap(), key, object)
}

func unwrapPadded(s *session, key pkcs11.ObjectHandle, body, _ []byte) ([]byte, error) {
	if len(body) < leastKeyWrap {
		return nil, errNotWrapped
	}
	object, err := s.library.UnwrapKey(s.handle, keyWrap(), key, body, dataKey())
	if err != nil {
		return nil, opening(err)
	}
	defer func() { _ = s.library.DestroyObject(s.handle, object) }()
	read, err := s.library.GetAttributeValue(s.handle, object, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err != nil {
		return nil, err
	}
	plaintext, ok := keywrap.Unpad(read[0].Value)
	if !ok {
		return nil, errNotWrapped
	}
	return plaintext, nil
}

func keyWrap() []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_WRAP, nil)}
}

// dataKey are the attributes of a data key in a session: it is gone with that.
func dataKey() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
	}
}
