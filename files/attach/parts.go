package attach

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"time"

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

// The key of an upload is a secret of the Box (spec/files.md section 5.2): its plaintext is
//
//	0         1         89         121
//	+---------+---------+----------+
//	| version | prefix  | file key |
//	| 01      | 88      | 32       |
//	+---------+---------+----------+
const (
	uploadVersion = 1
	uploadSize    = 1 + files.PrefixSize + files.KeySize
)

// uploadContext is the context of the record, and the object.
func (m *Manager[R]) uploadContext(row *R, u *PartUpload) kmsencrypted.EncryptionContext {
	return kmsencrypted.ContextWith(m.model.Binding(m.key, row).Context,
		kmsencrypted.Pair{Name: "purpose", Value: "file upload"}, kmsencrypted.Pair{Name: "attachment", Value: u.Name},
		kmsencrypted.Pair{Name: "record_table", Value: u.Table}, kmsencrypted.Pair{Name: "record_id", Value: recordID(u.RecordID)},
		kmsencrypted.Pair{Name: "bucket", Value: u.Bucket}, kmsencrypted.Pair{Name: "object", Value: u.Object})
}

func (m *Manager[R]) sealUpload(ctx context.Context, row *R, u *PartUpload, key files.Key, prefix []byte) (string, error) {
	raw, err := key.Raw()
	if err != nil {
		return "", err
	}
	defer clear(raw)
	text := slices.Concat([]byte{uploadVersion}, prefix, raw)
	defer clear(text)
	return m.model.Box().Encrypt(ctx, text, m.uploadContext(row, u))
}

// openUpload returns the file key, which the caller must wipe, and a sealer.
func (m *Manager[R]) openUpload(ctx context.Context, row *R, u *PartUpload, sealed string) (files.Key, *files.PartSealer, error) {
	text, err := m.model.Box().Decrypt(ctx, sealed, m.uploadContext(row, u))
	if err != nil {
		return files.Key{}, nil, err
	}
	defer clear(text)
	if len(text) != uploadSize || text[0] != uploadVersion {
		return files.Key{}, nil, fmt.Errorf("attach: key of an upload: %w", kmsencrypted.ErrMalformed)
	}
	key, err := files.KeyFrom(text[1+files.PrefixSize:])
	if err != nil {
		return files.Key{}, nil, err
	}
	sealer, err := files.ResumePartSealer(key, bytes.Clone(text[1:][:files.PrefixSize]))
	if err != nil {
		key.Wipe()
		return files.Key{}, nil, err
	}
	return key, sealer, nil
}
