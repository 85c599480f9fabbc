package attach

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// wrap wraps a file key for its row: under the data key of the record, or by the
// Box if this process may not decrypt that data key. data may be zero.
func (m *Manager[R]) wrap(ctx context.Context, row *R, data kmsencrypted.DataKey, key files.Key, a *Attachment) (string, error) {
	if a.isOrphaned() {
		return "", a.orphaned()
	}
	if !data.IsZero() {
		return files.WrapKey(data, key, a.filePlace())
	}
	return m.wrapDirect(ctx, row, key, a)
}

// unwrap opens what wrap returned. data is the data key of the record; zero if it is not
// known, which is enough for a file key that the key service wraps itself.
func (m *Manager[R]) unwrap(ctx context.Context, row *R, data kmsencrypted.DataKey, a *Attachment) (files.Key, error) {
	if files.IsWrappedKey(a.WrappedKey) {
		return files.UnwrapKey(data, a.WrappedKey, a.filePlace())
	}
	return m.unwrapDirect(ctx, row, data, a)
}

// isOrphaned reports a derived file whose original is gone. It is known after readParents.
func (a *Attachment) isOrphaned() bool { return a.Parent != "" && a.parent.IsZero() }

func (a *Attachment) orphaned() error {
	return fmt.Errorf("attach: %w: the file %s that it was derived from is gone: Orphans lists such files", kmsencrypted.ErrBinding, a.Parent)
}

// readParents sets the file ids of what attachments were derived from. lock is empty
// or ends a statement that also locks. A parent that is gone leaves a zero id, under
// which no file key opens that was bound to a parent.
func (m *Manager[R]) readParents(ctx context.Context, db Tx, lock string, list ...*Attachment) error {
	parents := make(map[string]parentRow)
	for _, a := range list {
		if a.Parent == "" {
			parents[a.ID] = parentRow{a.File, a.Created.UnixMilli(), a.malformed}
		}
	}
	var missing []any
	for _, a := range list {
		if _, known := parents[a.Parent]; a.Parent != "" && !known {
			parents[a.Parent] = parentRow{}
			missing = append(missing, a.Parent)
		}
	}
	for ids := range slices.Chunk(missing, bulk) {
		found, err := m.parentRows(ctx, db, ids, lock)
		if err != nil {
			return err
		}
		maps.Copy(parents, found)
	}
	for _, a := range list {
		if a.Parent != "" {
			parent := parents[a.Parent]
			a.parent, a.parentCreated = parent.file, parent.created
			a.malformed = cmp.Or(a.malformed, parent.malformed)
		}
	}
	return nil
}

// parentRow is what a derived file knows of the row of its original.
type parentRow struct {
	file      files.ID
	created   int64
	malformed error
}

// parentRows returns attachments by their IDs.
func (m *Manager[R]) parentRows(ctx context.Context, db Tx, ids []any, lock string) (map[string]parentRow, error) {
	rows, err := db.QueryContext(ctx, m.dialect.SQL("SELECT id, file_id, created FROM kms_attachments WHERE id IN "+marks(len(ids))+lock), ids...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[string]parentRow, len(ids))
	for rows.Next() {
		var a Attachment
		var text string
		var created number
		if err := rows.Scan(&a.ID, &text, &created); err != nil {
			return nil, err
		}
		row := parentRow{created: created.n}
		if row.file, err = files.ParseID(text); err != nil || row.file.IsZero() || created.bad {
			row.malformed = a.malformedColumn("file_id or created")
		}
		found[a.ID] = row
	}
	return found, rows.Err()
}
