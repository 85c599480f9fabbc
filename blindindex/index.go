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

// MaxPartitions is the largest answer of [Options.Partitions].
const MaxPartitions = 256

// Options say how an index is computed. The zero value is blind_index's default:
// Argon2id, 32 bytes, strict Base64, the value as it is. All options but Bits
// and Partitions have their like in blind_index and give the same bytes.
type Options struct {
	// Algorithm; nil is [Argon2id]{}, or [PBKDF2]{} if Legacy.
	Algorithm Algorithm
	// Size of the hash in bytes, 1 to 32, with Argon2 4 to 32; 0 is 32. With
	// Argon2 another size is another hash, not a part of it.
	Size int
	// Bits truncates the index to this many bits, 1 to 256, so that several
	// values share one and the column tells less; 0 does not. [Propose] finds a
	// width. A look-up then returns rows of other values too: open them and
	// compare. Not with Size, and not for Ruby.
	//
	// The form: of the 32-byte hash the first Bits bits, in as few bytes as hold
	// them, spare low bits of the last byte zero. A narrower index is thus the
	// head of a wider one and can be made from it without the plaintext.
	Bits int
	// Encoding of the stored column; nil is [Base64].
	Encoding Encoding
	// Expression is applied to each value first, those looked up included; nil
	// takes values as they are.
	Expression Expression
	// Partitions says over how many index values a value is spread, 1 to 256; nil
	// is one for every value. Give frequent values as many more as they are more
	// frequent than the rest, and how often an index value occurs no longer tells
	// them from others. A row gets one of them at random; a look-up searches for
	// all, at a hash each. The function sees the value after the expression. For a
	// given value its answer may grow later without touching rows, but not shrink;
	// one out of range is [kmsencrypted.ErrConfig] when the value is computed.
	//
	// Equal values then have different columns, so a unique index on the column
	// means nothing. Not for Ruby.
	Partitions func(text string) int
	// Legacy is blind_index's option for indexes from before version 1.0: PBKDF2
	// unless Algorithm says otherwise, and Base64 that ends in a newline.
	Legacy bool
	// InsecureKey lets PBKDF2 use a key of any length but zero, for indexes from
	// the earliest releases of blind_index. Such a key is taken as it is: if it
	// was configured as hex text, the digits are the key.
	InsecureKey bool
}

// Index computes the values of one index column. It is immutable and safe for
// concurrent use; it keeps its key and prints without it.
//
// With [Argon2id], [Argon2i] and [Scrypt] no more hashes are computed at a time
// than the process has processors (GOMAXPROCS when the Index was made); further
// calls wait. A thousand requests at once thus do not take a thousand times 4 MiB.
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
	// slots limits memory-hard calls; nil for the others.
	slots chan struct{}
}

// New makes the index of a column from its own key: 32 bytes, which are copied.
// Mistakes in the options or the key are [kmsencrypted.ErrConfig], whatever
// value is computed later; blind_index notices them at the first value that is
// not nil.
func New(key []byte, column string, o Options) (*Index, error) {
	x, err := newIndex(key, column, o)
	if err != nil {
		return nil, fmt.Errorf("blindindex: %s: %w", column, err)
	}
	return x, nil
}

// Derive makes the index of a table's column under a master key, as blind_index
// does: [New] with the key from [MasterKey.IndexKey].
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

// Name is the name of the index column.
func (x *Index) Name() string { return x.name }

// Bits is the width of the index in bits: how much of a value it can tell apart.
func (x *Index) Bits() int { return x.bits }

// Deterministic reports whether equal values always give equal columns: whether
// there are no [Options.Partitions]. A unique index on the column and a check
// whether a stored column is up to date need that.
func (x *Index) Deterministic() bool { return x.partitions == nil }

// Compute returns the column to store for a value: what [PlaintextOf] takes, put
// through the expression. NULL stays NULL; an empty text has an index as any
// other. The value may be long: 1 MB costs a few milliseconds more.
//
// Errors are [ErrValue] for a type without a text, and those of the expression.
func (x *Index) Compute(value any) (Column, error) {
	p, err := x.express(value)
	if err != nil {
		return Column{}, err
	}
	return x.computeOne(p)
}

// Plaintext returns what is hashed for a value: its text after the expression.
// Two values have the same index if their plaintexts are equal; compare these
// to tell real hits of a look-up from others.
func (x *Index) Plaintext(value any) (Plaintext, error) { return x.express(value) }

// computeOne returns one of the columns of a value that was put through the
// expression. Nothing secret rests on the choice: whoever sees the column sees
// the partitions anyway.
func (x *Index) computeOne(p Plaintext) (Column, error) {
	n, err := x.spread(p)
	if err != nil {
		return Column{}, err
	}
	return x.hash(p, rand.IntN(n))
}

// computeAll returns all columns that computeOne may give.
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

// spread is the number of a value's partitions.
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

// errNoIndex: a nil or zero Index has no key.
var errNoIndex = fmt.Errorf("blindindex: %w: the Index was not made by New or Derive", kmsencrypted.ErrConfig)

func (x *Index) express(value any) (Plaintext, error) {
	if x == nil || x.sum == nil {
		return Plaintext{}, errNoIndex
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
