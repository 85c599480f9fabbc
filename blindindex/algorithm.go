package blindindex

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/scrypt"

	"github.com/kmsencrypted/kmsencrypted"
)

// Algorithm turns a key and a value into the bytes of an index. It is one of
// [Argon2id], [Argon2i], [PBKDF2], [Scrypt] and [HMAC]. The zero value of each
// has the defaults of blind_index.
//
// In all of them but HMAC, the value is the password and the key is the salt.
type Algorithm interface {
	// hasher checks the parameters. It returns ErrConfig for an invalid one.
	hasher() (hasher, error)
	// String returns the name and the cost of the algorithm, for logs.
	String() string
}

// hasher is an algorithm with its parameters.
type hasher struct {
	sum func(key, value []byte, size int) ([]byte, error)
	// minSize is the smallest output in bytes.
	minSize int
	// whether a call takes so much memory that concurrent calls must be limited
	memoryHard bool
}

// Argon2id is the default: version 0x13, one lane. One value takes about 10 ms
// and 4 MiB. Somebody who gets hold of the index key still needs some hundred
// days of a core to try a thousand million telephone numbers.
type Argon2id struct {
	Slow       bool // 4 passes over 32 MiB, unless Time and MemoryLog2 are set
	Time       int  // passes, 3 to 10; 0 is 3, or 4 if Slow
	MemoryLog2 int  // memory as a power of two in KiB, 3 to 22; 0 is 12 (4 MiB), or 15 (32 MiB) if Slow
}

// Argon2i is the side-channel resistant form of Argon2, version 0x13, one lane.
// It is for columns that already use it.
type Argon2i struct {
	Time       int // passes, 3 to 10; 0 is 3
	MemoryLog2 int // memory as a power of two in KiB, 3 to 22; 0 is 12 (4 MiB)
}

// PBKDF2 is PBKDF2-HMAC-SHA-256. It is for columns that already use it, and for
// processes restricted to FIPS 140, which approves no other slow algorithm here.
// Under GODEBUG=fips140=only an [Options.Size] below 14 fails.
type PBKDF2 struct {
	Slow       bool // 100,000 iterations where Iterations is 0
	Iterations int  // 0 is 10,000
}

// Scrypt is for columns that already use it.
type Scrypt struct {
	N int // cost, a power of two above 1; 0 is 4096
	R int // block size; 0 is 8
	P int // parallelisation; 0 is 1
}

// HMAC is HMAC-SHA-256, about a microsecond a value. Ruby's blind_index does not
// have it.
//
// It is safe only for values that cannot be guessed: random tokens, UUIDs of
// version 4, session ids, digests of keys. Somebody who learns the index key can
// try a million guesses a second on each core, and so read the e-mail addresses,
// telephone numbers, names and birthdays in the column. While the key stays
// secret, HMAC is as good as the other algorithms; the slow ones protect the
// values after the key has leaked. HMAC is never a default.
type HMAC struct{}

// ParseAlgorithm returns the algorithm that blind_index calls by this name:
// "argon2id", "argon2i" or "argon2", "pbkdf2_sha256" or "pbkdf2_hmac", "scrypt";
// and [HMAC] for "hmac_sha256". slow is ignored where the gem ignores it.
// ParseAlgorithm returns [kmsencrypted.ErrConfig] for another name.
func ParseAlgorithm(name string, slow bool) (Algorithm, error) {
	switch name {
	case "argon2id":
		return Argon2id{Slow: slow}, nil
	case "argon2i", "argon2":
		return Argon2i{}, nil
	case "pbkdf2_sha256", "pbkdf2_hmac":
		return PBKDF2{Slow: slow}, nil
	case "scrypt":
		return Scrypt{}, nil
	case "hmac_sha256":
		return HMAC{}, nil
	}
	return nil, fmt.Errorf("blindindex: %w: unknown algorithm %q", kmsencrypted.ErrConfig, name)
}

func (a Argon2id) cost() (time, memoryLog2 int) {
	time, memoryLog2 = 3, 12
	if a.Slow {
		time, memoryLog2 = 4, 15
	}
	return orDefault(a.Time, time), orDefault(a.MemoryLog2, memoryLog2)
}

func (a Argon2i) cost() (time, memoryLog2 int) {
	return orDefault(a.Time, 3), orDefault(a.MemoryLog2, 12)
}

