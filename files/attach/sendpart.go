package attach

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files"
)

// SealPart seals a part of the file and stores it. content is all of the part:
// [PartUpload.PartLength] bytes. The caller must have checked that
// the client may still write to the record, which was read. SealPart makes one call to the
// key service, and needs permission to decrypt. A part that is there already is stored again.
//
// SealPart returns [ErrSize] for another length, [ErrPartChanged] if the part was sent before
// with other bytes, [ErrAbandoned] if the upload was given up or finished, and the errors of
// the store.
func (m *Manager[R]) SealPart(ctx context.Context, row *R, u *PartUpload, n int, content []byte) error {
	if err := m.usableParts(row, u); err != nil {
		return err
	}
	return u.failed("upload", m.sealPart(ctx, row, u, n, content))
}

func (m *Manager[R]) sealPart(ctx context.Context, row *R, u *PartUpload, n int, content []byte) error {
	p, err := u.part(n)
	if err != nil {
		return err
	}
	if int64(len(content)) != u.PartLength(n) {
		return ErrSize
	}
	s, err := m.partState(ctx, m.db, u.Bucket, u.Object)
	if err != nil {
		return err
	}
	key, sealer, err := m.openUpload(ctx, row, u, s.sealedKey)
	if err != nil {
		return err
	}
	key.Wipe()
	sealed := make([]byte, 0, p.Size)
	if n == 1 {
		sealed = append(sealed, sealer.Prefix()...)
	}
	if sealed, err = sealer.Seal(sealed, content, int64(n-1)*u.PartSize/files.ChunkSize, n == u.Parts()); err != nil {
		return err
	}
	p.SHA256 = sha256.Sum256(sealed)
	upload, err := m.commitPart(ctx, u, p)
	if err != nil {
		return err
	}
	store, err := m.partBucket(u.Bucket)
	if err != nil {
		return err
	}
	return store.PutPart(ctx, u.Object, upload, p, sealed)
}

// commitPart records a part that is about to go out. A part that the store has and the database
// does not know went out before a backup of the database was restored.
func (m *Manager[R]) commitPart(ctx context.Context, u *PartUpload, p Part) (upload string, err error) {
	s, err := m.partState(ctx, m.db, u.Bucket, u.Object)
	if err != nil {
		return "", err
	}
	known, err := m.committedPart(ctx, m.db, u.Bucket, u.Object, p.Number)
	if err != nil {
		return "", err
	}
	if known == "" && s.state == inParts {
		if err := m.checkStored(ctx, u, s.upload, p); err != nil {
			return "", err
		}
	}
	err = m.again(ctx, func() error {
		return m.transaction(ctx, func(tx Tx) (err error) {
			upload, err = m.intents.commitPart(ctx, tx, u.Bucket, u.Object, p)
			return err
		})
	})
	return upload, err
}

// checkStored returns [ErrPartChanged] if the store has another content of a part.
func (m *Manager[R]) checkStored(ctx context.Context, u *PartUpload, upload string, p Part) error {
	store, err := m.partBucket(u.Bucket)
	if err != nil {
		return err
	}
	list, err := store.ListParts(ctx, u.Object, upload)
	for _, is := range list {
		if is.Number == p.Number && is.SHA256 != p.SHA256 {
			return ErrPartChanged
		}
	}
	return err
}

// urlValid is how long URLs of parts are valid at most. They also end before half of the lease
// has passed, so that clocks may differ by the other half.
const urlValid = 15 * time.Minute

// SignPart returns a URL to which the client can PUT a part that it has sealed, with the
// headers that it must send. sum is the SHA-256 of the sealed part: the store refuses other
// bytes. Errors are those of [Manager.SealPart], and [errors.ErrUnsupported] if the bucket
// is no [PartSigner]. SignPart makes no call to the key service.
func (m *Manager[R]) SignPart(ctx context.Context, u *PartUpload, n int, sum [sha256.Size]byte) (url string, header http.Header, err error) {
	if err := m.usable(u); err != nil {
		return "", nil, err
	}
	url, header, err = m.signPart(ctx, u, n, sum)
	return url, header, u.failed("sign", err)
}

func (m *Manager[R]) signPart(ctx context.Context, u *PartUpload, n int, sum [sha256.Size]byte) (url string, header http.Header, err error) {
	p, err := u.part(n)
	if err != nil {
		return "", nil, err
	}
	if !m.SignsParts(u.Bucket) {
		return "", nil, fmt.Errorf("attach: bucket %q has no URLs of parts: %w", u.Bucket, errors.ErrUnsupported)
	}
	p.SHA256 = sum
	upload, err := m.commitPart(ctx, u, p)
	if err != nil {
		return "", nil, err
	}
	return m.buckets[u.Bucket].(PartSigner).SignPart(ctx, u.Object, upload, p, min(urlValid, m.lease/2))
}

// SignsParts reports whether a bucket takes parts from clients, as [Manager.SignPart] needs.
func (m *Manager[R]) SignsParts(bucket string) bool {
	if m.usable() != nil {
		return false
	}
	_, ok := m.buckets[bucket].(PartSigner)
	return ok
}
