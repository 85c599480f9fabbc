package lockbox

import (
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// Options are the options of a box beside its key. The zero value is Lockbox's
// default: AES-256-GCM without padding.
type Options struct {
	// Algorithm: empty is [AESGCM].
	Algorithm Algorithm
	// Padding is the size in bytes to a multiple of which plaintexts are padded,
	// so that their lengths tell less; Lockbox's "padding: true" is 16. Zero is
	// no padding. At most 65536.
	Padding int
	// Previous are the boxes of older options (previous_versions: in Ruby), tried
	// in this order on what the box itself cannot open. Nothing is inherited: in
	// Ruby a previous version without a key has the current one.
	Previous []*Box
	// Unbound is for previous versions from before associated data was used: it
	// makes Open ignore the associated data of a call, and Seal refuse it.
	Unbound bool
}

// maxPadding keeps a slip of the finger from filling a disk.
const maxPadding = 1 << 16

// Box seals and opens bytes as Lockbox.new(key: …) does. It is safe for
// concurrent use and prints as "[redacted]".
type Box struct {
	secret.Redacted
	hidden   secret.Pointer[[]version] // the current one first
	shortest int                       // the size of an empty plaintext under the thriftiest of them
}

// version is one set of options, ready for use.
type version struct {
	seal, open cipher.AEAD // nil where a hybrid key is missing
	padding    int
	binds      bool // takes associated data
	unbound    bool
}

// The errors of opening a box. Whatever failed inside, an authentication that
// failed is the same error; the others can be told from the ciphertext alone.
var (
	errDecrypt   = fmt.Errorf("lockbox: %w", kmsencrypted.ErrDecrypt)
	errShort     = fmt.Errorf("lockbox: %w: shorter than nonce and tag", kmsencrypted.ErrMalformed)
	errNotBase64 = fmt.Errorf("lockbox: %w: not base64", kmsencrypted.ErrNotCiphertext)
)

// New returns a box under a key of 32 bytes, which it copies. A key of another
// size, an unknown algorithm and an impossible padding are [kmsencrypted.ErrConfig].
func New(key []byte, o Options) (*Box, error) {
	aead, err := newCipher(key, o.Algorithm)
	if err != nil {
		return nil, err
	}
	return newBox(version{seal: aead, open: aead, binds: o.Algorithm != XSalsa20}, o)
}

// NewHybrid returns a box of algorithm hybrid: who has the encryption key alone
// can seal but not open. Keys have 64 bytes and are copied; nil is a key that is
// not there, and the direction that needs it is [kmsencrypted.ErrConfig], as are
// both missing and options of another algorithm.
//
//	encryption key = recipient's public || sender's private   (X25519, 32 bytes each)
//	decryption key = recipient's private || sender's public
func NewHybrid(encryptionKey, decryptionKey []byte, o Options) (*Box, error) {
	if o.Algorithm != "" && o.Algorithm != Hybrid {
		return nil, configError("algorithm %s with hybrid keys", o.Algorithm)
	}
	if encryptionKey == nil && decryptionKey == nil {
		return nil, configError("no key")
	}
	var v version
	var err error
	for _, k := range []struct {
		key             []byte
		private, public int // where the halves begin
		cipher          *cipher.AEAD
	}{
		{encryptionKey, KeySize, 0, &v.seal},
		{decryptionKey, 0, KeySize, &v.open},
	} {
		if k.key == nil {
			continue
		}
		if len(k.key) != HybridKeySize {
			return nil, configError("a hybrid key has %d bytes, not %d", len(k.key), HybridKeySize)
		}
		*k.cipher, err = newHybridCipher(k.key[k.private:][:KeySize], k.key[k.public:][:KeySize])
		if err != nil {
			return nil, err
		}
	}
	return newBox(v, o)
}

// GenerateHybridKeys returns a new pair of keys for [NewHybrid], as
// Lockbox.generate_key_pair does.
func GenerateHybridKeys() (encryptionKey, decryptionKey []byte, err error) {
	recipient, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, configError("%w", err)
	}
	sender, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, configError("%w", err)
	}
	return slices.Concat(recipient.PublicKey().Bytes(), sender.Bytes()),
		slices.Concat(recipient.Bytes(), sender.PublicKey().Bytes()), nil
}

func newBox(v version, o Options) (*Box, error) {
	if o.Padding < 0 || o.Padding > maxPadding {
		return nil, configError("padding of %d bytes, want 0 to %d", o.Padding, maxPadding)
	}
	v.padding, v.unbound = o.Padding, o.Unbound
	versions := []version{v}
	for _, previous := range o.Previous {
		if len(previous.versions()) == 0 {
			return nil, errNoBox
		}
		versions = append(versions, previous.versions()...)
	}
	shortest := v.overhead()
	for _, v := range versions {
		shortest = min(shortest, v.overhead())
	}
	return &Box{hidden: secret.Hide(versions), shortest: shortest}, nil
}

// versions is empty for a nil or zero Box.
func (b *Box) versions() []version {
	if b != nil {
		if versions := b.hidden.Get(); versions != nil {
			return *versions
		}
	}
	return nil
}

