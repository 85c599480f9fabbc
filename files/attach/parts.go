package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

const (
	defaultPartSize = 8 << 20
	maxPartSize     = 256 << 20
	maxParts        = 10_000 // of S3
	sealedChunk     = files.ChunkSize + 16
)

// MaxPartsSize is the size in bytes of the largest file that can be uploaded in parts. Each
// part is in memory, of this process or of the client.
const MaxPartsSize = maxParts * maxPartSize

// PartUpload is an upload in parts that has begun. It has no secret, and may be kept by a
// client if nobody but this program can change it: package files/direct signs it. It stays
// valid in other processes.
type PartUpload struct {
	Table                 string // of the record, as [Attachment.Table]
	RecordID              []string
	Name                  string // of the attachment
	Bucket, Object        string
	Size                  int64  // of the file, in bytes
	PartSize              int64  // bytes of the file in each part but the last: a multiple of [files.ChunkSize]
	FileName, ContentType string // as the client declared them, the name cleaned
}

// Parts returns the number of parts. The last one has the last chunk, which is never full.
func (u PartUpload) Parts() int {
	chunks := u.PartSize / files.ChunkSize
	if chunks < 1 {
		return 0
	}
	return int((u.Size/files.ChunkSize + chunks) / chunks)
}

// PartLength returns the number of bytes of the file in part n, from 1. It is 0 also if there
// is no such part.
func (u PartUpload) PartLength(n int) int64 {
	if n < 1 || n > u.Parts() {
		return 0
	}
	return min(u.PartSize, u.Size-int64(n-1)*u.PartSize)
}

// part is part n of the object.
func (u PartUpload) part(n int) (Part, error) {
	if n < 1 || n > u.Parts() || u.PartSize%files.ChunkSize != 0 || u.Size < 0 {
		return Part{}, configError("part %d of %d of an upload of %d bytes", n, u.Parts(), u.Size)
	}
	first, length := int64(n-1)*u.PartSize/files.ChunkSize, u.PartLength(n)
	p := Part{Number: n, Offset: files.PrefixSize + first*sealedChunk, Size: length + (sealedChunk-files.ChunkSize)*(length/files.ChunkSize)}
	if n == u.Parts() {
		p.Size += sealedChunk - files.ChunkSize
	}
	if n == 1 {
		p.Offset, p.Size = 0, p.Size+files.PrefixSize
	}
	return p, nil
}

// partSize is that of a file: larger files have larger parts.
func (c Config) partSize(size int64) int64 {
	chunks := (size/files.ChunkSize + maxParts) / maxParts
	return max(c.PartSize, chunks*files.ChunkSize)
}

// BeginParts begins the upload of a file whose parts arrive one by one, in any order, in any
// process and each possibly more than once: through this program by [Manager.SealPart], or
// sealed by the client with the object key that BeginParts returns, by [Manager.SignPart].
// The caller must wipe the key. [Manager.FinishParts] makes it a file. An upload without a
// part for [Config.Lease] is given up, and [Manager.Sweep] removes it from the store.
//
// o.Size is the size of the file, also if it is 0. BeginParts makes one call to the key
// service. It returns [errors.ErrUnsupported] if the bucket is no [PartBucket],
// [kmsencrypted.ErrTooLarge] above [MaxPartsSize], [kmsencrypted.ErrNoID] for a record that
// was not inserted, and otherwise the errors of [Manager.Upload].
func (m *Manager[R]) BeginParts(ctx context.Context, row *R, name string, o Options) (*PartUpload, files.ObjectKey, error) {
	if err := errors.Join(m.usable(row), m.partable(row, name, o)); err != nil {
		return nil, files.ObjectKey{}, err
	}
	bucket, err := m.config.bucketFor(ctx, name, o)
	if err != nil {
		return nil, files.ObjectKey{}, err
	}
	if len(o.ContentType) > maxContentType {
		o.ContentType = "" // as contentType has it
	}
	u := &PartUpload{Table: m.model.BoundTable(), RecordID: m.model.ID(row), Name: name, Bucket: bucket, Object: newObjectName(),
		Size: o.Size, PartSize: m.config.partSize(o.Size), FileName: CleanName(o.Name), ContentType: o.ContentType}
	key, err := m.beginParts(ctx, row, u)
	if err != nil {
		return nil, files.ObjectKey{}, u.failed("begin", err)
	}
	return u, key, nil
}

// partable checks the arguments of BeginParts.
func (m *Manager[R]) partable(row *R, name string, o Options) error {
	if m == nil || m.db == nil {
		return nil // said already
	}
	switch {
	case m.named(name) != nil:
		return m.named(name)
	case o.Size < 0:
		return configError("a file of %d bytes", o.Size)
	case o.Size > MaxPartsSize:
		return fmt.Errorf("attach: %w: %d bytes in parts", kmsencrypted.ErrTooLarge, o.Size)
	case m.model.ID(row) == nil:
		return kmsencrypted.ErrNoID
	}
	return m.config.checkSize(o)
}

func (m *Manager[R]) beginParts(ctx context.Context, row *R, u *PartUpload) (object files.ObjectKey, err error) {
	store, err := m.partBucket(u.Bucket)
	if err != nil {
		return object, err
	}
	if err := m.identify(ctx, u.Bucket); err != nil {
		return object, err
	}
	key := files.NewKey()
	defer key.Wipe()
	sealer, err := files.NewPartSealer(key)
	if err != nil {
		return object, err
	}
	sealed, err := m.sealUpload(ctx, row, u, key, sealer.Prefix())
	if err != nil {
		return object, err
	}
	if err := m.intents.beginParts(ctx, u.Bucket, u.Object, sealed); err != nil {
		return object, err
	}
	upload, err := store.BeginParts(ctx, u.Object)
	if err == nil {
		err = m.began(ctx, u.Bucket, u.Object, upload)
	}
	if err == nil {
		object, err = sealer.ObjectKey(key)
	}
	if err != nil {
		err = errors.Join(err, m.giveUpParts(context.WithoutCancel(ctx), u.Bucket, u.Object))
	}
	return object, err
}

// DiscardParts gives an upload up. Its parts are removed by a [Manager.Sweep] after the end of
// its lease, because URLs of parts may be valid until then. It does nothing to an upload that
// was finished.
func (m *Manager[R]) DiscardParts(ctx context.Context, u *PartUpload) error {
	if err := m.usable(u); err != nil {
		return err
	}
	return u.failed("discard", m.giveUpParts(ctx, u.Bucket, u.Object))
}

// usableParts checks that an upload is one for this record.
func (m *Manager[R]) usableParts(row *R, u *PartUpload) error {
	if err := m.usable(row, u); err != nil {
		return err
	}
	if !m.IsOf(row, u) {
		return u.failed("use", errOtherRecord)
	}
	return m.named(u.Name)
}

// IsOf reports whether an upload is one for this record.
func (m *Manager[R]) IsOf(row *R, u *PartUpload) bool {
	return m.usable(row, u) == nil && u.Table == m.model.BoundTable() && slices.Equal(u.RecordID, m.model.ID(row))
}

func (u *PartUpload) failed(op string, err error) error {
	return (&Attachment{Table: u.Table, RecordID: u.RecordID, Name: u.Name}).failed(op, err)
}
