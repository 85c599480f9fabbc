package attach

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// Orphans returns at most limit attachments, with IDs above after and in that order,
// whose records do not exist any more: somebody deleted the record without
// [Manager.DeleteAll]. Nobody can read them, because their file keys were wrapped
// under the data key of the record. After a look at them pass each to
// [Manager.Delete]; [Manager.Sweep] then deletes the objects. Derived files are
// deleted with the file that they were made from.
//
// A database user who does not see all records, as under row level security, must
// not delete what Orphans returns.
func (m *Manager[R]) Orphans(ctx context.Context, after string, limit int) ([]*Attachment, error) {
	if err := m.usable(); err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, configError("a limit of %d", limit)
	}
	var found []*Attachment
	known := make(map[string]bool) // whether a record exists
	for len(found) < limit {
		list, err := m.scan(ctx, m.db, fmt.Sprintf("record_table = ? AND id > ? ORDER BY id LIMIT %d", bulk), m.model.BoundTable(), after)
		if err != nil {
			return nil, fmt.Errorf("attach: attachments of %s: %w", m.model.Table(), err)
		}
		if len(list) == 0 {
			break
		}
		for _, a := range list {
			exists, err := m.recordExists(ctx, a.RecordID, known)
			if err != nil {
				return nil, a.failed("find", err)
			}
			if after = a.ID; !exists && a.Parent == "" && len(found) < limit {
				found = append(found, a)
			}
		}
	}
	return slices.Clip(found), nil
}

func (m *Manager[R]) recordExists(ctx context.Context, id []string, known map[string]bool) (bool, error) {
	exists, ok := known[recordID(id)]
	if ok {
		return exists, nil
	}
	_, err := m.load(ctx, m.db, id, "")
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	known[recordID(id)] = err == nil
	return err == nil, nil
}
