package files

const (
	// ChunkSize is how many bytes of plaintext a chunk holds; the last one holds
	// fewer, perhaps none.
	ChunkSize = 16 << 10

	tagSize     = 16
	sealedChunk = ChunkSize + tagSize
	saltSize    = 24
	commitSize  = 32
	prefixSize  = saltSize + commitSize
	bodyStart   = HeaderSize + prefixSize // where the first chunk begins

	maxChunks = 1 << 32
)

// MaxSize is the size in bytes of the longest file: 2^32 chunks, 64 TiB less one byte.
const MaxSize = maxChunks*ChunkSize - 1

// SealedSize returns how many bytes the object of a file of n bytes has:
//
//	88 + n + 16 * (n/16384 + 1)
//
// A file longer than [MaxSize] is [kmsencrypted.ErrTooLarge], a negative n
// [kmsencrypted.ErrConfig].
func SealedSize(n int64) (int64, error) {
	switch {
	case n < 0:
		return 0, configError("a file of %d bytes", n)
	case n > MaxSize:
		return 0, errSize
	}
	return bodyStart + n + tagSize*(n/ChunkSize+1), nil
}

// OpenedSize is the inverse of [SealedSize]: the size of the file in an object of
// n bytes. A length that no object has is [ErrTruncated], one beyond the limit
// [kmsencrypted.ErrTooLarge]. Only opening the last chunk, as [NewReaderAt]
// does, proves that the object was written with this length.
func OpenedSize(n int64) (int64, error) { return openedSize(max(n, 0) - bodyStart) }

// openedSize is [OpenedSize] for the chunks alone.
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
