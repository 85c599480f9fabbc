package files

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/internal/fullio"
)

// HeaderSize is the size in bytes of the header in front of the chunked body.
const HeaderSize = 32

// An object begins with this header (spec/files.md section 2):
//
//	0        8         9       10          11      12              16        32
//	+--------+---------+-------+-----------+-------+---------------+---------+
//	| magic  | version | suite | placement | flags | header length | file id |
//	+--------+---------+-------+-----------+-------+---------------+---------+
//
// The whole header is bound to the body. The magic contains a byte with the high
// bit, both kinds of line end and the end-of-file character, so that damage by
// text-mode transfer is detected at once.
const (
	magic = "\x89KEF\r\n\x1a\n"
	// fixedFields: version 1, suite 1, key placement outside, no flags, 32 bytes.
	fixedFields = "\x01\x01\x00\x00\x00\x00\x00\x20"
	idOffset    = len(magic) + len(fixedFields)
)

// ID is the random name of one object. It is stored in the object's header and in
// the row with the wrapped key.
type ID [16]byte

// NewID returns a random id, for an object whose format has none of its own. A
// [Writer] makes its id itself.
func NewID() (id ID) {
	rand.Read(id[:])
	return id
}

// ParseID parses the result of [ID.String], 32 hex digits. It returns
// [kmsencrypted.ErrMalformed] for anything else.
func ParseID(text string) (ID, error) {
	var id ID
	if n, err := hex.Decode(id[:], []byte(text[:min(len(text), 2*len(id))])); err != nil || n != len(id) || len(text) != 2*len(id) {
		return ID{}, malformed("a file id has %d hex digits", 2*len(id))
	}
	return id, nil
}

// String returns 32 lower-case hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is the zero value, which no object has.
func (id ID) IsZero() bool { return id == ID{} }

// ReadID reads the header of an object, [HeaderSize] bytes, and returns its file
// id. Compare the id with the row's before you unwrap the key. The id is not
// authenticated until the object is opened.
//
// ReadID returns [kmsencrypted.ErrNotCiphertext] if r is not an object of this
// format, [kmsencrypted.ErrMalformed] for an unknown version or suite, and
// [ErrTruncated] if r is shorter than a header.
func ReadID(r io.Reader) (ID, error) {
	var header [HeaderSize]byte
	n, err := fullio.Read(r, header[:])
	if err != nil && err != io.EOF {
		return ID{}, err
	}
	return parseHeader(header[:n])
}

func appendHeader(dst []byte, id ID) []byte {
	return append(append(append(dst, magic...), fixedFields...), id[:]...)
}

// fieldNames names the fields of the header after the magic, for error texts.
var fieldNames = [...]struct {
	name   string
	offset int
	size   int
}{
	{"version", 8, 1}, {"suite", 9, 1}, {"key placement", 10, 1}, {"flags", 11, 1}, {"header length", 12, 4},
}

// parseHeader parses a header, which is shorter if the object ends inside it.
func parseHeader(header []byte) (ID, error) {
	n := min(len(header), len(magic))
	switch {
	case n == 0:
		return ID{}, ErrTruncated
	case string(header[:n]) != magic[:n]:
		return ID{}, fmt.Errorf("files: %w", kmsencrypted.ErrNotCiphertext)
	case len(header) < HeaderSize:
		return ID{}, ErrTruncated
	}
	if !bytes.Equal(header[len(magic):idOffset], []byte(fixedFields)) {
		return ID{}, fieldError(header)
	}
	return ID(header[idOffset:]), nil
}

func fieldError(header []byte) error {
	for _, f := range fieldNames {
		want := []byte(fixedFields)[f.offset-len(magic):][:f.size]
		if got := header[f.offset:][:f.size]; !bytes.Equal(got, want) {
			var wide [4]byte
			copy(wide[4-f.size:], got)
			return malformed("%s %d is unknown", f.name, binary.BigEndian.Uint32(wide[:]))
		}
	}
	return nil
}
