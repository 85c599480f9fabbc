// Package canon encodes lists of values so that no two lists have the same
// encoding: each item is preceded by its length. Commitments and associated
// data are computed from it (spec/native.md section 2).
package canon

import "encoding/binary"

// AppendBytes appends one item: its length in bytes as four bytes, big endian,
// then the bytes.
func AppendBytes(dst, item []byte) []byte {
	return append(AppendCount(dst, len(item)), item...)
}

// AppendString is like [AppendBytes] for text.
func AppendString(dst []byte, item string) []byte {
	return append(AppendCount(dst, len(item)), item...)
}

// AppendCount appends the number of items that follow.
func AppendCount(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

// Strings returns the encoding of a list of texts of known length.
func Strings(items ...string) []byte {
	var dst []byte
	for _, item := range items {
		dst = AppendString(dst, item)
	}
	return dst
}
