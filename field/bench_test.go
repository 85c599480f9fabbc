package field_test

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// The job of these benchmarks is a record of five strings of 32 bytes, in text columns
// and in binary ones. Package limit has its limit. docs/performance.md says where the
// rest of the time goes.

type five struct {
	ID  int64            `db:"id"`
	Key field.Key        `db:"encrypted_kms_key"`
	A   field.Of[string] `db:"a_ciphertext"`
	B   field.Of[string] `db:"b_ciphertext"`
	C   field.Of[string] `db:"c_ciphertext"`
	D   field.Of[string] `db:"d_ciphertext"`
	E   field.Of[string] `db:"e_ciphertext"`
}

type fiveBinary struct {
	ID  int64            `db:"id"`
	Key field.Key        `db:"encrypted_kms_key"`
	A   field.Of[string] `db:"a_ciphertext" kms:"binary"`
	B   field.Of[string] `db:"b_ciphertext" kms:"binary"`
	C   field.Of[string] `db:"c_ciphertext" kms:"binary"`
	D   field.Of[string] `db:"d_ciphertext" kms:"binary"`
	E   field.Of[string] `db:"e_ciphertext" kms:"binary"`
}

// fiveFields is a pointer to five or fiveBinary.
type fiveFields[R any] interface {
	*R
	isBinary() bool
	id() *int64
	key() *field.Key
	fields() [5]*field.Of[string]
}

func (*five) isBinary() bool       { return false }
func (*fiveBinary) isBinary() bool { return true }

func (r *five) id() *int64      { return &r.ID }
func (r *five) key() *field.Key { return &r.Key }
func (r *five) fields() [5]*field.Of[string] {
	return [5]*field.Of[string]{&r.A, &r.B, &r.C, &r.D, &r.E}
}
func (r *fiveBinary) id() *int64      { return &r.ID }
func (r *fiveBinary) key() *field.Key { return &r.Key }
func (r *fiveBinary) fields() [5]*field.Of[string] {
	return [5]*field.Of[string]{&r.A, &r.B, &r.C, &r.D, &r.E}
}

// newMemoryKey returns a key that wraps in memory with one AES-GCM.
func newMemoryKey() limit.Key { return limit.NewKey() }

func BenchmarkSealRecord(b *testing.B) {
	b.Run("text", func(b *testing.B) { sealRecord[five](b, 3.3) })
	b.Run("binary", func(b *testing.B) { sealRecord[fiveBinary](b, 3.8) })
}

func BenchmarkOpenRecord(b *testing.B) {
	b.Run("text", func(b *testing.B) { openRecord[five](b, 4.2) })
	b.Run("binary", func(b *testing.B) { openRecord[fiveBinary](b, 5.4) })
}

// With an open data key.
func BenchmarkSealFields(b *testing.B) {
	b.Run("text", func(b *testing.B) { sealFields[five](b, 1.95) })
	b.Run("binary", func(b *testing.B) { sealFields[fiveBinary](b, 2.2) })
}

func BenchmarkOpenFields(b *testing.B) {
	b.Run("text", func(b *testing.B) { openFields[five](b, 1.9) })
	b.Run("binary", func(b *testing.B) { openFields[fiveBinary](b, 3.0) })
}

