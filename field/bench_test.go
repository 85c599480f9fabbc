package field_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/mac"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
)

// The job of these benchmarks is a record of five strings of 32 bytes. Its limit
// does the least that gives the same outputs, with the standard library alone: a
// random key, one wrap in memory, one key schedule, five seals with associated
// data, base64 text. Its columns have the very layout of ours: TestNativeLimit
// opens them. docs/performance.md says where the rest of the time goes.

type five struct {
	ID  int64            `db:"id"`
	Key field.Key        `db:"encrypted_kms_key"`
	A   field.Of[string] `db:"a_ciphertext"`
	B   field.Of[string] `db:"b_ciphertext"`
	C   field.Of[string] `db:"c_ciphertext"`
	D   field.Of[string] `db:"d_ciphertext"`
	E   field.Of[string] `db:"e_ciphertext"`
}

func (r *five) fields() [5]*field.Of[string] {
	return [5]*field.Of[string]{&r.A, &r.B, &r.C, &r.D, &r.E}
}

var (
	plaintexts = [5]string{"ada@example.org, forwarded to me", "+44 20 7946 0958 (after 5 pm onl", "12 St James's Square, London SW1", "GB29 NWBK 6016 1331 9268 19 acct", "notes that have thirty-two bytes"}
	limitADs   = [5][]byte{limitAD("a_ciphertext"), limitAD("b_ciphertext"), limitAD("c_ciphertext"), limitAD("d_ciphertext"), limitAD("e_ciphertext")}
)

// limitAD is the associated data of a column (spec/native.md section 5.2).
func limitAD(column string) []byte {
	item := func(ad []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint32(ad, uint32(len(s))), s...)
	}
	ad := append(item(nil, "kmsencrypted/1 field"), 0xC1)
	return item(item(item(ad, "customers"), column), "string")
}

// limitCipher is a cipher in hand, and how its columns begin.
type limitCipher struct {
	cipher.AEAD
	head [9]byte
}

func newLimitCipher(key []byte, tag []byte) limitCipher {
	c := limitCipher{AEAD: gcm(key), head: [9]byte{0xC1}}
	copy(c.head[1:], tag)
	return c
}

// memoryKey wraps in memory with one AES-GCM, as the limit does.
type memoryKey struct{ aead cipher.AEAD }

func newMemoryKey() memoryKey { return memoryKey{aead: gcm(random(32))} }

func (memoryKey) Info() kmsencrypted.KeyInfo {
	return kmsencrypted.KeyInfo{Provider: "memory", KeyID: "bench", Tag: "memory"}
}

func (memoryKey) InMemory() {}

func (k memoryKey) Encrypt(_ context.Context, plaintext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	return k.aead.Seal(nil, nil, plaintext, ec.Bytes()), nil
}

