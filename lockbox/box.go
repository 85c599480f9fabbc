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

// Options are the options of a box other than its key. The zero value is
// Lockbox's default: AES-256-GCM without padding.
type Options struct {
	// Algorithm is the algorithm; empty means [AESGCM].
	Algorithm Algorithm
	// Padding pads plaintexts to a multiple of this size in bytes, so that their
	// lengths reveal less; Lockbox's "padding: true" is 16. Zero means no padding.
	// The maximum is 65536.
	Padding int
	// Previous are the boxes of older options (previous_versions: in Ruby), tried in
	// this order on what the box itself cannot open. They inherit nothing: in Ruby a
	// previous version without a key has the current one.
	Previous []*Box
	// Unbound is for previous versions from before associated data was used: Open
	// then ignores the associated data of a call, and Seal refuses it.
	Unbound bool
}

// maxPadding keeps a typing error from filling a disk.
const maxPadding = 1 << 16

// Box seals and opens bytes as Lockbox.new(key: …) does. It is safe for
// concurrent use and prints as "[redacted]".
type Box struct {
	secret.Redacted
	hidden   secret.Pointer[[]version] // the current one first
	shortest int                       // size in bytes of an empty plaintext under the version with the least overhead
}

// version is one set of options, ready for use.
type version struct {
	seal, open cipher.AEAD // nil if a hybrid key is missing
	padding    int
	binds      bool // whether it takes associated data
	unbound    bool
}

// Errors of opening a box. A failed authentication always gives the same error,
// whatever failed inside. The others follow from the ciphertext alone.
var (
	errDecrypt   = fmt.Errorf("lockbox: %w", kmsencrypted.ErrDecrypt)
	errShort     = fmt.Errorf("lockbox: %w: shorter than nonce and tag", kmsencrypted.ErrMalformed)
	errNotBase64 = fmt.Errorf("lockbox: %w: not base64", kmsencrypted.ErrNotCiphertext)
)

// New returns a box under a key of 32 bytes, which it copies. It returns
// [kmsencrypted.ErrConfig] for a key of another size, an unknown algorithm or an
// impossible padding.
func New(key []byte, o Options) (*Box, error) {
	aead, err := newCipher(key, o.Algorithm)
	if err != nil {
		return nil, err
	}
	return newBox(version{seal: aead, open: aead, binds: o.Algorithm != XSalsa20}, o)
}

// NewHybrid returns a box of algorithm hybrid: with only the encryption key it
// can seal but not open. Keys have 64 bytes and are copied. A key may be nil;
// then the operation that needs it returns [kmsencrypted.ErrConfig]. NewHybrid
// returns [kmsencrypted.ErrConfig] if both are nil or the options have another
// algorithm.
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
		private, public int // offsets of the halves
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

// GenerateHybridKeys returns a new pair of keys for [NewHybrid], like
// Lockbox.generate_key_pair.
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

// versions returns nil for a nil or zero Box.
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

// Seal appends the box of plaintext to dst and returns the result. Absent and
// empty associated data are the same. dst must not overlap the other arguments.
// Seal does not reallocate dst if it has room for the plaintext and 40 bytes and
// there is no padding. Padding is made in memory after the box and wiped.
//
// Seal returns [kmsencrypted.ErrConfig] for associated data under [XSalsa20],
// [Hybrid] or [Options.Unbound], and for a missing encryption key. Under one key
// of [AESGCM] seal at most 2^32 boxes.
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

// boxSize returns the size in bytes of the box of a plaintext of n bytes.
func (v *version) boxSize(n int) int {
	if v.padding > 0 {
		n = paddedSize(n, v.padding)
	}
	return n + v.overhead()
}

// behind returns the memory of dst from n bytes after its end. The capacity must
// suffice.
func behind(dst []byte, n int) []byte { return dst[len(dst)+n : len(dst)+n] }

var errBinding = configError("these options have no associated data")

// Open appends to dst the plaintext of box, sealed under the current options or
// any previous ones. dst must not overlap the other arguments. Open returns
// [kmsencrypted.ErrDecrypt] for a box that does not open, whether the key, the
// associated data, the bytes or the padding are wrong, and
// [kmsencrypted.ErrMalformed] for one that is too short. The caller must wipe the
// plaintext.
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

// unseal returns errDecrypt itself if another version may still open the box.
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

// SealText is [Box.Seal] with the box in padded standard base64 without newlines
// (encode: true in Ruby). It makes the box itself in memory after the text.
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

// OpenText is [Box.Open] for a box in base64, decoded as leniently as in Ruby:
// newlines and characters outside base64 are skipped. It returns
// [kmsencrypted.ErrNotCiphertext] for text that has such characters and does not
// open. It decodes the box to memory after the plaintext.
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