func sealRecord[R any, P fiveFields[R]](b *testing.B, most float64) {
	kek, binary := limit.GCM(limit.Random(32)), P(nil).isBinary()
	m, _ := sealedFive[R, P](b)
	against.Limit(b, most, func() {
		c, _ := limit.Wrap(kek, 7, binary)
		c.Seal()
	}, func() {
		r := newFive[R, P]()
		setFive(r)
		if err := m.Seal(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	})
}

func openRecord[R any, P fiveFields[R]](b *testing.B, most float64) {
	kek, binary := limit.GCM(limit.Random(32)), P(nil).isBinary()
	c, wrapped := limit.Wrap(kek, 7, binary)
	limitColumns := c.Seal()
	m, r := sealedFive[R, P](b)
	key, columns := column(b, r.key()), columnsOf[R](b, r)
	against.Limit(b, most, func() {
		c, err := limit.Unwrap(kek, wrapped, 7, binary)
		if err == nil {
			_, err = c.Open(limitColumns)
		}
		if err != nil {
			b.Fatal(err)
		}
	}, func() {
		openedFive[R, P](b, m, key, columns)
	})
}

func sealFields[R any, P fiveFields[R]](b *testing.B, most float64) {
	c := limit.NewCipher(limit.Random(32), limit.Random(8), P(nil).isBinary())
	m, r := sealedFive[R, P](b)
	against.Limit(b, most, func() { c.Seal() }, func() {
		setFive[R](r)
		if err := m.Seal(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	})
}

func openFields[R any, P fiveFields[R]](b *testing.B, most float64) {
	c := limit.NewCipher(limit.Random(32), limit.Random(8), P(nil).isBinary())
	limitColumns := c.Seal()
	m, r := sealedFive[R, P](b)
	columns := columnsOf[R](b, r)
	against.Limit(b, most, func() {
		if _, err := c.Open(limitColumns); err != nil {
			b.Fatal(err)
		}
	}, func() {
		scanFive[R](b, r, columns)
		if err := m.Open(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkOpenCached opens a record whose data key is in the cache. Its limit is
// opening the fields of a record whose key is open.
func BenchmarkOpenCached(b *testing.B) {
	box, err := kmsencrypted.Config{
		Current: 1, Cache: &kmsencrypted.CacheConfig{},
		Versions: map[int]kmsencrypted.Version{1: {Provider: newMemoryKey()}},
	}.Box()
	if err != nil {
		b.Fatal(err)
	}
	m := newModel[five](b, box, field.Config{Table: "customers"})
	r := newFive[five]()
	setFive(r)
	if err := m.Seal(b.Context(), r); err != nil {
		b.Fatal(err)
	}
	key, columns := column(b, r.Key), columnsOf(b, r)
	against.Limit(b, 2.3, func() {
		scanFive(b, r, columns)
		if err := m.Open(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}, func() {
		openedFive[five](b, m, key, columns)
	})
}

// newFive returns a new record.
func newFive[R any, P fiveFields[R]]() P {
	r := P(new(R))
	*r.id() = 7
	return r
}

func sealedFive[R any, P fiveFields[R]](b testing.TB) (*field.Model[R], P) {
	b.Helper()
	m := newModel[R](b, nativeBox(b, kmsencrypted.Version{Provider: newMemoryKey()}), field.Config{Table: "customers"})
	r := newFive[R, P]()
	setFive[R](r)
	if err := m.Seal(b.Context(), r); err != nil {
		b.Fatal(err)
	}
	return m, r
}

// openedFive reads a record from its columns and opens it.
func openedFive[R any, P fiveFields[R]](b *testing.B, m *field.Model[R], key any, columns [5]any) {
	read := newFive[R, P]()
	if err := read.key().Scan(key); err != nil {
		b.Fatal(err)
	}
	scanFive[R](b, read, columns)
	if err := m.Open(b.Context(), read); err != nil {
		b.Fatal(err)
	}
}

func setFive[R any, P fiveFields[R]](r P) {
	for i, f := range r.fields() {
		f.Set(limit.Plaintexts[i])
	}
}

func columnsOf[R any, P fiveFields[R]](b *testing.B, r P) (columns [5]any) {
	for i, f := range r.fields() {
		columns[i] = column(b, f)
	}
	return columns
}

func scanFive[R any, P fiveFields[R]](b *testing.B, r P, columns [5]any) {
	for i, f := range r.fields() {
		if err := f.Scan(columns[i]); err != nil {
			b.Fatal(err)
		}
	}
}
