package attach

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// Open opens an attached file. It reads the row and the record again, because both
// may have been rotated since a was read, and unwraps the record's data key with
// one call to the key service. The file reads under ctx. The caller closes it.
//
// Before it returns, Open compares the file id of the row with the object's and
// authenticates the length of the file. Each part is authenticated when it is read.
// Open returns [fs.ErrNotExist] if the attachment, its record or its object does not
// exist, and [ErrStore] if the whole store is not there. It returns [kmsencrypted.ErrDecrypt], [kmsencrypted.ErrMalformed] or
// [kmsencrypted.ErrNotCiphertext] for everything that does not belong together:
// another record's row, also an earlier one's with the same primary key, another object,
// changed bytes. The other errors are those
// of [field.Adapter.DataKeys] and of the store.
func (m *Manager[R]) Open(ctx context.Context, a *Attachment) (*File, error) {
	if err := m.usable(a); err != nil {
		return nil, err
	}
	return m.open(ctx, a, nil)
}

// OpenFrom is like Open for a record whose key column was read. It does not read
// the record, and makes no call to the key service if the data key of row is open. An
// attachment of another record is [kmsencrypted.ErrConfig].
func (m *Manager[R]) OpenFrom(ctx context.Context, row *R, a *Attachment) (*File, error) {
	if err := m.usable(row, a); err != nil {
		return nil, err
	}
	if !slices.Equal(m.model.ID(row), a.RecordID) {
		return nil, a.failed("open", errOtherRecord)
	}
	return m.open(ctx, a, row)
}

func (m *Manager[R]) open(ctx context.Context, a *Attachment, row *R) (*File, error) {
	var err error
	for range tries {
		// A rotation may happen between two reads.
		var now *Attachment
		if now, err = m.one(ctx, m.db, "id = ? AND record_table = ? AND record_id = ?", a.ID, m.model.BoundTable(), recordID(a.RecordID)); err != nil {
			break
		}
		var f *File
		if f, err = m.openNow(ctx, now, row); err == nil {
			return f, nil
		}
		row = nil
		if !isOutdated(err) || ctx.Err() != nil {
			break
		}
	}
	return nil, a.failed("open", err)
}

// isOutdated reports an error that a row and a record may give that were not read at the
// same time: a record before its first file has no data key.
func isOutdated(err error) bool {
	return errors.Is(err, kmsencrypted.ErrDecrypt) || errors.Is(err, kmsencrypted.ErrNoDataKey) || errors.Is(err, fs.ErrNotExist)
}

// openNow opens a file by a row that has just been read.
func (m *Manager[R]) openNow(ctx context.Context, a *Attachment, row *R) (*File, error) {
	bucket, err := m.bucket(a)
	if err != nil {
		return nil, err
	}
	var key files.Key
	defer func() { key.Wipe() }()
	f, err := openBy(ctx, bucket, a, func() (files.Key, error) {
		var err error
		key, err = m.fileKey(ctx, a, row)
		return key, err
	})
	return f, m.missing(ctx, a.Bucket, err)
}

// bucket returns the bucket of a row.
func (m *Manager[R]) bucket(a *Attachment) (Bucket, error) {
	bucket := m.config.Buckets[a.Bucket]
	if bucket == nil {
		return nil, configError("no bucket %q", a.Bucket)
	}
	return bucket, nil
}

// openBy opens the object of a row and compares it with the row. Only then it asks for
// the file key, which the caller wipes.
func openBy(ctx context.Context, bucket Bucket, a *Attachment, fileKey func() (files.Key, error)) (f *File, err error) {
	object, err := openObject(ctx, bucket, a)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			object.Close()
		}
	}()
	if id, err := files.ReadID(io.NewSectionReader(object, 0, object.Size())); err != nil {
		return nil, err
	} else if id != a.File {
		return nil, fmt.Errorf("%w: the object belongs to another file", kmsencrypted.ErrDecrypt)
	}
	key, err := fileKey()
	if err != nil {
		return nil, err
	}
	r, err := files.NewReaderAt(ctx, object, object.Size(), key)
	if err != nil {
		return nil, err
	}
	if r.Size() != a.Size {
		return nil, fmt.Errorf("%w: the row has another size", kmsencrypted.ErrMalformed)
	}
	return newFile(ctx, *a, r, r.Size(), object), nil
}

// openObject opens the object of a row and checks its size.
func openObject(ctx context.Context, bucket Bucket, a *Attachment) (object Object, err error) {
	for range tries { // opening changes nothing, so it can be repeated
		object, err = bucket.Open(ctx, a.Object)
		if err == nil || errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	switch size := object.Size(); {
	case size < a.ObjectSize:
		err = files.ErrTruncated
	case size > a.ObjectSize:
		err = fmt.Errorf("%w: the object has %d bytes, the row says %d", kmsencrypted.ErrMalformed, size, a.ObjectSize)
	}
	if err != nil {
		object.Close()
		return nil, err
	}
	return object, nil
}

// fileKey unwraps the key of a file. row may be nil.
func (m *Manager[R]) fileKey(ctx context.Context, a *Attachment, row *R) (files.Key, error) {
	if row == nil {
		var err error
		if row, err = m.load(ctx, m.db, a.RecordID, ""); errors.Is(err, sql.ErrNoRows) {
			return files.Key{}, fmt.Errorf("%w: the record is gone: %w", fs.ErrNotExist, err)
		} else if err != nil {
			return files.Key{}, err
		}
		if key := m.model.Key(m.key, row); key != nil {
			defer key.Wipe()
		}
	}
	if !files.IsWrappedKey(a.WrappedKey) { // the key service wraps it
		return m.unwrap(ctx, row, kmsencrypted.DataKey{}, a)
	}
	keys, err := m.model.DataKeys(ctx, m.key, row)
	if err != nil {
		return files.Key{}, err
	}
	defer keys[0].Wipe()
	if keys[0].IsZero() {
		return files.Key{}, kmsencrypted.ErrNoDataKey
	}
	return m.unwrap(ctx, row, keys[0], a)
}
