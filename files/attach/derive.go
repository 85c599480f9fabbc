package attach

import (
	"cmp"
	"context"
	"io"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/files"
)

// Derive makes a file from an attached one, such as a preview or a smaller picture. f
// reads the attached file and writes the derived one, which is encrypted as f writes
// it. [Pending.Commit] makes the result an attachment of its own, under the name of
// its parent and the variant. It is deleted when its parent is replaced or deleted.
// Each variant exists once: Commit returns [kmsencrypted.ErrConflict] for a second
// one, and if the attached file was replaced or re-encrypted meanwhile. Derive returns
// [ErrSize] if f writes more than [Config.MaxSize] or not [Options].Size bytes.
func (m *Manager[R]) Derive(ctx context.Context, row *R, a *Attachment, variant string, o Options, f func(dst io.Writer, src *File) error) (*Pending[R], error) {
	if err := m.usable(row, a, f); err != nil {
		return nil, err
	}
	if variant == "" || strings.Contains(variant, "/") || a.Variant != "" {
		return nil, configError("variant %q of %s", variant, a.place())
	}
	if err := m.config.checkSize(o); err != nil {
		return nil, err
	}
	src, err := m.OpenFrom(ctx, row, a)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	o.Bucket = cmp.Or(o.Bucket, m.config.staysIn(src.Attachment().Bucket))
	p, err := m.prepare(ctx, row, &Attachment{ID: newID(), Name: a.Name, Variant: variant, Parent: a.ID,
		parent: src.Attachment().File, parentCreated: src.ModTime().UnixMilli()}, o)
	if err != nil {
		return nil, err
	}
	err = m.put(ctx, p, o, func(w *sealer) error {
		dst := &sink{w: w, limit: m.limit(o)}
		return dst.check(o, f(dst, src))
	})
	if err != nil {
		p.wipe()
	}
	return p.or(ctx, err, p.protectEarly)
}

// sink is the file that a function of Derive writes.
type sink struct {
	w     *sealer
	limit int64
	over  bool
}

func (s *sink) Write(p []byte) (int, error) {
	if s.over = s.over || int64(len(p)) > s.limit-s.w.n; s.over {
		return 0, ErrSize
	}
	return s.w.Write(p)
}

// check returns the error of the function, or [ErrSize], which it may not have returned.
func (s *sink) check(o Options, err error) error {
	if s.over || err == nil && o.Size > 0 && s.w.n != o.Size {
		return ErrSize
	}
	return err
}

// Reencrypt moves a file to a new object under a new file key, for example because the
// old key may have leaked. The attachment keeps its ID and all other fields. Readers
// see the old object or the new one. The new object is read back before the row refers
// to it. [Manager.Sweep] deletes the old one after [Config.Grace]. progress, which may
// be nil, receives the number of bytes of the file that are done.
//
// Reencrypt returns [kmsencrypted.ErrConflict] if the file was replaced, deleted or
// moved meanwhile.
func (m *Manager[R]) Reencrypt(ctx context.Context, a *Attachment, progress func(done, total int64)) (*Attachment, error) {
	if err := m.usable(a); err != nil {
		return nil, err
	}
	row, err := m.recordOf(ctx, a)
	if err != nil {
		return nil, a.failed("reencrypt", err)
	}
	src, err := m.OpenFrom(ctx, row, a)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	old := src.Attachment()
	o := Options{Name: old.FileName, ContentType: old.ContentType, Bucket: m.config.staysIn(old.Bucket), Size: src.Size(), Progress: progress}
	p, err := m.prepare(ctx, row, &Attachment{ID: old.ID, Name: old.Name, Variant: old.Variant, Parent: old.Parent}, o)
	if err != nil {
		return nil, a.failed("reencrypt", err)
	}
	p.old, p.keep = &old, true
	if err := m.upload(ctx, p, src, o); err != nil {
		return nil, a.failed("reencrypt", err)
	}
	p.a.Created, p.a.ContentType, p.a.FileName = old.Created, old.ContentType, old.FileName
	if err = m.readBack(ctx, p); err == nil {
		err = p.protectEarly(ctx)
	}
	if err == nil {
		var moved *Attachment
		err = m.transaction(ctx, func(tx Tx) (err error) {
			moved, err = p.Commit(ctx, tx)
			return err
		})
		if err == nil {
			p.wipe()
			return moved, nil
		}
	}
	// If only the answer to COMMIT was lost, the object is not listed any more and
	// Discard does nothing.
	p.Discard(ctx)
	return nil, a.failed("reencrypt", err)
}

// readBack reads the whole object of a file that is not attached yet: the only other copy
// goes.
func (m *Manager[R]) readBack(ctx context.Context, p *Pending[R]) error {
	object, err := openObject(ctx, m.config.Buckets[p.a.Bucket], p.a)
	if err != nil {
		return err
	}
	defer object.Close()
	r, err := files.NewReaderAt(ctx, object, object.Size(), p.key)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.NewSectionReader(r, 0, r.Size()))
	return err
}
