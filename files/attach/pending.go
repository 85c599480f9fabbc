package attach

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// Pending is a file that was uploaded and belongs to nothing yet. It is not safe
// for concurrent use. One that is neither committed nor discarded is given up after
// [Config.Lease].
type Pending[R any] struct {
	manager *Manager[R]
	row     *R
	a       *Attachment
	key     files.Key
	old     *Attachment // whose place it takes
	keep    bool        // what was derived from old stays: the file is the same

	dataKey kmsencrypted.DataKey // of the record, if it was read; to be wiped
	column  string               // that it was unwrapped from
	denied  bool                 // to decrypt
}

// Size is that of the file in bytes.
func (p *Pending[R]) Size() int64 { return p.a.Size }

// ContentType is what the file turned out to be.
func (p *Pending[R]) ContentType() string { return p.a.ContentType }

// Discard gives the file up and deletes its object, now if that works and else
// with the next sweep.
func (p *Pending[R]) Discard(ctx context.Context) error {
	return errors.Join(p.wipe(), p.manager.discard(ctx, p.a.Bucket, p.a.Object))
}

// wipe overwrites the keys.
func (p *Pending[R]) wipe() error {
	p.key.Wipe()
	p.dataKey.Wipe()
	return nil
}

// Commit attaches the file in the caller's transaction, in which the record may
// have been inserted. It locks the record's row until the end of the transaction,
// so that the file key is wrapped under the data key that the record really has: a
// rotation comes before or after it. It makes no call to the key service, except
// where the record has no data key yet, where it was not read before [Manager.Upload]
// or was rotated since, and where this process may not decrypt.
//
// After an error roll the transaction back; Commit may then be called in another
// one. After success, and when the transaction was committed too, the file is
// there; if that failed, it is as if Commit had not been called.
//
// A name of [Config.One] that has a file already, and for [Manager.Replace] a file
// that was replaced or deleted meanwhile, is [kmsencrypted.ErrConflict]. A record
// that is not there is [sql.ErrNoRows]. [ErrAbandoned] is the end of the lease.
func (p *Pending[R]) Commit(ctx context.Context, tx Tx) (*Attachment, error) {
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
	// First of all a change: it holds off the sweeper, and is what SQLite locks by.
	if err := m.extend(ctx, tx, a.Bucket, a.Object); err != nil {
		return err
	}
	now, err := m.load(ctx, tx, a.RecordID, m.lock)
	if err != nil {
		return err
	}
	if err := p.check(ctx, tx, a); err != nil {
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
	if err := p.write(ctx, tx, a); err != nil {
		return err
	}
	return m.settle(ctx, tx, a.Bucket, a.Object)
}

// check sees whether there is room for the attachment. The record is locked, and
// with it everything that belongs to it.
func (p *Pending[R]) check(ctx context.Context, tx Tx, a *Attachment) error {
	m := p.manager
	switch {
	case p.old != nil:
		if !slices.Equal(p.old.RecordID, a.RecordID) {
			return fmt.Errorf("%w: the attachment is another record's", kmsencrypted.ErrConfig)
		}
	case a.Variant != "":
		_, err := m.one(ctx, tx, "id = ? AND record_table = ? AND record_id = ?{lock}", a.Parent, a.Table, recordID(a.RecordID))
		if errors.Is(err, fs.ErrNotExist) {
			return kmsencrypted.ErrConflict
		}
		if err != nil {
			return err
		}
		taken, err := m.query(ctx, tx, "parent_id = ? AND variant = ?{lock}", a.Parent, a.Variant)
		if err == nil && len(taken) > 0 {
			err = kmsencrypted.ErrConflict
		}
		return err
	case slices.Contains(m.config.One, a.Name):
		taken, err := m.query(ctx, tx, "record_table = ? AND record_id = ? AND name = ? AND variant = ''{lock}", a.Table, recordID(a.RecordID), a.Name)
		if err == nil && len(taken) > 0 {
			err = kmsencrypted.ErrConflict
		}
		return err
	}
	return nil
}

// write makes the row, and takes away what it replaces.
func (p *Pending[R]) write(ctx context.Context, tx Tx, a *Attachment) error {
	m := p.manager
	if p.old == nil {
		return m.insert(ctx, tx, a)
	}
	if err := m.swap(ctx, tx, p.old, a); err != nil {
		return err
	}
	if err := m.doom(ctx, tx, p.old.Bucket, p.old.Object); err != nil || p.keep {
		return err
	}
	return m.removeDerived(ctx, tx, a)
}

// currentDataKey is the data key of a record that was just read under lock; zero
// where this process may not decrypt it. A record without one gets one.
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

// addDataKey gives a record its first data key. The caller's record takes it over
// if it was read without one.
func (p *Pending[R]) addDataKey(ctx context.Context, tx Tx, now *R) (kmsencrypted.DataKey, error) {
	m := p.manager
	if err := m.model.AddKey(ctx, m.key, now); err != nil {
		return kmsencrypted.DataKey{}, err
	}
	key := m.model.Key(m.key, now)
	text, err := key.Value()
	if err != nil {
		return kmsencrypted.DataKey{}, err
	}
	column := m.Quoted(m.key)
	set, err := m.exec(ctx, tx, "UPDATE "+m.QuotedTable(m.model.Table())+" SET "+column+" = ?"+m.whereID()+" AND "+column+" IS NULL",
		append([]any{text}, m.model.IDValues(now)...)...)
	if err == nil && !set {
		err = kmsencrypted.ErrConflict
	}
	if err != nil {
		return kmsencrypted.DataKey{}, err
	}
	if theirs := m.model.Key(m.key, p.row); theirs.IsNull() {
		err = theirs.Scan(text)
	}
	keys, keysErr := m.model.DataKeys(ctx, m.key, now)
	if err = errors.Join(err, keysErr); err != nil {
		return kmsencrypted.DataKey{}, err
	}
	return keys[0], nil
}

var _ Tx = (*sql.Tx)(nil)