var errNoBox = configError("the Box was not made by New or NewHybrid")

func (v *version) overhead() int {
	if v.open != nil {
		return v.open.Overhead()
	}
	return v.seal.Overhead()
}

// Seal appends the box of plaintext to dst and returns it. Absent and empty
// associated data are the same. dst must not overlap the other arguments; with
// room for the plaintext, its padding and 40 bytes it is not reallocated unless
// there is padding, which is made in memory behind the box and wiped.
//
// Associated data under [XSalsa20], [Hybrid] or [Options.Unbound], and a missing
// encryption key, are [kmsencrypted.ErrConfig]. Under one key of [AESGCM] seal
// at most 2^32 boxes.
func (b *Box) Seal(dst, plaintext, associatedData []byte) ([]byte, error) {
	versions := b.versions()
	if len(versions) == 0 {
		return nil, errNoBox
	}
	v := &versions[0]
	switch {
	case v.seal == nil:
		return nil, configError("no encryption key")
	case len(associatedData) > 0 && (!v.binds || v.unbound):
		return nil, errBinding
	case v.padding == 0:
		return v.seal.Seal(dst, nil, plaintext, associatedData), nil
	}
	size := v.boxSize(len(plaintext))
	dst = slices.Grow(dst, size+paddedSize(len(plaintext), v.padding))
	padded := pad(behind(dst, size), plaintext, v.padding)
	defer clear(padded)
	return v.seal.Seal(dst, nil, padded, associatedData), nil
}

// boxSize is the size of the box of a plaintext of n bytes.
func (v *version) boxSize(n int) int {
	if v.padding > 0 {
		n = paddedSize(n, v.padding)
	}
	return n + v.overhead()
}

// behind is memory of dst that begins n bytes behind its end. The room is there.
func behind(dst []byte, n int) []byte { return dst[len(dst)+n : len(dst)+n] }

var errBinding = configError("these options have no associated data")

// Open appends to dst what was sealed in box, under the current options or any
// previous ones. dst must not overlap the other arguments. What does not open is
// [kmsencrypted.ErrDecrypt], whether the key, the associated data, the bytes or
// the padding are wrong; a box that is too short to be one is
// [kmsencrypted.ErrMalformed]. The caller wipes the plaintext.
func (b *Box) Open(dst, box, associatedData []byte) ([]byte, error) {
	versions := b.versions()
	switch {
	case len(versions) == 0:
		return nil, errNoBox
	case len(box) < b.shortest:
		return nil, errShort
	}
	for i := range versions {
		plaintext, err := versions[i].unseal(dst, box, associatedData)
		if err != errDecrypt {
			return plaintext, err
		}
	}
	return nil, errDecrypt
}

// unseal returns errDecrypt itself for whatever another version may still open.
func (v *version) unseal(dst, box, associatedData []byte) ([]byte, error) {
	if v.open == nil {
		return nil, configError("no decryption key")
	}
	if v.unbound {
		associatedData = nil
	}
	if len(associatedData) > 0 && !v.binds {
		return nil, errBinding
	}
	opened, err := v.open.Open(dst, nil, box, associatedData)
	if err != nil {
		return nil, errDecrypt
	}
	if v.padding == 0 {
		return opened, nil
	}
	plaintext, ok := unpad(opened[len(dst):], v.padding)
	if !ok {
		clear(opened[len(dst):])
		return nil, errDecrypt
	}
	return opened[:len(dst)+len(plaintext)], nil
}

// SealText is [Box.Seal] with the box in padded standard base64 without
// newlines (encode: true in Ruby). The box itself lies in memory behind the text.
func (b *Box) SealText(dst, plaintext, associatedData []byte) ([]byte, error) {
	versions := b.versions()
	if len(versions) == 0 {
		return nil, errNoBox
	}
	size := versions[0].boxSize(len(plaintext))
	text := base64.StdEncoding.EncodedLen(size)
	dst = slices.Grow(dst, text+size)
	box, err := b.Seal(behind(dst, text), plaintext, associatedData)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.AppendEncode(dst, box), nil
}

// OpenText is [Box.Open] for a box in base64, read as leniently as Ruby does:
// newlines and characters that base64 does not have are skipped. A text that
// has such characters and does not open is [kmsencrypted.ErrNotCiphertext]. The
// box itself lies in memory behind the plaintext.
func (b *Box) OpenText(dst, text, associatedData []byte) ([]byte, error) {
	size := base64.StdEncoding.DecodedLen(len(text))
	dst = slices.Grow(dst, 2*size)
	box, err := base64.StdEncoding.AppendDecode(behind(dst, size), text)
	strict := err == nil
	if !strict {
		box = rubycompat.Decode64(string(text))
	}
	plaintext, err := b.Open(dst, box, associatedData)
	if err != nil && !strict && notBase64(text) {
		return nil, errNotBase64
	}
	return plaintext, err
}

// notBase64 reports whether text has characters that Lockbox never writes.
func notBase64(text []byte) bool {
	for _, c := range text {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case c == '+', c == '/', c == '=', c == '\n', c == '\r':
		default:
			return true
		}
	}
	return false
}
