package attach

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// Pending is an uploaded file that is not attached yet. It is not safe for
// concurrent use. A Pending that is neither committed nor discarded is given up
// after [Config.Lease].
type Pending[R any] struct {
	manager *Manager[R]
	row     *R
	a       *Attachment
	key     files.Key
	old     *Attachment // the attachment it replaces
	keep    bool        // keep what was derived from old, because the file is the same

	dataKey kmsencrypted.DataKey // of the record, if it was read; must be wiped
	column  string               // the key column it was unwrapped from
	denied  bool                 // this process may not decrypt

	protected protection // what the recovery wrap is bound to
}

// Size returns the size of the file in bytes.
func (p *Pending[R]) Size() int64 {
	if p.usable() != nil {
		return 0
	}
	return p.a.Size
}

// ContentType returns the type of the file, as determined by its first bytes.
func (p *Pending[R]) ContentType() string {
	if p.usable() != nil {
		return ""
	}
	return p.a.ContentType
}

// Discard gives the file up and deletes its object: now if that works, otherwise the
// next sweep does. It does nothing to a file that was attached, also if it was deleted
// since. It goes on for up to 10 s after ctx is done.
func (p *Pending[R]) Discard(ctx context.Context) error {
	if err := p.usable(); err != nil {
		return err
	}
	return errors.Join(p.wipe(), p.manager.discardPending(ctx, p.a.Bucket, p.a.Object))
}

// Wipe overwrites the keys of a file that was attached, or that [Manager.FinishParts] may
// be called for again. The object stays.
func (p *Pending[R]) Wipe() {
	if p != nil {
		p.wipe()
	}
}

// wipe overwrites the keys.
func (p *Pending[R]) wipe() error {
	p.key.Wipe()
	p.dataKey.Wipe()
	return nil
}

// Commit attaches the file in the caller's transaction, in which the record may have
// been inserted. It locks the record's row until the end of the transaction, so that
// a rotation runs before or after it and the file key is wrapped under the record's
// current data key. It calls the key service only if the record has no data key yet,
// was not read before [Manager.Upload], was rotated since, or if this process may not
// decrypt.
//
// After an error roll the transaction back; Commit may then be called in another one.
// The file is attached once the transaction is committed. If the transaction fails,
// the state is as if Commit had not been called.
//
// Commit returns [kmsencrypted.ErrConflict] if a name of [Config.One] already has a
// file, or if the attachment of [Manager.Replace], or that a file was derived from,
// was replaced, re-encrypted or deleted meanwhile.
// It returns [sql.ErrNoRows] if the record does not exist, and [ErrAbandoned] if the
// lease has ended.
func (p *Pending[R]) Commit(ctx context.Context, tx Tx) (*Attachment, error) {
	if err := p.usable(tx); err != nil {
		return nil, err
	}
	a := *p.a
	if a.RecordID = p.manager.model.ID(p.row); a.RecordID == nil {
		return nil, a.failed("attach", kmsencrypted.ErrNoID)
	}
	if err := p.commit(ctx, tx, &a); err != nil {
		return nil, a.failed("attach", err)
	}
	return &a, nil
}

func (p *Pending[R]) commit(ctx context.Context, tx Tx, a *Attachment) error {
	m := p.manager
	// Write first: that holds off the sweeper, and SQLite takes its lock on a write.
	if err := m.extend(ctx, tx, a.Bucket, a.Object); err != nil {
		return err
	}
	now, err := m.load(ctx, tx, a.RecordID, m.dialect.Lock())
	if err != nil {
		return err
	}
	if err := p.check(ctx, tx, a); err != nil {
		return err
	}
	if err := m.readParents(ctx, tx, "{lock}", a); err != nil {
		return err
	}
	dataKey, err := p.currentDataKey(ctx, tx, now)
	if err != nil {
		return err
	}
	defer dataKey.Wipe()
	if a.WrappedKey, err = m.wrap(ctx, now, dataKey, p.key, a); err != nil {
		return err
	}
	if err := p.protect(ctx, now, a); err != nil {
		return err
	}
	if err := p.write(ctx, tx, now, dataKey, a); err != nil {
		return err
	}
	return m.settle(ctx, tx, a.Bucket, a.Object)
}

