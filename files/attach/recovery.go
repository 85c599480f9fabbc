package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// Recovery wraps each file key a second time, together with the fields of its row,
// so that a lost database does not lose the files. The recovery wrap is in the row and
// in a small object next to the file's own, its sidecar. [Recovery.Files] opens files
// by their sidecars alone, and [Manager.Restore] makes rows from them.
//
// A process that attaches files needs permission to encrypt under the recovery
// provider, and no permission to decrypt: keep that for the day of the loss.
//
// A recovery wrap opens as long as the recovery provider's key exists, whatever happens to the
// data key of the record. So it defeats erasure by destroying a key, and [New] refuses
// it for records under a provider that is [Erasable].
type Recovery struct {
	// Box wraps the file keys and, for recovery, unwraps them.
	Box *kmsencrypted.Box
	// Store is your name for all the buckets together, such as "shop production". The
	// encryption context has it, so a sidecar does not open in another store. Keep it
	// when you copy or move the buckets.
	Store string
}

// Erasable is a provider whose keys are destroyed to erase what is under them, such as
// a branch of one person. [Recovery] is refused for records under it.
type Erasable interface {
	kmsencrypted.Provider
	// Erasable reports whether keys of this provider may be erased.
	Erasable() bool
}

// SidecarSuffix ends the name of a sidecar; before it stands the name of the object.
const SidecarSuffix = ".recovery"

// maxSidecar limits how many bytes of a sidecar are read.
const maxSidecar = 64 << 10

func (r Recovery) check() error {
	if r.Box == nil || r.Store == "" {
		return configError("recovery needs a Box and the name of a store")
	}
	return nil
}

// seal returns the recovery wrap of a file.
func (r Recovery) seal(ctx context.Context, c card) (string, error) {
	plaintext, err := c.append(make([]byte, 0, maxCard))
	defer clear(plaintext[:cap(plaintext)])
	if err != nil {
		return "", err
	}
	t := recoveryText{file: c.a.File, record: c.record}
	if t.secret, err = r.Box.Encrypt(ctx, plaintext, t.context(r.Store)); err != nil {
		return "", fmt.Errorf("attach: recovery wrap: %w", err)
	}
	return t.String(), nil
}

// open is the inverse of seal. The caller wipes the key.
func (r Recovery) open(ctx context.Context, text string) (card, error) {
	t, err := parseRecovery(text)
	if err != nil {
		return card{}, err
	}
	plaintext, err := r.Box.Decrypt(ctx, t.secret, t.context(r.Store))
	if err != nil {
		return card{}, err
	}
	defer clear(plaintext)
	c, err := parseCard(plaintext)
	if err == nil && c.a.File != t.file { // the service ignores the context
		c.key.Wipe()
		return card{}, fmt.Errorf("attach: recovery wrap of another file: %w", kmsencrypted.ErrBinding)
	}
	c.record = t.record
	return c, err
}

// checkErasable returns [kmsencrypted.ErrConfig] if a key that the records of a Box
// may be under can be erased. chosen returns the provider that the Box chooses for a
// record under a version, or nil if that is not known yet.
func checkErasable(box *kmsencrypted.Box, chosen func(version int) (kmsencrypted.Provider, error)) error {
	for _, n := range box.Versions() {
		v, err := box.Version(n)
		if errors.Is(err, kmsencrypted.ErrVersionRetired) {
			continue
		}
		if err != nil {
			return err
		}
		p := v.Provider
		if v.ProviderFor != nil {
			if p, err = chosen(n); err != nil {
				return err
			}
		}
		if erasable, ok := kmsencrypted.Ability[Erasable](p); ok && erasable.Erasable() {
			return configError("the keys of version %d can be erased, and a recovery wrap would outlive them: set no Config.Recovery for these records", n)
		}
	}
	return nil
}

// protection is the record that a recovery wrap is bound to.
type protection struct{ id, key string }

