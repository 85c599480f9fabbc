package attach

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// Rotated moves the file keys of records that were just rotated, in the same
// transaction. No object changes. After a rekey it wraps each file key under the
// record's new data key, which takes microseconds. A file key that the key
// service wrapped, because a process was not permitted to decrypt, takes a call.
// A rewrap changes only the file keys that the key service wrapped: they are
// wrapped at the current version.
//
// Rotated makes the manager a [field.Dependents]. For a single record use
// [Manager.Rekey].
func (m *Manager[R]) Rotated(ctx context.Context, tx *sql.Tx, records []field.Rotated) error {
	if err := m.usable(tx); err != nil {
		return err
	}
	if err := m.checkIsolation(ctx, tx); err != nil {
		return err
	}
	byID := make(map[string]int, len(records))
	for i, r := range records {
		byID[recordID(r.ID)] = i
	}
	var failures field.Failures
	wrappers := make(wrappers)
	for chunk := range slices.Chunk(records, 200) {
		args := []any{m.model.BoundTable()}
		for _, r := range chunk {
			args = append(args, recordID(r.ID))
		}
		list, err := m.read(ctx, tx, "record_table = ? AND record_id IN "+marks(len(chunk))+"{lock}", args...)
		if err != nil {
			return err
		}
		var changed []*Attachment
		for _, a := range list {
			if m.isElsewhere(a) {
				continue
			}
			i, ok := byID[recordID(a.RecordID)]
			if !ok {
				continue // the database takes "bob " for "bob": see ofRecord
			}
			before := a.WrappedKey
			err := m.rotateKey(ctx, tx, a, records[i], wrappers)
			switch {
			case err == nil && a.WrappedKey == before: // a rewrap
			case err == nil:
				changed = append(changed, a)
			case isOfFile(err):
				if a.malformed == nil && a.isOrphaned() {
					err = fmt.Errorf("%w: %w", a.orphaned(), err)
				} else if m.named(a.Name) != nil {
					err = fmt.Errorf("it is none of this manager's; if it is under another key column, see Config.Elsewhere: %w", err)
				}
				failures = append(failures, field.Failure{Index: i, Err: a.failed("rotate", err)})
			default:
				return err
			}
		}
		if failures != nil {
			continue // the transaction is rolled back
		}
		for part := range slices.Chunk(changed, bulk/2) {
			if err := m.writeKeys(ctx, tx, part); err != nil {
				return err
			}
		}
	}
	if failures != nil {
		return failures
	}
	return nil
}

