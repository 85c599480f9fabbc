package lockbox

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// Options are the options of a codec other than its key. The zero value is
// Lockbox's default: AES-256-GCM without padding.
type Options struct {
	// Algorithm is the algorithm; empty means [lockbox.AESGCM].
	Algorithm lockbox.Algorithm
	// Padding is as in [lockbox.Options].
	Padding int
	// Previous are the codecs of older options (previous_versions: in Ruby), tried in
	// this order on what the codec itself cannot open. Each takes one more pass over
	// the ciphertext.
	Previous []*Codec
	// Unbound is as in [lockbox.Options].
	Unbound bool
	// MaxInMemory is the size in bytes of the largest object that is read or written
	// under an algorithm other than aes-gcm. Such an object takes about twice its size
	// in memory. Zero means 64 MiB.
	MaxInMemory int64
	// TempDir is the folder for the ciphertext of a source that cannot seek and has
	// more than 1 MiB. Empty means [os.TempDir].
	TempDir string
}

const defaultMaxInMemory = 64 << 20

// Codec reads and writes objects. It is safe for concurrent use and prints as
// "[redacted]".
type Codec struct {
	secret.Redacted
	hidden  secret.Pointer[[]version] // the current one first
	tempDir string
}

// version is one set of options, ready for use.
type version struct {
	box     *lockbox.Box
	key     []byte // for aes-gcm, which needs no box; otherwise nil
	padding int
	unbound bool
	limit   int64
}

var (
	errDecrypt = fmt.Errorf("lockbox: file: %w", kmsencrypted.ErrDecrypt)
	errChanged = fmt.Errorf("lockbox: file was changed while it was read: %w", kmsencrypted.ErrDecrypt)
	errShort   = fmt.Errorf("lockbox: file: %w: shorter than nonce and tag", kmsencrypted.ErrMalformed)
	errLarge   = fmt.Errorf("lockbox: file: %w", kmsencrypted.ErrTooLarge)
)

// New returns a codec under a key of 32 bytes, which it copies. It returns
// [kmsencrypted.ErrConfig] for an invalid key or option.
func New(key []byte, o Options) (*Codec, error) {
	box, err := lockbox.New(key, o.box())
	if err != nil {
		return nil, err
	}
	v := version{box: box}
	if o.Algorithm == "" || o.Algorithm == lockbox.AESGCM {
		v.key = slices.Clone(key)
	}
	return newCodec(v, o)
}

// NewHybrid returns a codec of algorithm hybrid, with the keys of
// [lockbox.NewHybrid].
func NewHybrid(encryptionKey, decryptionKey []byte, o Options) (*Codec, error) {
	box, err := lockbox.NewHybrid(encryptionKey, decryptionKey, o.box())
	if err != nil {
		return nil, err
	}
	return newCodec(version{box: box}, o)
}

func (o Options) box() lockbox.Options {
	return lockbox.Options{Algorithm: o.Algorithm, Padding: o.Padding, Unbound: o.Unbound}
}

func newCodec(v version, o Options) (*Codec, error) {
	if o.MaxInMemory < 0 {
		return nil, configError("MaxInMemory is negative")
	}
	v.padding, v.unbound, v.limit = o.Padding, o.Unbound, o.MaxInMemory
	if v.limit == 0 {
		v.limit = defaultMaxInMemory
	}
	versions := []version{v}
	for _, previous := range o.Previous {
		if err := previous.usable(); err != nil {
			return nil, fmt.Errorf("%w, as a previous one", err)
		}
		versions = append(versions, *previous.hidden.Get()...)
	}
	return &Codec{hidden: secret.Hide(versions), tempDir: o.TempDir}, nil
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Codec.
func (c *Codec) usable() error {
	if c == nil || c.hidden.Get() == nil {
		return configError("the Codec was not made by New or NewHybrid")
	}
	return nil
}

func configError(format string, args ...any) error {
	return fmt.Errorf("lockbox: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}

// Seal reads src to its end and writes the object to dst. After an error, what was
// written is not a valid object. Absent and empty associated data are the same.
//
// Seal returns [kmsencrypted.ErrConfig] for associated data that the algorithm does
// not support and for a missing encryption key, and [kmsencrypted.ErrTooLarge] for
// too large a file.
func (c *Codec) Seal(ctx context.Context, dst io.Writer, src io.Reader, associatedData []byte) error {
	if err := c.usable(); err != nil {
		return err
	}
	v := (*c.hidden.Get())[0]
	if v.key != nil {
		return v.sealStream(ctx, dst, src, newNonce(), associatedData)
	}
	plaintext, err := readWhole(ctx, src, v.limit)
	defer clear(plaintext)
	if err != nil {
		return err
	}
	sealed, err := v.box.Seal(nil, plaintext, associatedData)
	if err != nil {
		return err
	}
	return fullio.Write(dst, sealed)
}

// Open reads an object from src to its end, checks it, and only then writes the
// file to dst. If src is an [io.Seeker], Open reads it more than once from its
// current position. If it changes meanwhile, Open fails; what it wrote until then
// is authentic.
//
// Open returns [kmsencrypted.ErrDecrypt] for an object that does not open, whether
// the key, the associated data, the bytes or the padding are wrong. It returns
// [kmsencrypted.ErrMalformed] for an object that is too short,
// [kmsencrypted.ErrConfig] for a missing decryption key, and
// [kmsencrypted.ErrTooLarge] for too large an object.
func (c *Codec) Open(ctx context.Context, dst io.Writer, src io.Reader, associatedData []byte) error {
	if err := c.usable(); err != nil {
		return err
	}
	object, err := c.rewindable(ctx, src, associatedData)
	if err != nil {
		return err
	}
	defer object.close()
	versions := *c.hidden.Get()
	shortest := object.size + 1
	for _, v := range versions {
		shortest = min(shortest, v.overhead())
	}
	if object.size < shortest {
		return errShort
	}
	failed := errDecrypt
	for i, v := range versions {
		open := func() error { return v.open(ctx, dst, object, associatedData) }
		if i == 0 && object.checked != nil {
			open = func() error { return object.checked.open(ctx, dst, object) }
		}
		switch err := open(); err {
		case errDecrypt: // compared by identity: nothing was written yet
		case errLarge: // another version may be aes-gcm, which has no limit
			failed = err
		default:
			return err
		}
	}
	return failed
}

// overhead returns how many bytes a box has in addition to its plaintext: nonce and
// tag.
func (v *version) overhead() int64 {
	if v.key != nil {
		return nonceSize + tagSize
	}
	return 24 + tagSize // the same for all other algorithms
}
