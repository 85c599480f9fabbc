package field_test

import (
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/attrencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
)

// Five fields in the forms of the Ruby gems, with an open data key, beside the packages that
// write these forms: a box or an attribute under the key of the record, and five values.

type fiveLockbox struct {
	ID  int64            `db:"id"`
	Key field.Key        `db:"encrypted_kms_key"`
	A   field.Of[string] `db:"a_ciphertext" kms:"lockbox"`
	B   field.Of[string] `db:"b_ciphertext" kms:"lockbox"`
	C   field.Of[string] `db:"c_ciphertext" kms:"lockbox"`
	D   field.Of[string] `db:"d_ciphertext" kms:"lockbox"`
	E   field.Of[string] `db:"e_ciphertext" kms:"lockbox"`
}

type fiveAttrEncrypted struct {
	ID  int64            `db:"id"`
	Key field.Key        `db:"encrypted_kms_key"`
	A   field.Of[string] `db:"encrypted_a" kms:"attr_encrypted"`
	AIV field.Part       `db:"encrypted_a_iv"`
	B   field.Of[string] `db:"encrypted_b" kms:"attr_encrypted"`
	BIV field.Part       `db:"encrypted_b_iv"`
	C   field.Of[string] `db:"encrypted_c" kms:"attr_encrypted"`
	CIV field.Part       `db:"encrypted_c_iv"`
	D   field.Of[string] `db:"encrypted_d" kms:"attr_encrypted"`
	DIV field.Part       `db:"encrypted_d_iv"`
	E   field.Of[string] `db:"encrypted_e" kms:"attr_encrypted"`
	EIV field.Part       `db:"encrypted_e_iv"`
}

func (r *fiveLockbox) id() *int64     { return &r.ID }
func (r *fiveLockbox) columns() []any { return []any{&r.A, &r.B, &r.C, &r.D, &r.E} }
func (r *fiveLockbox) fields() [5]*field.Of[string] {
	return [5]*field.Of[string]{&r.A, &r.B, &r.C, &r.D, &r.E}
}

func (r *fiveAttrEncrypted) id() *int64 { return &r.ID }
func (r *fiveAttrEncrypted) columns() []any {
	return []any{&r.A, &r.B, &r.C, &r.D, &r.E, &r.AIV, &r.BIV, &r.CIV, &r.DIV, &r.EIV}
}
func (r *fiveAttrEncrypted) fields() [5]*field.Of[string] {
	return [5]*field.Of[string]{&r.A, &r.B, &r.C, &r.D, &r.E}
}

// rubyRecord is a pointer to one of the two.
type rubyRecord[R any] interface {
	*R
	id() *int64
	columns() []any
	fields() [5]*field.Of[string]
}

// lockboxLimit returns what seals and what opens five values under a key of their own.
func lockboxLimit(b *testing.B) (seal, open func()) {
	key, texts, opened := limit.Random(32), [5][]byte{}, [5]string{}
	box := func() *lockbox.Box {
		box, err := lockbox.New(key, lockbox.Options{})
		fatal(b, err)
		return box
	}
	seal = func() {
		box := box()
		for i, plaintext := range limit.Plaintexts {
			var err error
			texts[i], err = box.SealText(nil, []byte(plaintext), nil)
			fatal(b, err)
		}
	}
	seal()
	return seal, func() {
		box := box()
		for i, text := range texts {
			plaintext, err := box.OpenText(nil, text, nil)
			fatal(b, err)
			opened[i] = string(plaintext)
		}
	}
}

func attrEncryptedLimit(b *testing.B) (seal, open func()) {
	key, columns, opened := limit.Random(32), [5]attrencrypted.Columns{}, [5]string{}
	attribute := func() *attrencrypted.Attribute {
		attribute, err := attrencrypted.New(key, attrencrypted.Options{})
		fatal(b, err)
		return attribute
	}
	seal = func() {
		attribute := attribute()
		for i, plaintext := range limit.Plaintexts {
			var err error
			columns[i], err = attribute.Encrypt([]byte(plaintext))
			fatal(b, err)
		}
	}
	seal()
	return seal, func() {
		attribute := attribute()
		for i, c := range columns {
			plaintext, err := attribute.Decrypt(c)
			fatal(b, err)
			opened[i] = string(plaintext)
		}
	}
}

func BenchmarkRuby(b *testing.B) {
	b.Run("lockbox", func(b *testing.B) { benchmarkRuby[fiveLockbox](b, 1.9, lockboxLimit) })
	b.Run("attr_encrypted", func(b *testing.B) { benchmarkRuby[fiveAttrEncrypted](b, 2.1, attrEncryptedLimit) })
}

func benchmarkRuby[R any, P rubyRecord[R]](b *testing.B, most float64, formLimit func(*testing.B) (seal, open func())) {
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: newMemoryKey(), Format: kmsencrypted.Ruby}}}.Box()
	fatal(b, err)
	m := newModel[R](b, box, field.Config{Table: "customers"})
	r := P(new(R))
	set := func() {
		for i, f := range r.fields() {
			f.Set(limit.Plaintexts[i])
		}
	}
	*r.id() = 7
	set()
	fatal(b, m.SealNew(b.Context(), r))
	limitSeal, limitOpen := formLimit(b)
	b.Run("seal", func(b *testing.B) {
		against.Limit(b, most, limitSeal, func() {
			set()
			fatal(b, m.Seal(b.Context(), r))
		})
	})
	var stored []any
	for _, c := range r.columns() {
		stored = append(stored, column(b, c.(driver.Valuer)))
	}
	b.Run("open", func(b *testing.B) {
		against.Limit(b, most, limitOpen, func() {
			for i, c := range r.columns() {
				fatal(b, c.(sql.Scanner).Scan(stored[i]))
			}
			fatal(b, m.Open(b.Context(), r))
		})
	})
}

// fatal is must without the time of marking a helper.
func fatal(b *testing.B, err error) {
	if err != nil {
		b.Fatal(err)
	}
}