func (p PBKDF2) iterations() int {
	if p.Slow {
		return orDefault(p.Iterations, 100_000)
	}
	return orDefault(p.Iterations, 10_000)
}

func (s Scrypt) cost() (n, r, p int) {
	return orDefault(s.N, 4096), orDefault(s.R, 8), orDefault(s.P, 1)
}

func orDefault(n, zero int) int {
	if n == 0 {
		return zero
	}
	return n
}

// argon2Sum is argon2.IDKey or argon2.Key.
type argon2Sum func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte

func argon2Hasher(sum argon2Sum, time, memoryLog2 int) (hasher, error) {
	// The bounds of blind_index, which took them from RbNaCl.
	if time < 3 || time > 10 {
		return hasher{}, fmt.Errorf("%w: Argon2 time must be 3 to 10, not %d", kmsencrypted.ErrConfig, time)
	}
	if memoryLog2 < 3 || memoryLog2 > 22 {
		return hasher{}, fmt.Errorf("%w: Argon2 memory must be 2^3 to 2^22 KiB, not 2^%d", kmsencrypted.ErrConfig, memoryLog2)
	}
	return hasher{
		sum: func(key, value []byte, size int) ([]byte, error) {
			return sum(value, key, uint32(time), 1<<memoryLog2, 1, uint32(size)), nil
		},
		minSize:    4, // RFC 9106 section 3.1
		memoryHard: true,
	}, nil
}

func (a Argon2id) hasher() (hasher, error) {
	time, memoryLog2 := a.cost()
	return argon2Hasher(argon2.IDKey, time, memoryLog2)
}

func (a Argon2i) hasher() (hasher, error) {
	time, memoryLog2 := a.cost()
	return argon2Hasher(argon2.Key, time, memoryLog2)
}

func (p PBKDF2) hasher() (hasher, error) {
	iterations := p.iterations()
	if iterations < 1 {
		return hasher{}, fmt.Errorf("%w: PBKDF2 needs at least one iteration, not %d", kmsencrypted.ErrConfig, iterations)
	}
	return hasher{
		sum: func(key, value []byte, size int) ([]byte, error) {
			return pbkdf2.Key(sha256.New, string(value), key, iterations, size)
		},
		minSize: 1,
	}, nil
}

// maxScryptMemory in bytes is as much as the largest Argon2 takes. It also keeps
// the parameters far below the overflows that RFC 7914 leaves to the caller.
const maxScryptMemory = 4 << 30

func (s Scrypt) hasher() (hasher, error) {
	n, r, p := s.cost()
	if n < 2 || n&(n-1) != 0 {
		return hasher{}, fmt.Errorf("%w: scrypt's N must be a power of two above 1, not %d", kmsencrypted.ErrConfig, n)
	}
	if r < 1 || p < 1 || r > maxScryptMemory/128/n || p > maxScryptMemory/128/r {
		return hasher{}, fmt.Errorf("%w: scrypt's r=%d p=%d must be positive and stay below 4 GiB of memory", kmsencrypted.ErrConfig, r, p)
	}
	return hasher{
		sum: func(key, value []byte, size int) ([]byte, error) {
			return scrypt.Key(value, key, n, r, p, size)
		},
		minSize:    1,
		memoryHard: true,
	}, nil
}

func (HMAC) hasher() (hasher, error) {
	return hasher{
		sum: func(key, value []byte, size int) ([]byte, error) {
			return hmacSHA256(key, value)[:size], nil
		},
		minSize: 1,
	}, nil
}

func (a Argon2id) String() string {
	time, memoryLog2 := a.cost()
	return fmt.Sprintf("argon2id t=%d m=2^%d KiB", time, memoryLog2)
}

func (a Argon2i) String() string {
	time, memoryLog2 := a.cost()
	return fmt.Sprintf("argon2i t=%d m=2^%d KiB", time, memoryLog2)
}

func (p PBKDF2) String() string {
	return fmt.Sprintf("pbkdf2_sha256 %d iterations", p.iterations())
}

func (s Scrypt) String() string {
	n, r, p := s.cost()
	return fmt.Sprintf("scrypt n=%d r=%d p=%d", n, r, p)
}

func (HMAC) String() string { return "hmac_sha256" }
