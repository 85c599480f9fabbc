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

// Orphans returns at most limit attachments, with IDs above after and in that order,
// whose records do not exist any more: somebody deleted the record without
// [Manager.DeleteAll]. Nobody can read them, because their file keys were wrapped
// under the data key of the record. Orphans also returns derived files whose original is
// gone, which nobody can read either, and which stop the rekey of their record. After a
// look at them pass each to [Manager.Delete]; [Manager.Sweep] then deletes the objects.
// Other derived files are not listed, because they are deleted with the file that they
// were made from. [Manager.Strays] finds files whose primary key another record has now.
//
// A malformed row, of which Orphans cannot say whether it belongs to a record, or whose
// record exists, does not stop the search: the error joins one for each, which matches
// [kmsencrypted.ErrMalformed] and names record and row, and what was found is returned too.
// Strays does the same, also for records whose data keys do not open.
//
// A database user who does not see all records, as under row level security, must
// not delete what Orphans returns.
func (m *Manager[R]) Orphans(ctx context.Context, after string, limit int) ([]*Attachment, error) {
	known := make(map[string]bool) // whether a record exists
	return m.search(ctx, after, limit, func(a *Attachment) (bool, error) {
		if a.Parent != "" {
			return a.isOrphaned(), a.malformed
		}
		exists, err := m.recordExists(ctx, a, known)
		if err != nil || !exists {
			return !exists, err
		}
		return false, a.malformed
	})
}

// Strays is like Orphans for attachments whose record exists and has another data key
// than the one that the file was attached under: somebody deleted their record without
// [Manager.DeleteAll] and gave its primary key to another one, which cannot read them. Rows
// that somebody moved to another record are found too. It needs permission to decrypt and
// takes a call for each record.
//
// Not found are file keys that the key service wraps itself and that name no data key:
// under Ruby versions, and of older releases. See the threat model.
func (m *Manager[R]) Strays(ctx context.Context, after string, limit int) ([]*Attachment, error) {
	return m.search(ctx, after, limit, func(a *Attachment) (bool, error) {
		if a.Parent != "" {
			return false, a.malformed // deleted with its original
		}
		stray, err := m.isStray(ctx, a)
		if err != nil || !stray {
			return false, err
		}
		// The record may have been rotated after the row was read.
		now, err := m.one(ctx, m.db, "id = ?", a.ID)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return m.isStray(ctx, now)
	})
}

// search returns the attachments that is chooses. A row that it cannot judge does not stop
// the others; the error joins all errors.
func (m *Manager[R]) search(ctx context.Context, after string, limit int, is func(*Attachment) (bool, error)) ([]*Attachment, error) {
	if err := m.usable(); err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, configError("a limit of %d", limit)
	}
	var found []*Attachment
	var failures []error
	for len(found) < limit {
		list, err := m.read(ctx, m.db, fmt.Sprintf("record_table = ? AND id > ? ORDER BY id LIMIT %d", bulk), m.model.BoundTable(), after)
		if err != nil {
			return nil, fmt.Errorf("attach: attachments of %s: %w", m.model.Table(), err)
		}
		if len(list) == 0 {
			break
		}
		for _, a := range list {
			if after = a.ID; len(found) == limit {
				break
			}
			chosen, err := is(a)
			switch {
			case err != nil && !isOfFile(err):
				return nil, errors.Join(append(failures, a.failed("find", err))...)
			case err != nil:
				failures = append(failures, a.failed("find", err))
			case chosen:
				found = append(found, a)
			}
		}
	}
	return slices.Clip(found), errors.Join(failures...)
}

func (m *Manager[R]) recordExists(ctx context.Context, a *Attachment, known map[string]bool) (bool, error) {
	id := recordID(a.RecordID)
	exists, ok := known[id]
	if ok {
		return exists, nil
	}
	_, err := m.recordOf(ctx, a)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	known[id] = err == nil
	return err == nil, nil
}

// isStray reports whether the record of a file has another data key than the file's.
func (m *Manager[R]) isStray(ctx context.Context, a *Attachment) (bool, error) {
	if a.malformed != nil || m.isElsewhere(a) {
		return false, a.malformed
	}
	row, err := m.recordOf(ctx, a)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil // an orphan
	}
	if err != nil {
		return false, err
	}
	if !files.IsWrappedKey(a.WrappedKey) {
		d, err := parseDirect(a.WrappedKey)
		if err != nil || d.record == "" {
			return false, err
		}
		owns, err := m.owns(ctx, row, kmsencrypted.DataKey{}, d.record)
		return err == nil && !owns, err
	}
	keys, err := m.model.DataKeys(ctx, m.key, row)
	if err != nil {
		return false, err
	}
	defer keys[0].Wipe()
	if keys[0].IsZero() {
		return true, nil
	}
	key, err := m.unwrap(ctx, row, keys[0], a)
	key.Wipe()
	if errors.Is(err, kmsencrypted.ErrDecrypt) {
		return true, nil
	}
	return false, err
}
