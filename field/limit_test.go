package field_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"testing"
	"unsafe"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/mac"
)

// The limit of the benchmarks is the least work that gives the same columns, with the
// standard library alone: a random key, one wrap in memory, one key schedule, five
// AES-GCM with associated data, base64 or bytes. It allocates once for five columns,
// once for a buffer, and converts between strings and bytes without a copy.

// limitCipher is an open data key, and how its columns begin.
type limitCipher struct {
	cipher.AEAD
	head   [9]byte
	binary bool
}

func newLimitCipher(key, tag []byte, binary bool) limitCipher {
	c := limitCipher{AEAD: gcm(key), head: [9]byte{0xC1}, binary: binary}
	copy(c.head[1:], tag)
	return c
}

// limitRoom is larger than each column and than the key column.
const limitRoom = 96

func limitWrap(kek cipher.AEAD, id int, binary bool) (c limitCipher, column string) {
	room := make([]byte, 32, 32+2*limitRoom)
	key, rest := room[:32], room[32:]
	rand.Read(key)
	context := limitContext(rest[limitRoom:limitRoom], id)
	wrapped := kek.Seal(rest[:0], nil, key, context)
	text := append(make([]byte, 0, limitRoom), "v1:"...)
	return newLimitCipher(key, nil, binary), asString(base64.StdEncoding.AppendEncode(text, wrapped))
}

func limitUnwrap(kek cipher.AEAD, column string, id int, binary bool) limitCipher {
	room := make([]byte, 0, 3*limitRoom)
	wrapped, _ := base64.StdEncoding.AppendDecode(room, asBytes(column[3:]))
	key, err := kek.Open(room[limitRoom:limitRoom], nil, wrapped, limitContext(room[2*limitRoom:2*limitRoom], id))
	if err != nil {
		panic(err)
	}
	return newLimitCipher(key, nil, binary)
}

func limitContext(dst []byte, id int) []byte {
	dst = append(dst, `{"model_id":"`...)
	dst = strconv.AppendInt(dst, int64(id), 10)
	return append(dst, `","model_name":"customers"}`...)
}

func limitSeal(c limitCipher) (columns [5]string) {
	room := make([]byte, 0, limitRoom)
	slab := make([]byte, 0, len(columns)*limitRoom)
	for i, text := range plaintexts {
		from := len(slab)
		if c.binary {
			slab = c.Seal(append(slab, c.head[:]...), nil, asBytes(text), limitADs[i])
		} else {
			slab = base64.StdEncoding.AppendEncode(slab, c.Seal(append(room, c.head[:]...), nil, asBytes(text), limitADs[i]))
		}
		columns[i] = asString(slab[from:])
	}
	return columns
}

func limitOpen(c limitCipher, columns [5]string) (texts [5]string) {
	room := make([]byte, 0, limitRoom)
	slab := make([]byte, 0, len(columns)*len(plaintexts[0]))
	for i, column := range columns {
		sealed := asBytes(column)
		if !c.binary {
			sealed, _ = base64.StdEncoding.AppendDecode(room, sealed)
		}
		if !bytes.HasPrefix(sealed, c.head[:]) {
			panic("of another key")
		}
		from := len(slab)
		var err error
		if slab, err = c.Open(slab, nil, sealed[len(c.head):], limitADs[i]); err != nil {
			panic(err)
		}
		texts[i] = asString(slab[from:])
	}
	return texts
}

// asString and asBytes convert without a copy. Nobody writes to the bytes afterwards.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
func asBytes(s string) []byte  { return unsafe.Slice(unsafe.StringData(s), len(s)) }

var limitADs = [5][]byte{limitAD("a_ciphertext"), limitAD("b_ciphertext"), limitAD("c_ciphertext"), limitAD("d_ciphertext"), limitAD("e_ciphertext")}

// limitAD is the associated data of a column (spec/native.md section 5.2).
func limitAD(column string) []byte {
	item := func(ad []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint32(ad, uint32(len(s))), s...)
	}
	ad := append(item(nil, "kmsencrypted/1 field"), 0xC1)
	return item(item(item(ad, "customers"), column), "string")
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

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// The limit does the same job: under the keys of a data key each side opens the
// columns of the other.
func TestNativeLimit(t *testing.T) {
	t.Run("text", func(t *testing.T) { testLimit[five](t) })
	t.Run("binary", func(t *testing.T) { testLimit[fiveBinary](t) })
}

func testLimit[R any, P fiveFields[R]](t *testing.T) {
	m, r := sealedFive[R, P](t)
	limit := limitOf(t, m, r)
	read := newFive[R, P]()
	columns := limitSeal(limit)
	must(t, read.key().Scan(column(t, r.key())))
	for i, f := range read.fields() {
		must(t, f.Scan(columns[i]))
	}
	must(t, m.Open(t.Context(), read))
	var ours [5]string
	for i, f := range read.fields() {
		if got, err := f.Get(); got != plaintexts[i] || err != nil {
			t.Errorf("column %d of the limit opens as %q, %v", i, got, err)
		}
		switch c := column(t, r.fields()[i]).(type) {
		case string:
			ours[i] = c
		case []byte:
			ours[i] = string(c)
		}
	}
	if got := limitOpen(limit, ours); got != plaintexts {
		t.Errorf("the limit opens our columns as %q", got)
	}
}

// limitOf returns the limit under the data key of a record.
func limitOf[R any, P fiveFields[R]](t *testing.T, m *field.Model[R], r P) limitCipher {
	t.Helper()
	key, err := m.Adapter().DataKeys(t.Context(), "encrypted_kms_key", r)
	must(t, err)
	raw, err := key[0].Raw()
	must(t, err)
	keys, err := mac.Expand(raw, "kmsencrypted/1 record", 64)
	must(t, err)
	return newLimitCipher(keys[:32], keys[32:32+kmsencrypted.KeyTagSize], r.isBinary())
}