// protect gives a file that is to be attached its recovery wrap and its sidecar. It
// does nothing if the file has them already, from before the transaction. row is the
// record with its key column.
func (p *Pending[R]) protect(ctx context.Context, row *R, a *Attachment) error {
	m := p.manager
	if m.config.Recovery == nil {
		return nil
	}
	key, err := m.recordKey(row)
	if err != nil {
		return err
	}
	to := protection{recordID(a.RecordID), key}
	if p.protected == to {
		a.recovery = p.a.recovery
		return nil
	}
	text, err := m.recoveryText(ctx, row, p.key, a)
	if err != nil {
		return err
	}
	if err := m.putSidecar(ctx, a.Bucket, a.Object, text, p.protected.id != ""); err != nil {
		return err
	}
	a.recovery, p.a.recovery, p.protected = text, text, to
	return nil
}

// protectEarly does protect before the transaction if the record has its primary key and
// its data key.
func (p *Pending[R]) protectEarly(ctx context.Context) error {
	m := p.manager
	a := *p.a
	a.RecordID = m.model.ID(p.row)
	if m.config.Recovery == nil || a.RecordID == nil || a.Parent != "" && a.parent.IsZero() {
		return nil // Commit knows more
	}
	err := m.checkErasable(p.row)
	if column, unread := keyText(m.model.Key(m.key, p.row)); err == nil && (unread != nil || column == "") {
		return nil // Commit knows more
	}
	if err == nil {
		err = p.protect(ctx, p.row, &a)
	}
	if err == nil {
		// As after the object itself: a sweeper may have taken the object meanwhile, and
		// looks for no sidecar any more.
		err = m.extend(ctx, m.db, a.Bucket, a.Object)
	}
	if err != nil {
		p.wipe()
		m.discard(ctx, a.Bucket, a.Object)
	}
	return err
}

// checkErasable is the function of that name for the providers of a record.
func (m *Manager[R]) checkErasable(row *R) error {
	box := m.model.Box()
	return checkErasable(box, func(version int) (kmsencrypted.Provider, error) {
		place, err := box.Place(version, m.model.Binding(m.key, row))
		return place.Provider(), err
	})
}

// recoveryText returns the recovery wrap of a file of a record.
func (m *Manager[R]) recoveryText(ctx context.Context, row *R, key files.Key, a *Attachment) (string, error) {
	if err := m.checkErasable(row); err != nil {
		return "", err
	}
	record, err := m.recordKey(row)
	if err != nil {
		return "", err
	}
	return m.config.Recovery.seal(ctx, card{a: *a, key: key, written: now(), record: record})
}

// putSidecar writes the sidecar of an object. replace says that there may be one.
func (i intents) putSidecar(ctx context.Context, bucket, object, text string, replace bool) (err error) {
	store, name := i.buckets[bucket], object+SidecarSuffix
	for try := 1; ; try++ {
		if replace {
			err = store.Delete(ctx, name)
		}
		if err == nil {
			err = store.Put(ctx, name, func(w io.Writer) error {
				_, err := io.WriteString(w, text)
				return err
			})
		}
		if err == nil || try == tries || ctx.Err() != nil || isFull(err) {
			break
		}
		err, replace = nil, true // the store may have it although it returned an error
	}
	if err != nil {
		return fmt.Errorf("attach: sidecar of object %s: %w", object, err)
	}
	return nil
}

// readSidecar returns the text of a sidecar.
func readSidecar(ctx context.Context, bucket Bucket, name string) (string, error) {
	object, err := bucket.Open(ctx, name)
	if err != nil {
		return "", err
	}
	defer object.Close()
	if object.Size() > maxSidecar {
		return "", fmt.Errorf("attach: sidecar: %w", kmsencrypted.ErrTooLarge)
	}
	text, err := io.ReadAll(io.NewSectionReader(object, 0, object.Size()))
	return string(text), err
}

// hasSidecar reports whether the sidecar of an object has this text.
func (i intents) hasSidecar(ctx context.Context, bucket, object, text string) (bool, error) {
	is, err := readSidecar(ctx, i.buckets[bucket], object+SidecarSuffix)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, kmsencrypted.ErrTooLarge) {
		return false, nil
	}
	return is == text, err
}

