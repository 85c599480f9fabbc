package blindindex

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
)

// MaxSize is the largest size of an index in bytes.
const MaxSize = 32

// MaxPartitions is the largest result of [Options.Partitions].
const MaxPartitions = 256

// Options configure an index. The zero value is blind_index's default: Argon2id,
// 32 bytes, strict Base64, the value as it is. All options but Bits and
// Partitions exist in blind_index too and give the same bytes.
type Options struct {
	// Algorithm computes the hash; nil means [Argon2id]{}, or [PBKDF2]{} if Legacy.
	Algorithm Algorithm
	// Size is the size of the hash in bytes, 1 to 32, with Argon2 4 to 32; 0 means
	// 32. With Argon2 another size gives another hash, not a part of it.
	Size int
	// Bits truncates the index to this many bits, 1 to 256, so that several values
	// share one index value and the column reveals less; 0 does not truncate.
	// [Propose] finds a width. A look-up then also returns rows of other values:
	// open them and compare. It cannot be combined with Size and is not compatible
	// with Ruby.
	//
	// The result is the first Bits bits of the 32-byte hash, in as few bytes as hold
	// them. Spare low bits of the last byte are zero. A narrower index is thus the
	// beginning of a wider one and can be made from it without the plaintext.
	Bits int
	// Encoding is the encoding of the stored column; nil means [Base64].
	Encoding Encoding
	// Expression is applied to each value first, also to values looked up; nil keeps
	// values as they are.
	Expression Expression
	// Partitions returns over how many index values a value is spread, 1 to 256; nil
	// means one for every value. If a frequent value gets as many more as it is more
	// frequent than the rest, the frequency of its index values no longer reveals
	// it. A row gets one of them at random. A look-up searches for all, with one
	// hash each. The function receives the value after the expression. Its result
	// for a value may grow later without changing rows, but must not shrink. A
	// result out of range is [kmsencrypted.ErrConfig] when the value is computed.
	//
	// Equal values then have different columns, so a unique index on the column does
	// not work. It is not compatible with Ruby.
	Partitions func(text string) int
	// Legacy is blind_index's option for indexes from before version 1.0: PBKDF2
	// unless Algorithm is set, and Base64 that ends in a newline.
	Legacy bool
	// InsecureKey allows PBKDF2 to use a key of any length but zero, for indexes
	// from the earliest releases of blind_index. The key is used as it is: if it was
	// configured as hex text, the digits are the key.
	InsecureKey bool
}

// Index computes the values of one index column. It is immutable and safe for
// concurrent use. It keeps its key and never prints it.
//
// With [Argon2id], [Argon2i] and [Scrypt] it computes at most as many hashes at
// once as the process has processors (GOMAXPROCS when the Index was created);
// other calls wait. So a thousand concurrent requests do not take a thousand
// times 4 MiB.
type Index struct {
	secret.Redacted
	name      string
	algorithm string
	// sum holds the key; a closure hides it from every print.
	sum        func(value []byte, partition int) ([]byte, error)
	bits       int
	encode     Encoding
	expression Expression
	partitions func(text string) int
	// slots limits memory-hard calls; nil for other algorithms.
	slots chan struct{}
}

// New returns the index of a column under its own key of 32 bytes, which it
// copies. It returns [kmsencrypted.ErrConfig] for an invalid option or key;
// blind_index reports these only at the first value that is not nil.
func New(key []byte, column string, o Options) (*Index, error) {
	x, err := newIndex(key, column, o)
	if err != nil {
		return nil, fmt.Errorf("blindindex: %s: %w", column, err)
	}
	return x, nil
}

// Derive returns the index of a table's column under a master key, as in
// blind_index. It calls [New] with the key from [MasterKey.IndexKey].
func Derive(master MasterKey, table, column string, o Options) (*Index, error) {
	key, err := master.IndexKey(table, column)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return New(key, column, o)
}

func newIndex(key []byte, column string, o Options) (*Index, error) {
	if column == "" {
		return nil, fmt.Errorf("%w: the column of an index needs a name", kmsencrypted.ErrConfig)
	}
	if o.Bits != 0 && o.Size != 0 {
		return nil, fmt.Errorf("%w: give Bits or Size, not both", kmsencrypted.ErrConfig)
	}
	o = o.withDefaults()
	hasher, err := o.Algorithm.hasher()
	if err != nil {
		return nil, err
	}
	if err := o.check(hasher.minSize); err != nil {
		return nil, err
	}
	if err := checkKey(key, o); err != nil {
		return nil, err
	}
	x := &Index{
		name:       column,
		algorithm:  o.Algorithm.String(),
		bits:       o.Bits,
		encode:     o.Encoding,
		expression: o.Expression,
		partitions: o.Partitions,
	}
	key = slices.Clone(key)
	x.sum = func(value []byte, partition int) ([]byte, error) {
		return hasher.sum(partitionKey(key, partition), value, o.Size)
	}
	if hasher.memoryHard {
		x.slots = make(chan struct{}, runtime.GOMAXPROCS(0))
	}
	return x, nil
}

