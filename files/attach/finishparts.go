package attach

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files"
)

// MissingParts returns the numbers of the parts that the store does not have yet, for a
// client that goes on with an upload. It extends the lease. It returns [ErrAbandoned] if the
// upload was given up or finished.
func (m *Manager[R]) MissingParts(ctx context.Context, u *PartUpload) ([]int, error) {
	if err := m.usable(u); err != nil {
		return nil, err
	}
	if err := m.extendParts(ctx, m.db, u.Bucket, u.Object); err != nil {
		return nil, u.failed("list", err)
	}
	s, err := m.partState(ctx, m.db, u.Bucket, u.Object)
	if err != nil {
		return nil, u.failed("list", err)
	}
	_, missing, err := m.storedParts(ctx, u, s.upload)
	return missing, u.failed("list", err)
}

// storedParts returns the parts that the store has with the content that was committed, and
// the numbers of the others.
func (m *Manager[R]) storedParts(ctx context.Context, u *PartUpload, upload string) (stored []Part, missing []int, err error) {
	store, err := m.partBucket(u.Bucket)
	if err != nil {
		return nil, nil, err
	}
	committed, err := m.committed(ctx, u.Bucket, u.Object)
	if err != nil {
		return nil, nil, err
	}
	list, err := store.ListParts(ctx, u.Object, upload)
	if err != nil {
		return nil, nil, err
	}
	byNumber := make(map[int]Part)
	for _, p := range list {
		byNumber[p.Number] = p
	}
	for n := 1; n <= u.Parts(); n++ {
		want, err := u.part(n)
		if err != nil {
			return nil, nil, err
		}
		is, there := byNumber[n]
		sum, known := committed[n]
		if !there || !known || is.Size != want.Size || is.SHA256 != [sha256.Size]byte{} && is.SHA256 != sum {
			missing = append(missing, n)
			continue
		}
		want.SHA256, want.Tag = sum, is.Tag
		stored = append(stored, want)
	}
	return stored, missing, nil
}

// FinishParts puts the parts together and returns the file, which [Pending.Commit] attaches,
// also instead of the attachment replaces, if that is not nil. The caller must have
// checked again that the client may write to the record, which was read. FinishParts opens the
// object: the beginning, and the last chunk, which proves the length. It makes one or two
// calls to the key service and needs permission to decrypt.
//
// FinishParts may be called again until the file is attached, also after an error.
// It returns [ErrPartMissing] if parts are missing, [ErrAbandoned] if the upload was given up
// or its file was attached, and [kmsencrypted.ErrDecrypt] if the object does not open: the
// client did not seal it as told, and the upload is given up.
func (m *Manager[R]) FinishParts(ctx context.Context, row *R, u *PartUpload, replaces *Attachment) (*Pending[R], error) {
	if err := m.usableParts(row, u); err != nil {
		return nil, err
	}
	p, err := m.finishParts(ctx, row, u, replaces)
	return p, u.failed("finish", err)
}

func (m *Manager[R]) finishParts(ctx context.Context, row *R, u *PartUpload, replaces *Attachment) (*Pending[R], error) {
	a := &Attachment{ID: newID(), Name: u.Name}
	if replaces != nil {
		if replaces.Name != u.Name || replaces.Variant != "" {
			return nil, configError("the file is for attachment %q and replaces one of %q", u.Name, replaces.place())
		}
		a.ID = replaces.ID
	}
	s, err := m.partState(ctx, m.db, u.Bucket, u.Object)
	if err != nil {
		return nil, err
	}
	key, sealer, err := m.openUpload(ctx, row, u, s.sealedKey)
	if err != nil {
		return nil, err
	}
	if err := m.complete(ctx, u, s); err != nil {
		key.Wipe()
		return nil, err
	}
	p, err := m.prepare(ctx, row, a, Options{Name: u.FileName, Bucket: u.Bucket, Size: u.Size})
	if err != nil {
		key.Wipe()
		return nil, err
	}
	if replaces != nil {
		p.old = new(*replaces)
	}
	p.key, a.Object, a.File, a.Size, a.Created = key, u.Object, sealer.ID(), u.Size, time.Now().UTC().Truncate(time.Millisecond)
	if err := p.readBack(ctx, u); err != nil {
		return nil, errors.Join(err, p.wipe())
	}
	return p.or(ctx, nil, p.protectEarly)
}

// complete puts the parts together. After a crash the store may have done so already.
func (m *Manager[R]) complete(ctx context.Context, u *PartUpload, s partState) error {
	if s.state == pending {
		return m.extend(ctx, m.db, u.Bucket, u.Object)
	}
	if err := m.extendParts(ctx, m.db, u.Bucket, u.Object); err != nil {
		return err
	}
	store, err := m.partBucket(u.Bucket)
	if err != nil {
		return err
	}
	stored, missing, err := m.storedParts(ctx, u, s.upload)
	switch {
	case errors.Is(err, fs.ErrNotExist): // completed?
		object, err := store.Open(ctx, u.Object)
		if err != nil {
			return m.missing(ctx, u.Bucket, err)
		}
		object.Close()
	case err != nil:
		return err
	case missing != nil:
		return fmt.Errorf("%w: %d of %d, the first is %d", ErrPartMissing, len(missing), u.Parts(), missing[0])
	default:
		if err := store.CompleteParts(ctx, u.Object, s.upload, stored); err != nil {
			return err
		}
	}
	return m.transaction(ctx, func(tx Tx) error { return m.completed(ctx, tx, u.Bucket, u.Object) })
}

// readBack compares an object that others have written with what it should be, and learns
// the type of the file. One that cannot be right is given up.
func (p *Pending[R]) readBack(ctx context.Context, u *PartUpload) (err error) {
	m, a := p.manager, p.a
	if a.ObjectSize, err = files.SealedSize(u.Size); err != nil {
		return err
	}
	bucket, err := m.bucket(a)
	if err != nil {
		return err
	}
	f, err := openBy(ctx, bucket, a, func() (files.Key, error) { return p.key, nil })
	if err == nil {
		defer f.Close()
		head := make([]byte, min(sniffLen, a.Size))
		_, err = f.ReadAt(head, 0)
		if err == io.EOF {
			err = nil
		}
		a.ContentType = contentType(head, u.ContentType)
		clear(head)
	}
	if isOfFile(err) {
		err = errors.Join(err, m.discardPending(ctx, a.Bucket, a.Object))
	}
	return m.missing(ctx, a.Bucket, err)
}