func (k memoryKey) Decrypt(_ context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	return k.aead.Open(nil, nil, ciphertext, ec.Bytes())
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func limitWrap(kek cipher.AEAD, id int) (c limitCipher, column string) {
	key := random(32)
	return newLimitCipher(key, nil), "v1:" + base64.StdEncoding.EncodeToString(kek.Seal(nil, nil, key, fmt.Appendf(nil, `{"model_id":"%d","model_name":"customers"}`, id)))
}

func limitSeal(c limitCipher) (columns [5]string) {
	var room [128]byte
	for i, text := range plaintexts {
		sealed := append(room[:0], c.head[:]...)
		columns[i] = base64.StdEncoding.EncodeToString(c.Seal(sealed, nil, []byte(text), limitADs[i]))
	}
	return columns
}

func limitUnwrap(kek cipher.AEAD, column string, id int) limitCipher {
	wrapped, _ := base64.StdEncoding.DecodeString(column[3:])
	key, err := kek.Open(nil, nil, wrapped, fmt.Appendf(nil, `{"model_id":"%d","model_name":"customers"}`, id))
	if err != nil {
		panic(err)
	}
	return newLimitCipher(key, nil)
}

func limitOpen(c limitCipher, columns [5]string) (texts [5]string) {
	for i, column := range columns {
		sealed, _ := base64.StdEncoding.DecodeString(column)
		if !bytes.HasPrefix(sealed, c.head[:]) {
			panic("of another key")
		}
		plaintext, err := c.Open(nil, nil, sealed[len(c.head):], limitADs[i])
		if err != nil {
			panic(err)
		}
		texts[i] = string(plaintext)
	}
	return texts
}

// The limit is one of the same job: with the keys that a data key gives, its
// columns are ours.
func TestNativeLimit(t *testing.T) {
	m, r := sealedFive(t)
	key, err := m.Adapter().DataKeys(t.Context(), "encrypted_kms_key", &r)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key[0].Raw()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := mac.Expand(raw, "kmsencrypted/1 record", 64)
	if err != nil {
		t.Fatal(err)
	}
	limit := newLimitCipher(keys[:32], keys[32:40])
	read := five{ID: 7}
	columns := limitSeal(limit)
	must(t, read.Key.Scan(column(t, r.Key)))
	for i, f := range read.fields() {
		must(t, f.Scan(columns[i]))
	}
	must(t, m.Open(t.Context(), &read))
	var ours [5]string
	for i, f := range read.fields() {
		if got, err := f.Get(); got != plaintexts[i] || err != nil {
			t.Errorf("column %d of the limit opens as %q, %v", i, got, err)
		}
		ours[i] = column(t, r.fields()[i]).(string)
	}
	if got := limitOpen(limit, ours); got != plaintexts {
		t.Errorf("the limit opens our columns as %q", got)
	}
}

func BenchmarkSealRecord(b *testing.B) {
	kek := gcm(random(32))
	m := newModel[five](b, nativeBox(b, kmsencrypted.Version{Provider: newMemoryKey()}), field.Config{Table: "customers"})
	against.Limit(b, 3.0, func() {
		c, _ := limitWrap(kek, 7)
		limitSeal(c)
	}, func() {
		r := five{ID: 7}
		r.set()
		if err := m.Seal(b.Context(), &r); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkOpenRecord(b *testing.B) {
	kek := gcm(random(32))
	c, wrapped := limitWrap(kek, 7)
	limitColumns := limitSeal(c)
	m, r := sealedFive(b)
	key, columns := column(b, r.Key), r.columns(b)
	against.Limit(b, 3.0, func() {
		limitOpen(limitUnwrap(kek, wrapped, 7), limitColumns)
	}, func() {
		read := five{ID: 7}
		if err := read.Key.Scan(key); err != nil {
			b.Fatal(err)
		}
		read.scan(b, columns)
		if err := m.Open(b.Context(), &read); err != nil {
			b.Fatal(err)
		}
	})
}

// With the cipher in hand: the record's data key is open.
func BenchmarkSealFields(b *testing.B) {
	c := newLimitCipher(random(32), random(8))
	m, r := sealedFive(b)
	against.Limit(b, 1.35, func() { limitSeal(c) }, func() {
		r.set()
		if err := m.Seal(b.Context(), &r); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkOpenFields(b *testing.B) {
	c := newLimitCipher(random(32), random(8))
	limitColumns := limitSeal(c)
	m, r := sealedFive(b)
	columns := r.columns(b)
	against.Limit(b, 1.35, func() { limitOpen(c, limitColumns) }, func() {
		r.scan(b, columns)
		if err := m.Open(b.Context(), &r); err != nil {
			b.Fatal(err)
		}
	})
}

func sealedFive(b testing.TB) (*field.Model[five], five) {
	b.Helper()
	m := newModel[five](b, nativeBox(b, kmsencrypted.Version{Provider: newMemoryKey()}), field.Config{Table: "customers"})
	r := five{ID: 7}
	r.set()
	if err := m.Seal(b.Context(), &r); err != nil {
		b.Fatal(err)
	}
	return m, r
}

func (r *five) set() {
	for i, f := range r.fields() {
		f.Set(plaintexts[i])
	}
}

func (r *five) columns(b *testing.B) (columns [5]any) {
	for i, f := range r.fields() {
		columns[i] = column(b, f)
	}
	return columns
}

func (r *five) scan(b *testing.B, columns [5]any) {
	for i, f := range r.fields() {
		if err := f.Scan(columns[i]); err != nil {
			b.Fatal(err)
		}
	}
}