// WrapRecovery gives every file of the table that lacks one a recovery wrap at the
// current version of [Config.Recovery], and writes sidecars that are missing. Call it
// after Recovery was set for the first time, after the recovery Box got a new current
// version, and now and then if processes of an older release attach files. It needs
// permission to decrypt the records' data keys, and none to decrypt recovery wraps.
// It takes two calls for each file that it changes, one of them to the recovery
// provider, and reads each sidecar. progress, which may be nil, receives the number of
// files done. A file that fails does not stop the others; the returned error joins all
// errors.
func (m *Manager[R]) WrapRecovery(ctx context.Context, progress func(done int64)) error {
	if err := m.usable(); err != nil {
		return err
	}
	if m.config.Recovery == nil {
		return configError("no Config.Recovery")
	}
	var failures []error
	var done int64
	for after := ""; ; {
		list, err := m.read(ctx, m.db, fmt.Sprintf("record_table = ? AND id > ? ORDER BY id LIMIT %d", bulk), m.model.BoundTable(), after)
		if err != nil {
			return errors.Join(append(failures, fmt.Errorf("attach: files of %s: %w", m.model.Table(), err))...)
		}
		if len(list) == 0 {
			return errors.Join(failures...)
		}
		for _, a := range list {
			if m.isElsewhere(a) {
				after = a.ID
				continue
			}
			if err := m.wrapRecovery(ctx, a); err != nil {
				if kmsencrypted.ConcernsAll(err) || ctx.Err() != nil {
					return errors.Join(append(failures, a.failed("recovery", err))...)
				}
				failures = append(failures, a.failed("recovery", err))
			}
			after = a.ID
			if done++; progress != nil {
				progress(done)
			}
		}
	}
}

// wrapRecovery brings the recovery wrap of one file up to date.
func (m *Manager[R]) wrapRecovery(ctx context.Context, a *Attachment) error {
	if a.malformed != nil {
		return a.malformed
	}
	row, err := m.recordOf(ctx, a)
	if err != nil {
		return err
	}
	text, err := m.currentRecovery(ctx, row, a)
	if err != nil {
		return err
	}
	there, err := m.hasSidecar(ctx, a.Bucket, a.Object, text)
	if err != nil {
		return err
	}
	if !there {
		if err := m.identify(ctx, a.Bucket); err != nil {
			return err
		}
		if err := m.putSidecar(ctx, a.Bucket, a.Object, text, true); err != nil {
			return err
		}
	}
	if text == a.recovery && there {
		return nil
	}
	set, err := m.exec(ctx, m.db, "UPDATE kms_attachments SET recovery = ? WHERE id = ? AND bucket = ? AND object = ?", text, a.ID, a.Bucket, a.Object)
	if err != nil || set {
		return err
	}
	// MariaDB counts changed rows only, so look whether there is one.
	if rows, err := m.referenced(ctx, a.Bucket, []string{a.Object}); err != nil || rows[a.Object] {
		return err
	}
	// Deleted or replaced meanwhile: if the object is swept already, nobody else deletes the
	// sidecar.
	return errors.Join(kmsencrypted.ErrConflict, m.deleteFrom(ctx, a.Bucket, a.Object+SidecarSuffix))
}

// currentRecovery returns the recovery wrap of a row, or a new one if the row has none of
// this very file, data key and current version. An older release leaves that of the file
// before, and a rekey that of the data key before.
func (m *Manager[R]) currentRecovery(ctx context.Context, row *R, a *Attachment) (string, error) {
	record, err := m.recordKey(row)
	if err != nil {
		return "", err
	}
	t, err := parseRecovery(a.recovery)
	if err == nil && t.file == a.File && t.record == record && kmsencrypted.ColumnVersion(t.secret) == m.config.Recovery.Box.Current() {
		return a.recovery, nil
	}
	key, err := m.fileKey(ctx, a, row)
	if err != nil {
		return "", err
	}
	defer key.Wipe()
	return m.recoveryText(ctx, row, key, a)
}

// objectOf returns the name of the object that a sidecar belongs to.
func objectOf(sidecar string) (object string, ok bool) {
	return strings.CutSuffix(sidecar, SidecarSuffix)
}
