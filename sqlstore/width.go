package sqlstore

import (
	"database/sql"
	"sync/atomic"
)

// A batch is bounded by the bytes of its records, so that memory and statements stay
// small however large a record is.

// mostBytes is how many bytes of encrypted columns a batch reads. In memory it is
// several times as much: ciphertexts, plaintexts, and the statement with the old and
// the new values.
const mostBytes = 2 << 20

// firstRows is how many records are read before it is known how large they are.
const firstRows = 100

// width is the average size of the records that were read last, in all workers.
type width struct{ bytes atomic.Int64 }

// rows returns how many records to read at once.
func (w *width) rows(most int) int {
	bytes := w.bytes.Load()
	if bytes == 0 {
		return min(most, firstRows)
	}
	return int(min(int64(most), max(1, mostBytes/bytes)))
}

// note notes the size of some records, at least one.
func (w *width) note(rows int, bytes int64) {
	if rows > 0 {
		w.bytes.Store(max(1, bytes/int64(rows)))
	}
}

// sized counts the bytes that a column scans.
type sized struct {
	sql.Scanner
	bytes *int64
}

func (s *sized) Scan(src any) error {
	switch v := src.(type) {
	case string:
		*s.bytes += int64(len(v))
	case []byte:
		*s.bytes += int64(len(v))
	}
	return s.Scanner.Scan(src)
}
