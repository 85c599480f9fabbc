package records

import (
	"context"
	"errors"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// Chunks says how many records are sealed and inserted at a time, and what is called
// after each time.
type Chunks struct {
	ChunkSize int
	Progress  func(done, total int)
}

const defaultChunkSize = 1000

// InsertMany inserts all or none of each chunk, and returns how many records it
// inserted. A chunk is sealed before its transaction begins.
func InsertMany[R any](ctx context.Context, db DB, t *Table[R], rows []*R, o Chunks) (done int, err error) {
	size := o.ChunkSize
	if size < 1 {
		size = defaultChunkSize
	}
	for done < len(rows) {
		chunk := rows[done:min(done+size, len(rows))]
		if err := Insert(ctx, db, t, chunk...); err != nil {
			return done, after(done, len(chunk), err)
		}
		done += len(chunk)
		if o.Progress != nil {
			o.Progress(done, len(rows))
		}
	}
	return done, nil
}

// after adds the number of records before a chunk to the indexes in its error.
func after(before, size int, err error) error {
	failures, ok := errors.AsType[field.Failures](err)
	if !ok && size == 1 {
		return field.Failures{{Index: before, Err: err}}
	}
	for i := range failures {
		failures[i].Index += before
	}
	return err
}
