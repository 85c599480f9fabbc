package files

const (
	// ChunkSize is the number of plaintext bytes in a chunk. The last chunk holds fewer,
	// possibly none.
	ChunkSize = 16 << 10

	tagSize     = 16
	sealedChunk = ChunkSize + tagSize
	saltSize    = 24
	commitSize  = 32
	prefixSize  = saltSize + commitSize
	bodyStart   = HeaderSize + prefixSize // where the first chunk begins

	maxChunks = 1 << 32
)

// MaxSize is the size in bytes of the longest file: 2^32 chunks less one byte, just
// below 64 TiB.
const MaxSize = maxChunks*ChunkSize - 1

// SealedSize returns the size in bytes of the object for a file of n bytes:
//
//	88 + n + 16 * (n/16384 + 1)
//
// It returns [kmsencrypted.ErrTooLarge] if n is more than [MaxSize], and
// [kmsencrypted.ErrConfig] if n is negative.
func SealedSize(n int64) (int64, error) {
	switch {
	case n < 0:
		return 0, configError("a file of %d bytes", n)
	case n > MaxSize:
		return 0, errSize
	}
	return bodyStart + n + tagSize*(n/ChunkSize+1), nil
}

// OpenedSize is the inverse of [SealedSize]: it returns the size in bytes of the file
// in an object of n bytes. It returns [ErrTruncated] for a length that no object can
// have, and [kmsencrypted.ErrTooLarge] above the limit. Only opening the last chunk, as
// [NewReaderAt] does, proves that the object was written with this length.
func OpenedSize(n int64) (int64, error) { return openedSize(max(n, 0) - bodyStart) }

// openedSize is like [OpenedSize] for the chunks alone.
func openedSize(chunks int64) (int64, error) {
	if chunks < tagSize || chunks%sealedChunk < tagSize {
		return 0, ErrTruncated
	}
	full, last := chunks/sealedChunk, chunks%sealedChunk
	if full >= maxChunks {
		return 0, errSize
	}
	return full*ChunkSize + last - tagSize, nil
}
