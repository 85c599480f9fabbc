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

// Mode determines how the key and the iv of a value are made.
type Mode int

const (
	// PerAttributeIV, the default, uses the key itself, and an iv for each value in
	// a column of its own.
	PerAttributeIV Mode = iota
	// PerAttributeIVAndSalt derives a key for each value from a salt in a third
	// column: PBKDF2-HMAC-SHA1 of key and salt, 2000 iterations. The key may be
	// longer than the algorithm's.
	PerAttributeIVAndSalt
	// InsecureSingleIVAndSalt is the mode of attr_encrypted 1.x (insecure_mode). Key
	// and iv are both derived from the key, which may have any length, so equal
	// values have equal ciphertexts. With a GCM algorithm, somebody who sees two
	// values of an attribute can forge others. (The derivation is OpenSSL's
	// EVP_BytesToKey with MD5, no salt, 2048 iterations.)
	InsecureSingleIVAndSalt
)

// Options are the options of an attribute other than its key. The zero value is
// attr_encrypted's default in ActiveRecord.
type Options struct {
	Mode Mode
	// Algorithm is aes-256-gcm (if empty), aes-192-gcm, aes-128-gcm,
	// aes-256-cbc, aes-192-cbc or aes-128-cbc.
	Algorithm string
	// AuthData is authenticated together with the value by GCM algorithms
	// (auth_data).
	AuthData []byte
	// Iterations is the number of iterations of PBKDF2; zero means 2000
	// (hmac_iterations).
	Iterations int
	// Value, IV and Salt are the encodings of the columns. Outside ActiveRecord the
	// gem stores the value raw by default.
	Value, IV, Salt Encoding
	// AllowEmptyValue encrypts empty values instead of storing them as they are. It
	// works only with Marshal, because Ruby cannot encrypt an empty plaintext.
	AllowEmptyValue bool
	// Marshal writes values in Ruby's Marshal format instead of as text.
	Marshal bool
	// ZeroIV reads what encryptor 2.0.0 wrote with GCM: it always encrypted with an
	// iv of zeros and ignored the iv column. Encrypting in this way is refused.
	ZeroIV bool
}

// Columns are the stored columns of one value. Nil is NULL. A column that the
// mode does not have is always nil.
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
	fill      func([]byte) // makes ivs and salts; nil means the system's random source, tests set it
}

// keys are what an attribute must not print.
type keys struct {
	key      []byte // for derivation
	scheme   scheme // nil if each value has a salt
	singleIV []byte // of InsecureSingleIVAndSalt
}

func (a *Attribute) keys() *keys { return a.hidden.Get() }

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Attribute.
func (a *Attribute) usable() error {
	if a == nil || a.keys() == nil {
		return configError("the Attribute was not made by New")
	}
	return nil
}

var errDecrypt = fmt.Errorf("attrencrypted: %w", kmsencrypted.ErrDecrypt)

// New returns an attribute under a key, which it copies. The key must have
// exactly the length of the algorithm's key (32 bytes for aes-256-gcm), at least
// that for [PerAttributeIVAndSalt], and any length but zero for
// [InsecureSingleIVAndSalt]. New returns [kmsencrypted.ErrConfig] for a key of a
// wrong length or impossible options.
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
		return configError("ZeroIV needs a GCM algorithm and an iv column, as encryptor 2.0.0 used")
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

// configError returns [kmsencrypted.ErrConfig] with a reason.
func configError(format string, args ...any) error {
	return fmt.Errorf("attrencrypted: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}

func malformed(text string) error {
	return fmt.Errorf("attrencrypted: %w: %s", kmsencrypted.ErrMalformed, text)
}

// deriveSingle derives the key and the iv that all values share.
func (a *Attribute) deriveSingle(key []byte) (err error) {
	if fips140.Enforced() {
		return configError("this mode needs MD5, which fips140=only does not allow")
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

// salted returns the scheme under the key for a salt.
func (a *Attribute) salted(salt []byte) (scheme, error) {
	key, err := pbkdf2.Key(sha1.New, string(a.keys().key), salt, a.options.Iterations, a.algorithm.keySize)
	if err != nil {
		return nil, configError("%w", err)
	}
	defer clear(key)
	return a.newScheme(key, a.fill)
}

// Encrypt returns the columns of a plaintext. As in Ruby, nil gives NULL in all
// columns and the empty plaintext an empty value column. Encrypt returns
// [kmsencrypted.ErrConfig] for both under [Options.AllowEmptyValue], because Ruby
// cannot encrypt them, and for everything under [Options.ZeroIV].
func (a *Attribute) Encrypt(plaintext []byte) (Columns, error) {
	if err := a.usable(); err != nil {
		return Columns{}, err
	}
	switch {
	case len(plaintext) == 0 && a.options.AllowEmptyValue:
		return Columns{}, configError("an empty plaintext cannot be encrypted so that Ruby reads it")
	case len(plaintext) == 0:
		return Columns{Value: plaintext}, nil
	case a.options.ZeroIV:
		return Columns{}, configError("ZeroIV is for reading only")
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

// Decrypt returns the plaintext of a value: nil for NULL and the empty plaintext
// for an empty column, whatever the other columns hold. It returns
// [kmsencrypted.ErrDecrypt] if a value does not decrypt, and
// [kmsencrypted.ErrMalformed] for a value or iv of an impossible length or in the
// wrong encoding. The caller must wipe the plaintext.
func (a *Attribute) Decrypt(c Columns) ([]byte, error) {
	if err := a.usable(); err != nil {
		return nil, err
	}
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

// iv returns the iv of a value.
func (a *Attribute) iv(c Columns) ([]byte, error) {
	switch {
	case a.keys().singleIV != nil:
		return a.keys().singleIV, nil
	case a.options.ZeroIV:
		return make([]byte, a.algorithm.ivSize()), nil
	case len(c.IV) == 0:
		return nil, malformed("the iv is missing")
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

// schemeFor returns the scheme for a value. A value without a salt was written
// before the attribute had one: its key is the attribute's own.
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
		return nil, malformed("the salt is missing")
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