// writeKeys writes the wrapped keys of rows that were read under lock.
func (m *Manager[R]) writeKeys(ctx context.Context, tx Tx, list []*Attachment) error {
	var args, ids []any
	for _, a := range list {
		args, ids = append(args, a.ID, a.WrappedKey), append(ids, a.ID)
	}
	result, err := tx.ExecContext(ctx, m.dialect.SQL("UPDATE kms_attachments SET wrapped_key = CASE id"+strings.Repeat(" WHEN ? THEN ?", len(list))+" END WHERE id IN "+marks(len(ids))), append(args, ids...)...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil {
		return err
	} else if n != int64(len(ids)) {
		return kmsencrypted.ErrConflict
	}
	return nil
}

// isOfFile reports whether an error concerns one file key only.
func isOfFile(err error) bool {
	return slices.ContainsFunc([]error{kmsencrypted.ErrDecrypt, kmsencrypted.ErrMalformed, kmsencrypted.ErrNotCiphertext, kmsencrypted.ErrBinding,
		kmsencrypted.ErrNoDataKey, kmsencrypted.ErrVersionNotActive, kmsencrypted.ErrVersionRetired}, func(e error) bool { return errors.Is(err, e) })
}

// wrappers caches keys derived from data keys for the next file of the record.
type wrappers map[kmsencrypted.DataKey]*files.Wrapper

func (w wrappers) under(k kmsencrypted.DataKey) (*files.Wrapper, error) {
	if k.IsZero() {
		return nil, kmsencrypted.ErrNoDataKey
	}
	if known := w[k]; known != nil {
		return known, nil
	}
	made, err := files.NewWrapper(k)
	if err == nil {
		w[k] = made
	}
	return made, err
}

// rotateKey sets the wrapped key that the row of a is to have.
func (m *Manager[R]) rotateKey(ctx context.Context, tx Tx, a *Attachment, r field.Rotated, w wrappers) error {
	var err error
	switch {
	case a.malformed != nil:
		err = a.malformed
	case !files.IsWrappedKey(a.WrappedKey):
		a.WrappedKey, err = m.rotateDirect(ctx, tx, a, r)
	case r.New.IsZero(): // a rewrap
	default:
		a.WrappedKey, err = w.rewrap(a.WrappedKey, a.filePlace(), r)
	}
	return err
}

// rewrap wraps a file key under the new data key.
func (w wrappers) rewrap(wrapped string, place files.Place, r field.Rotated) (string, error) {
	old, err := w.under(r.Old)
	if err != nil {
		return "", err
	}
	new, err := w.under(r.New)
	if err != nil {
		return "", err
	}
	key, err := old.Unwrap(wrapped, place)
	if err != nil {
		return "", err
	}
	defer key.Wipe()
	return new.Wrap(key, place)
}

// rotateDirect is like rewrap for a key that the key service wraps itself.
func (m *Manager[R]) rotateDirect(ctx context.Context, tx Tx, a *Attachment, r field.Rotated) (string, error) {
	row, err := m.load(ctx, tx, a.RecordID, "")
	if err != nil {
		return "", err
	}
	key, err := m.unwrap(ctx, row, r.Old, a)
	if errors.Is(err, kmsencrypted.ErrDecrypt) && !r.Old.IsZero() {
		err = fmt.Errorf("attach: the key service wrapped this file key itself, under the encryption context that the record had: before a record moves to another one, as with its tenant, call WrapKeys; if it did not move: %w", err)
	}
	if err != nil {
		return "", err
	}
	defer key.Wipe()
	return m.wrap(ctx, row, r.New, key, a)
}

// Count returns the number of file keys of the table that the key service wraps
// itself, by version. A version may be retired when neither a record nor a file
// key uses it. File keys under data keys have no version.
func (m *Manager[R]) Count(ctx context.Context) (map[int]int64, error) {
	if err := m.usable(); err != nil {
		return nil, err
	}
	counts := make(map[int]int64)
	err := m.eachDirect(ctx, func(a *Attachment) error {
		counts[a.version()]++
		return nil
	})
	return counts, err
}

// WrapKeys wraps all file keys that the key service wraps itself under the data
// keys of their records. Such file keys come from processes that may not decrypt.
// Each takes two calls. progress, which may be nil, receives the number of file
// keys done and the total. A file key that cannot be moved does not stop the
// others; the returned error joins all errors. A file key of an older release that
// is not bound to its record is [kmsencrypted.ErrBinding] and stays as it was,
// unless [Config.UnboundKeys] is set.
func (m *Manager[R]) WrapKeys(ctx context.Context, progress func(done, total int64)) error {
	if err := m.usable(); err != nil {
		return err
	}
	counts, err := m.Count(ctx)
	if err != nil {
		return err
	}
	var done, total int64
	for _, n := range counts {
		total += n
	}
	var failures []error
	err = m.eachDirect(ctx, func(a *Attachment) error {
		if err := m.wrapKey(ctx, a); err != nil {
			if kmsencrypted.ConcernsAll(err) || ctx.Err() != nil {
				return err
			}
			failures = append(failures, a.failed("wrap", err))
		}
		if done++; progress != nil {
			progress(done, max(done, total))
		}
		return nil
	})
	return errors.Join(append(failures, err)...)
}

// wrapKey unwraps both keys before it locks the record, and starts again if the
// record was rotated meanwhile.
func (m *Manager[R]) wrapKey(ctx context.Context, a *Attachment) error {
	if a.malformed != nil {
		return a.malformed
	}
	row, err := m.recordOf(ctx, a)
	if err != nil {
		return err
	}
	p := &Pending[R]{manager: m, row: row, a: a}
	if err := p.openDataKey(ctx); err != nil {
		return err
	}
	defer p.wipe()
	if p.denied {
		return kmsencrypted.ErrDenied
	}
	if p.key, err = m.unwrap(ctx, row, kmsencrypted.DataKey{}, a); err != nil {
		return err
	}
	return m.transaction(ctx, func(tx Tx) error {
		before := a.WrappedKey
		// SQLite takes its lock on a write, so write without changing anything.
		if _, err := m.exec(ctx, tx, "UPDATE kms_attachment_objects SET until = until WHERE bucket = ? AND object = ?", a.Bucket, a.Object); err != nil {
			return err
		}
		now, err := m.load(ctx, tx, a.RecordID, m.dialect.Lock())
		if err != nil {
			return err
		}
		dataKey, err := p.currentDataKey(ctx, tx, now)
		if err != nil {
			return err
		}
		defer dataKey.Wipe()
		if err := p.sameRecord(ctx, now, dataKey, a); err != nil {
			return err
		}
		wrapped, err := m.wrap(ctx, now, dataKey, p.key, a)
		if err != nil {
			return err
		}
		_, err = m.exec(ctx, tx, "UPDATE kms_attachments SET wrapped_key = ? WHERE id = ? AND wrapped_key = ?", wrapped, a.ID, before)
		return err // another process may have wrapped it
	})
}

// sameRecord returns [kmsencrypted.ErrConflict] if a record that was just read under lock
// may be another than the one whose data key opened before: deleted, and its primary key
// given away.
func (p *Pending[R]) sameRecord(ctx context.Context, now *R, dataKey kmsencrypted.DataKey, a *Attachment) error {
	column, err := keyText(p.manager.model.Key(p.manager.key, now))
	if err != nil || column == p.column {
		return err
	}
	d, err := parseDirect(a.WrappedKey)
	if err != nil {
		return err
	}
	owns, err := p.manager.owns(ctx, now, dataKey, d.record)
	if err == nil && !owns {
		err = kmsencrypted.ErrConflict
	}
	return err
}

// eachDirect calls do for each file key that the key service wraps itself.
func (m *Manager[R]) eachDirect(ctx context.Context, do func(*Attachment) error) error {
	for after := ""; ; {
		list, err := m.read(ctx, m.db, "record_table = ? AND "+isDirect+" AND id > ? ORDER BY id LIMIT 500", m.model.BoundTable(), after)
		if err != nil {
			return fmt.Errorf("attach: file keys of %s: %w", m.model.Table(), err)
		}
		if len(list) == 0 {
			return nil
		}
		for _, a := range list {
			after = a.ID
			if m.isElsewhere(a) {
				continue
			}
			if err := do(a); err != nil {
				return err
			}
		}
	}
}
