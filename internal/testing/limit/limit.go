// Package limit does the job of the benchmarks of fields with the least work that
// gives the same columns: a random key, one wrap in memory, one key schedule, five
// AES-GCM with associated data, base64 or bytes, all with the standard library
// alone. It allocates once for five columns, once for a buffer, and converts between
// strings and bytes without a copy.
package limit

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strconv"
	"unsafe"
)

// Plaintexts are the five strings of 32 bytes of the record.
var Plaintexts = [5]string{"ada@example.org, forwarded to me", "+44 20 7946 0958 (after 5 pm onl", "12 St James's Square, London SW1", "GB29 NWBK 6016 1331 9268 19 acct", "notes that have thirty-two bytes"}

// Columns are the names of their columns in the table customers.
var Columns = [5]string{"a_ciphertext", "b_ciphertext", "c_ciphertext", "d_ciphertext", "e_ciphertext"}

// Cipher is an open data key, and how its columns begin.
type Cipher struct {
	cipher.AEAD
	head   [9]byte
	binary bool
}

// NewCipher returns the cipher of a key whose columns carry tag.
func NewCipher(key, tag []byte, binary bool) Cipher {
	c := Cipher{AEAD: GCM(key), head: [9]byte{0xC1}, binary: binary}
	copy(c.head[1:], tag)
	return c
}

// room is larger than each column and than the key column.
const room = 96

// Wrap returns a new data key and its key column.
func Wrap(kek cipher.AEAD, id int, binary bool) (c Cipher, column string) {
	buffer := make([]byte, 32, 32+2*room)
	key, rest := buffer[:32], buffer[32:]
	rand.Read(key)
	wrapped := kek.Seal(rest[:0], nil, key, AppendContext(rest[room:room], id))
	return NewCipher(key, nil, binary), asString(appendColumn(make([]byte, 0, room), 1, wrapped))
}

// Unwrap opens a key column.
func Unwrap(kek cipher.AEAD, column string, id int, binary bool) (Cipher, error) {
	buffer := make([]byte, 0, 3*room)
	wrapped, err := base64.StdEncoding.AppendDecode(buffer, asBytes(column[3:]))
	if err != nil {
		return Cipher{}, err
	}
	key, err := kek.Open(buffer[room:room], nil, wrapped, AppendContext(buffer[2*room:2*room], id))
	if err != nil {
		return Cipher{}, err
	}
	return NewCipher(key, nil, binary), nil
}

// Rewrap moves a key column from one key to another.
func Rewrap(from, to cipher.AEAD, column string, id int) (string, error) {
	buffer := make([]byte, 0, 4*room)
	wrapped, err := base64.StdEncoding.AppendDecode(buffer, asBytes(column[3:]))
	if err != nil {
		return "", err
	}
	context := AppendContext(buffer[room:room], id)
	key, err := from.Open(buffer[2*room:2*room], nil, wrapped, context)
	if err != nil {
		return "", err
	}
	wrapped = to.Seal(buffer[3*room:3*room], nil, key, context)
	return asString(appendColumn(make([]byte, 0, room), 2, wrapped)), nil
}

func appendColumn(dst []byte, version byte, wrapped []byte) []byte {
	return base64.StdEncoding.AppendEncode(append(dst, 'v', '0'+version, ':'), wrapped)
}

// AppendContext appends the encryption context of a customer in JSON.
func AppendContext(dst []byte, id int) []byte {
	dst = append(dst, `{"model_id":"`...)
	dst = strconv.AppendInt(dst, int64(id), 10)
	return append(dst, `","model_name":"customers"}`...)
}

// Seal returns the columns of the Plaintexts.
func (c *Cipher) Seal() (columns [5]string) {
	buffer := make([]byte, 0, room)
	slab := make([]byte, 0, len(columns)*room)
	for i, text := range Plaintexts {
		from := len(slab)
		if c.binary {
			slab = c.AEAD.Seal(append(slab, c.head[:]...), nil, asBytes(text), associated[i])
		} else {
			slab = base64.StdEncoding.AppendEncode(slab, c.AEAD.Seal(append(buffer, c.head[:]...), nil, asBytes(text), associated[i]))
		}
		columns[i] = asString(slab[from:])
	}
	return columns
}

var errOtherKey = errors.New("limit: a column of another key")

// Open returns the plaintexts of the columns.
func (c *Cipher) Open(columns [5]string) (texts [5]string, err error) {
	buffer := make([]byte, 0, room)
	slab := make([]byte, 0, len(columns)*len(Plaintexts[0]))
	for i, column := range columns {
		sealed := asBytes(column)
		if !c.binary {
			if sealed, err = base64.StdEncoding.AppendDecode(buffer, sealed); err != nil {
				return texts, err
			}
		}
		if !bytes.HasPrefix(sealed, c.head[:]) {
			return texts, errOtherKey
		}
		from := len(slab)
		if slab, err = c.AEAD.Open(slab, nil, sealed[len(c.head):], associated[i]); err != nil {
			return texts, err
		}
		texts[i] = asString(slab[from:])
	}
	return texts, nil
}

// asString and asBytes convert without a copy. Nobody writes to the bytes afterwards.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
func asBytes(s string) []byte  { return unsafe.Slice(unsafe.StringData(s), len(s)) }

var associated = func() (all [5][]byte) {
	for i, column := range Columns {
		all[i] = associatedData(column)
	}
	return all
}()

// associatedData is the associated data of a column (spec/native.md section 5.2).
func associatedData(column string) []byte {
	item := func(ad []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint32(ad, uint32(len(s))), s...)
	}
	ad := append(item(nil, "kmsencrypted/1 field"), 0xC1)
	return item(item(item(ad, "customers"), column), "string")
}
