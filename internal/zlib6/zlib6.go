// Package zlib6 compresses with the very bytes of zlib at its default level: a zlib
// stream of level 6, window 15, memory level 8. ActiveRecord Encryption derives the
// nonce of a deterministic value from these bytes, so a value is found only if they
// are the same, and compress/zlib has other ones.
//
// RFC 1950 and RFC 1951 define the format, which leaves the choices to the
// compressor. The choices of zlib are these, and each shows in the output:
//
//   - Which earlier text a match refers to: see matcher.
//   - Where a block ends: after 16,383 symbols.
//   - Which lengths the codes have: see tree, whose heap breaks ties by the depth of
//     a node and then by its place in the heap.
//   - Whether a block is stored, or has fixed or own codes: the shortest, and of
//     equal ones the first in this order: fixed, own codes, and stored only if it is
//     shorter by itself.
//
// The package is checked against files that Ruby made, and against the zlib of the
// machine where there is one.
package zlib6

import (
	"encoding/binary"
	"hash/adler32"
)

// Append appends the zlib stream of data to dst.
func Append(dst, data []byte) []byte {
	m := matcher{input: data, out: bitWriter{bytes: append(dst, 0x78, 0x9c)}}
	m.compress()
	return binary.BigEndian.AppendUint32(m.out.bytes, adler32.Checksum(data))
}

// bitWriter appends numbers of a few bits, the lowest first (RFC 1951, section 3.1.1).
type bitWriter struct {
	bytes   []byte
	pending uint64
	n       uint
}

func (b *bitWriter) put(value, width int) {
	b.pending |= uint64(value) << b.n
	for b.n += uint(width); b.n >= 8; b.n -= 8 {
		b.bytes = append(b.bytes, byte(b.pending))
		b.pending >>= 8
	}
}

// align fills the last byte with zeros.
func (b *bitWriter) align() {
	if b.n > 0 {
		b.put(0, int(8-b.n))
	}
}