func (o Options) withDefaults() Options {
	if o.Algorithm == nil {
		o.Algorithm = Argon2id{}
		if o.Legacy {
			o.Algorithm = PBKDF2{}
		}
	}
	if o.Encoding == nil {
		o.Encoding = Base64
		if o.Legacy {
			o.Encoding = base64Line
		}
	}
	o.Size = orDefault(o.Size, MaxSize)
	o.Bits = orDefault(o.Bits, 8*o.Size)
	return o
}

func (o Options) check(minSize int) error {
	for _, limit := range []struct {
		name         string
		n, low, high int
	}{
		{"size in bytes", o.Size, minSize, MaxSize},
		{"bits", o.Bits, 1, 8 * MaxSize},
	} {
		if limit.n < limit.low || limit.n > limit.high {
			return fmt.Errorf("%w: %s must be %d to %d with %s, not %d",
				kmsencrypted.ErrConfig, limit.name, limit.low, limit.high, o.Algorithm, limit.n)
		}
	}
	return nil
}

func checkKey(key []byte, o Options) error {
	if o.InsecureKey {
		if _, ok := o.Algorithm.(PBKDF2); !ok {
			return fmt.Errorf("%w: an insecure key is for PBKDF2 only", kmsencrypted.ErrConfig)
		}
		if len(key) == 0 {
			return fmt.Errorf("%w: the key is empty", kmsencrypted.ErrConfig)
		}
		return nil
	}
	if len(key) != KeySize {
		return fmt.Errorf("%w: the key has %d bytes, not %d", kmsencrypted.ErrConfig, len(key), KeySize)
	}
	return nil
}

// Name returns the name of the index column.
func (x *Index) Name() string {
	if x == nil {
		return ""
	}
	return x.name
}

// Bits returns the width of the index in bits: how many values it can
// distinguish.
func (x *Index) Bits() int {
	if x == nil {
		return 0
	}
	return x.bits
}

// Deterministic reports whether equal values always give equal columns, which is
// so without [Options.Partitions]. A unique index on the column, and a check
// whether a stored column is up to date, need that.
func (x *Index) Deterministic() bool { return x.usable() == nil && x.partitions == nil }

// Compute returns the column to store for a value of a type that [PlaintextOf]
// accepts, after applying the expression. NULL stays NULL; an empty text has an
// index like any other. The value may be long: 1 MB costs a few milliseconds
// more.
//
// Compute returns [ErrValue] for a type without a text, and the errors of the
// expression.
func (x *Index) Compute(value any) (Column, error) {
	p, err := x.express(value)
	if err != nil {
		return Column{}, err
	}
	return x.computeOne(p)
}

// Plaintext returns what is hashed for a value: its text after the expression.
// Two values have the same index if their plaintexts are equal. Compare
// plaintexts to separate the real hits of a look-up from the others.
func (x *Index) Plaintext(value any) (Plaintext, error) { return x.express(value) }

// computeOne returns one of the columns of a value, after the expression. The
// choice needs no secrecy, because the column reveals the partition anyway.
func (x *Index) computeOne(p Plaintext) (Column, error) {
	n, err := x.spread(p)
	if err != nil {
		return Column{}, err
	}
	return x.hash(p, rand.IntN(n))
}

// computeAll returns all columns that computeOne may return.
func (x *Index) computeAll(p Plaintext) ([]Column, error) {
	n, err := x.spread(p)
	if err != nil {
		return nil, err
	}
	columns := make([]Column, n)
	for i := range columns {
		if columns[i], err = x.hash(p, i); err != nil {
			return nil, err
		}
	}
	return columns, nil
}

// spread returns the number of partitions of a value.
func (x *Index) spread(p Plaintext) (int, error) {
	if p.IsNull() || x.partitions == nil {
		return 1, nil
	}
	n := x.partitions(p.Text())
	if n < 1 || n > MaxPartitions {
		return 0, fmt.Errorf("blindindex: %s: %w: partitions must be 1 to %d, not %d", x.name, kmsencrypted.ErrConfig, MaxPartitions, n)
	}
	return n, nil
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Index, which has no key.
func (x *Index) usable() error {
	if x == nil || x.sum == nil {
		return errNoIndex
	}
	return nil
}

var errNoIndex = fmt.Errorf("blindindex: %w: the Index was not made by New or Derive", kmsencrypted.ErrConfig)

func (x *Index) express(value any) (Plaintext, error) {
	if err := x.usable(); err != nil {
		return Plaintext{}, err
	}
	p, err := plaintextOf(value)
	if err == nil && x.expression != nil {
		p, err = x.expression(p)
	}
	if err != nil {
		return Plaintext{}, fmt.Errorf("blindindex: %s: %w", x.name, err)
	}
	return p, nil
}

func (x *Index) hash(p Plaintext, partition int) (Column, error) {
	if p.IsNull() {
		return Column{}, nil
	}
	if x.slots != nil {
		x.slots <- struct{}{}
		defer func() { <-x.slots }()
	}
	hash, err := x.sum([]byte(p.Text()), partition)
	if err != nil {
		return Column{}, fmt.Errorf("blindindex: %s: %s: %w", x.name, x.algorithm, err)
	}
	return x.encode(truncate(hash, x.bits)), nil
}

// truncate keeps the first bits of a hash; it changes the hash.
func truncate(hash []byte, bits int) []byte {
	hash = hash[:(bits+7)/8]
	if spare := -bits & 7; spare != 0 {
		hash[len(hash)-1] &= 0xff << spare
	}
	return hash
}
