package attrencrypted

import (
	"bytes"
	"crypto/fips140"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// Mode says where the key and the iv of a value come from.
type Mode int

const (
	// PerAttributeIV, the default: the key itself, and an iv for each value in a
	// column of its own.
	PerAttributeIV Mode = iota
	// PerAttributeIVAndSalt derives a key for each value from a salt in a third
	// column: PBKDF2-HMAC-SHA1 of key and salt, 2000 iterations. The key may be
	// longer than the algorithm's.
	PerAttributeIVAndSalt
	// InsecureSingleIVAndSalt is what attr_encrypted 1.x did (insecure_mode):
	// key and iv both come from the key, of any length, so that equal values have
	// equal ciphertexts. With a GCM algorithm whoever sees two values of an
	// attribute can forge others. (OpenSSL's EVP_BytesToKey with MD5, no salt,
	// 2048 iterations.)
	InsecureSingleIVAndSalt
)

// Options are the options of an attribute beside its key. The zero value is
// attr_encrypted's default in ActiveRecord.
type Options struct {
	Mode Mode
	// Algorithm is aes-256-gcm (if empty), aes-192-gcm, aes-128-gcm,
	// aes-256-cbc, aes-192-cbc or aes-128-cbc.
	Algorithm string
	// AuthData is authenticated beside the value by GCM algorithms (auth_data).
	AuthData []byte
	// Iterations of PBKDF2; zero is 2000 (hmac_iterations).
	Iterations int
	// The encodings of the columns. Outside ActiveRecord the gem leaves the value
	// raw by default.
	Value, IV, Salt Encoding
	// AllowEmptyValue encrypts empty values instead of storing them as they are,
	// which works with Marshal alone: Ruby cannot encrypt an empty plaintext.
	AllowEmptyValue bool
	// Marshal writes values in Ruby's Marshal format instead of as text.
	Marshal bool
	// ZeroIV reads what encryptor 2.0.0 wrote with GCM: whatever it put into the
	// iv column, it encrypted with an iv of zeros. Encrypting so is refused.
	ZeroIV bool
}

// Columns are the contents of the columns of one value as they are stored. Nil
// is NULL; for a column that the mode does not have it is all there is.
type Columns struct {
	Value []byte // encrypted_<name>
	IV    []byte // encrypted_<name>_iv
	Salt  []byte // encrypted_<name>_salt
}

const (
	defaultIterations = 2000
	saltSize          = 16
	// saltMark begins an encoded salt. A salt without it is raw.
	saltMark = '_'
)

// Attribute encrypts and decrypts the values of one attribute. It is safe for
// concurrent use and prints as "[redacted]".
type Attribute struct {
	secret.Redacted
	options   Options
	algorithm algorithm
	hidden    secret.Pointer[keys]
	fill      func([]byte) // makes ivs and salts; nil is the system's random source, else it is a test's
}

// keys is what an attribute must not show.
type keys struct {
	key      []byte // for derivation
	scheme   scheme // ready for use, unless a salt has to come first
	singleIV []byte // of InsecureSingleIVAndSalt
}

func (a *Attribute) keys() *keys { return a.hidden.Get() }

var errDecrypt = fmt.Errorf("attrencrypted: %w", kmsencrypted.ErrDecrypt)

// New returns an attribute under a key, which it copies. The key has exactly the
// length of the algorithm's (32 bytes for aes-256-gcm), at least that for
// [PerAttributeIVAndSalt], and any but zero for [InsecureSingleIVAndSalt]. A
// wrong length and impossible options are [kmsencrypted.ErrConfig].
func New(key []byte, o Options) (*Attribute, error) { return newAttribute(key, o, nil) }

func newAttribute(key []byte, o Options, fill func([]byte)) (*Attribute, error) {
	if o.Algorithm == "" {
		o.Algorithm = "aes-256-gcm"
	}
	if o.Iterations == 0 {
		o.Iterations = defaultIterations
	}
	o.AuthData = bytes.Clone(o.AuthData)
	algorithm, ok := algorithms[o.Algorithm]
	if !ok {
		return nil, configError("unknown algorithm %q", o.Algorithm)
	}
	if err := o.check(algorithm); err != nil {
		return nil, err
	}
	a := &Attribute{options: o, algorithm: algorithm, hidden: secret.Hide(keys{key: bytes.Clone(key)}), fill: fill}
	var err error
	switch o.Mode {
	case PerAttributeIV:
		if len(key) != algorithm.keySize {
			return nil, configError("a key of %d bytes, %s takes %d", len(key), o.Algorithm, algorithm.keySize)
		}
		a.keys().scheme, err = a.newScheme(key, fill)
	case PerAttributeIVAndSalt:
		if len(key) < algorithm.keySize {
			return nil, configError("a key of %d bytes, %s takes at least %d", len(key), o.Algorithm, algorithm.keySize)
		}
	case InsecureSingleIVAndSalt:
		if len(key) == 0 {
			return nil, configError("no key")
		}
		err = a.deriveSingle(key)
	default:
		return nil, configError("unknown mode %d", o.Mode)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (o *Options) check(a algorithm) error {
	switch {
	case o.Iterations < 1:
		return configError("%d iterations", o.Iterations)
	case o.ZeroIV && (!a.gcm || o.Mode == InsecureSingleIVAndSalt):
		return configError("an iv of zeros: encryptor 2.0.0 wrote it with GCM and an iv column")
	case len(o.AuthData) > 0 && !a.gcm:
		return configError("%s has no associated data", o.Algorithm)
	}
	for _, e := range []Encoding{o.Value, o.IV, o.Salt} {
		if _, ok := encodings[e]; !ok {
			return configError("unknown encoding %d", e)
		}
	}
	return nil
}

// configError is [kmsencrypted.ErrConfig] with what is wrong.
func configError(format string, args ...any) error {
	return fmt.Errorf("attrencrypted: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}

func malformed(text string) error {
	return fmt.Errorf("attrencrypted: %w: %s", kmsencrypted.ErrMalformed, text)
}

// deriveSingle derives the one key and iv of all values.
func (a *Attribute) deriveSingle(key []byte) (err error) {
	if fips140.Enforced() {
		return configError("MD5 is not approved: this mode does not work with fips140=only")
	}
	derived := bytesToKey(key, a.algorithm.keySize+a.algorithm.ivSize())
	a.keys().singleIV = derived[a.algorithm.keySize:]
	a.keys().scheme, err = a.newScheme(derived[:a.algorithm.keySize], func(iv []byte) { copy(iv, a.keys().singleIV) })
	return err
}

// bytesToKey is OpenSSL's EVP_BytesToKey with MD5, 2048 iterations and no salt:
// each block of 16 bytes is the digest of the one before and the key, digested
// again 2047 times.
func bytesToKey(key []byte, size int) []byte {
	const iterations = 2048
	var out, block []byte
	for len(out) < size {
		digest := md5.Sum(append(block, key...))
		for range iterations - 1 {
			digest = md5.Sum(digest[:])
		}
		block = digest[:]
		out = append(out, block...)
	}
	return out[:size]
}

// salted is the scheme under the key that belongs to a salt.
func (a *Attribute) salted(salt []byte) (scheme, error) {
	key, err := pbkdf2.Key(sha1.New, string(a.keys().key), salt, a.options.Iterations, a.algorithm.keySize)
	if err != nil {
		return nil, configError("%w", err)
	}
	defer clear(key)
	return a.newScheme(key, a.fill)
}

// Encrypt returns the columns of a plaintext. Nil gives NULL in all columns and
// the empty plaintext an empty value column, as in Ruby; with
// [Options.AllowEmptyValue] both are refused with [kmsencrypted.ErrConfig],
// because Ruby cannot encrypt them, as is everything under [Options.ZeroIV].
func (a *Attribute) Encrypt(plaintext []byte) (Columns, error) {
	switch {
	case len(plaintext) == 0 && a.options.AllowEmptyValue:
		return Columns{}, configError("an empty plaintext cannot be encrypted so that Ruby reads it")
	case len(plaintext) == 0:
		return Columns{Value: plaintext}, nil
	case a.options.ZeroIV:
		return Columns{}, configError("an iv of zeros is for reading only")
	}
	var columns Columns
	scheme := a.keys().scheme
	if a.options.Mode == PerAttributeIVAndSalt {
		salt := make([]byte, saltSize)
		if a.fill == nil {
			random(salt)
		} else {
			a.fill(salt)
		}
		var err error
		if scheme, err = a.salted(salt); err != nil {
			return Columns{}, err
		}
		columns.Salt = a.encodeSalt(salt)
	}
	iv, value := scheme.seal(plaintext)
	if a.options.Mode != InsecureSingleIVAndSalt {
		columns.IV = encodings[a.options.IV].encode(iv)
	}
	columns.Value = encodings[a.options.Value].encode(value)
	return columns, nil
}

// Decrypt returns the plaintext of a value: nil for NULL and the empty one for an
// empty column, whatever the other columns hold. What does not decrypt is
// [kmsencrypted.ErrDecrypt]; a value or an iv of an impossible length, or in the
// wrong encoding, is [kmsencrypted.ErrMalformed]. The caller wipes the plaintext.
func (a *Attribute) Decrypt(c Columns) ([]byte, error) {
	if len(c.Value) == 0 {
		return c.Value, nil
	}
	value, err := encodings[a.options.Value].decode(c.Value)
	if err != nil {
		return nil, err
	}
	iv, err := a.iv(c)
	if err != nil {
		return nil, err
	}
	scheme, err := a.schemeFor(c)
	if err != nil {
		return nil, err
	}
	return scheme.open(iv, value)
}

// iv is the iv of a value.
func (a *Attribute) iv(c Columns) ([]byte, error) {
	switch {
	case a.keys().singleIV != nil:
		return a.keys().singleIV, nil
	case a.options.ZeroIV:
		return make([]byte, a.algorithm.ivSize()), nil
	case len(c.IV) == 0:
		return nil, malformed("no iv beside the value")
	}
	iv, err := encodings[a.options.IV].decode(c.IV)
	if err != nil {
		return nil, err
	}
	if len(iv) != a.algorithm.ivSize() {
		return nil, malformed(fmt.Sprintf("an iv of %d bytes, not %d", len(iv), a.algorithm.ivSize()))
	}
	return iv, nil
}

// schemeFor is the scheme for a value. A value without a salt was written before
// the attribute had one: its key is the attribute's own.
func (a *Attribute) schemeFor(c Columns) (scheme, error) {
	switch {
	case a.keys().scheme != nil:
		return a.keys().scheme, nil
	case len(c.Salt) > 0:
		salt, err := a.decodeSalt(c.Salt)
		if err != nil {
			return nil, err
		}
		return a.salted(salt)
	case len(a.keys().key) != a.algorithm.keySize:
		return nil, malformed("no salt beside the value")
	}
	return a.newScheme(a.keys().key, a.fill)
}

func (a *Attribute) encodeSalt(salt []byte) []byte {
	if a.options.Salt == Raw {
		return salt
	}
	return append([]byte{saltMark}, encodings[a.options.Salt].encode(salt)...)
}

func (a *Attribute) decodeSalt(column []byte) ([]byte, error) {
	if a.options.Salt == Raw || column[0] != saltMark {
		return column, nil
	}
	return encodings[a.options.Salt].decode(column[1:])
}