// check checks that the attachment may be added. It locks the record, and with it
// everything that belongs to it.
func (p *Pending[R]) check(ctx context.Context, tx Tx, a *Attachment) error {
	m := p.manager
	switch {
	case p.old != nil:
		if !slices.Equal(p.old.RecordID, a.RecordID) {
			return errOtherRecord
		}
	case a.Variant != "":
		parent, err := m.one(ctx, tx, "id = ? AND record_table = ? AND record_id = ?{lock}", a.Parent, a.Table, recordID(a.RecordID))
		if errors.Is(err, fs.ErrNotExist) || err == nil && parent.File != a.parent {
			return kmsencrypted.ErrConflict // deleted, or another file now
		}
		if err != nil {
			return err
		}
		taken, err := m.query(ctx, tx, "parent_id = ? AND variant = ?{lock}", a.Parent, a.Variant)
		if err == nil && len(taken) > 0 {
			err = errDerived
		}
		return err
	case slices.Contains(m.config.One, a.Name):
		taken, err := m.query(ctx, tx, "record_table = ? AND record_id = ? AND name = ? AND variant = ''{lock}", a.Table, recordID(a.RecordID), a.Name)
		if err == nil && len(ofRecord(taken, recordID(a.RecordID))) > 0 {
			err = errTaken
		}
		return err
	}
	return nil
}

// write inserts the row and removes what it replaces. dataKey is that of the record
// now.
func (p *Pending[R]) write(ctx context.Context, tx Tx, now *R, dataKey kmsencrypted.DataKey, a *Attachment) error {
	m := p.manager
	if p.old == nil {
		return m.insert(ctx, tx, a)
	}
	if err := m.swap(ctx, tx, p.old, a); err != nil {
		return err
	}
	if err := m.doom(ctx, tx, p.old.Bucket, p.old.Object); err != nil {
		return err
	}
	if p.keep {
		return m.rebindDerived(ctx, tx, now, dataKey, p.old, a)
	}
	return m.removeDerived(ctx, tx, a)
}

// rebindDerived binds the keys of derived files to the new file id of their parent.
func (m *Manager[R]) rebindDerived(ctx context.Context, tx Tx, row *R, dataKey kmsencrypted.DataKey, old, parent *Attachment) error {
	derived, err := m.scan(ctx, tx, "parent_id = ? AND record_table = ? AND record_id = ?{lock}", parent.ID, parent.Table, recordID(parent.RecordID))
	for i := 0; err == nil && i < len(derived); i++ {
		err = m.rebind(ctx, tx, row, dataKey, derived[i], old.File, parent.File)
	}
	return err
}

func (m *Manager[R]) rebind(ctx context.Context, tx Tx, row *R, dataKey kmsencrypted.DataKey, a *Attachment, from, to files.ID) error {
	if a.malformed != nil {
		return a.malformed
	}
	a.parent = from
	key, err := m.unwrap(ctx, row, dataKey, a)
	if err != nil {
		return err
	}
	defer key.Wipe()
	a.parent = to
	wrapped, err := m.wrap(ctx, row, dataKey, key, a)
	if err != nil {
		return err
	}
	_, err = m.exec(ctx, tx, "UPDATE kms_attachments SET wrapped_key = ? WHERE id = ?", wrapped, a.ID)
	return err
}

// currentDataKey returns the data key of a record that was just read under lock, or
// a zero key if this process may not decrypt it. It gives a data key to a record
// without one.
func (p *Pending[R]) currentDataKey(ctx context.Context, tx Tx, now *R) (kmsencrypted.DataKey, error) {
	m := p.manager
	key := m.model.Key(m.key, now)
	column, err := keyText(key)
	switch {
	case err != nil:
		return kmsencrypted.DataKey{}, err
	case column == "":
		return p.addDataKey(ctx, tx, now)
	case p.column == column:
		return p.dataKey.Fresh(ctx)
	case p.denied:
		return kmsencrypted.DataKey{}, nil
	}
	keys, err := m.model.DataKeys(ctx, m.key, now)
	key.Wipe()
	if errors.Is(err, kmsencrypted.ErrDenied) {
		p.denied = true
		return kmsencrypted.DataKey{}, nil
	}
	if err != nil {
		return kmsencrypted.DataKey{}, err
	}
	return keys[0], nil
}

// addDataKey gives a record its first data key. The caller's record takes it over if
// it was read without one. If it has one from a transaction that was rolled back, the record
// gets that one again.
func (p *Pending[R]) addDataKey(ctx context.Context, tx Tx, now *R) (kmsencrypted.DataKey, error) {
	m := p.manager
	if err := m.model.AddSharedKey(ctx, m.key, now, p.row); err != nil {
		return kmsencrypted.DataKey{}, err
	}
	text, err := m.model.Key(m.key, now).Value()
	if err != nil {
		return kmsencrypted.DataKey{}, err
	}
	first := field.Write{Set: []field.Assignment{{Column: m.key, Value: text}}, Where: []field.Assignment{{Column: m.key}}}
	if err := m.writeIf(ctx, tx, now, first); err != nil {
		return kmsencrypted.DataKey{}, err
	}
	keys, err := m.model.DataKeys(ctx, m.key, now)
	if err != nil {
		return kmsencrypted.DataKey{}, err
	}
	return keys[0], nil
}

var _ Tx = (*sql.Tx)(nil)
