package attach

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// directPrefix begins a file key that the key service wraps itself, in the form
// that is bound to the record by its own context (spec/files.md section 4.1). Older
// releases wrote the text of the Box alone, which the record's context binds to the
// record only if it names the record.
const directPrefix = "fb2:"

// isDirect is the condition on rows whose file key the key service wraps itself.
const isDirect = "(wrapped_key LIKE 'v%' OR wrapped_key LIKE '" + directPrefix + "%')"

// wrap wraps a file key for its row: under the data key of the record, or by the
// Box if this process may not decrypt that data key. data may be zero.
func (m *Manager[R]) wrap(ctx context.Context, row *R, data kmsencrypted.DataKey, key files.Key, a *Attachment) (string, error) {
	if a.Parent != "" && a.parent.IsZero() {
		return "", a.orphaned()
	}
	if !data.IsZero() {
		return files.WrapKey(data, key, a.filePlace())
	}
	raw, err := key.Raw()
	if err != nil {
		return "", err
	}
	defer clear(raw)
	text, err := m.model.Box().Encrypt(ctx, raw, m.directContext(row, a))
	if err != nil {
		return "", err
	}
	return directPrefix + text, nil
}

// unwrap opens what wrap returned. data is the data key of the record.
func (m *Manager[R]) unwrap(ctx context.Context, row *R, data kmsencrypted.DataKey, a *Attachment) (files.Key, error) {
	if files.IsWrappedKey(a.WrappedKey) {
		return files.UnwrapKey(data, a.WrappedKey, a.filePlace())
	}
	text, bound := strings.CutPrefix(a.WrappedKey, directPrefix)
	of := m.directContext(row, a)
	if !bound {
		if err := m.checkUnbound(row, a); err != nil {
			return files.Key{}, err
		}
		of = m.unboundContext(row, a)
	}
	raw, err := m.model.Box().Decrypt(ctx, text, of)
	if err != nil {
		return files.Key{}, err
	}
	defer clear(raw)
	return files.KeyFrom(raw)
}

// directContext returns the encryption context of a file key that the key service
// wraps itself: that of the record, and all that a key under a data key is bound to.
func (m *Manager[R]) directContext(row *R, a *Attachment) kmsencrypted.EncryptionContext {
	return kmsencrypted.ContextWith(m.model.Binding(m.key, row).Context, a.directPairs()...)
}

// directPairs are the pairs that the context of a record gets for a file.
func (a *Attachment) directPairs() []kmsencrypted.Pair {
	pairs := []kmsencrypted.Pair{
		{Name: "attachment", Value: a.place()},
		{Name: "file_id", Value: a.File.String()},
		{Name: "record_table", Value: a.Table},
		{Name: "record_id", Value: recordID(a.RecordID)},
	}
	if !a.parent.IsZero() {
		pairs = append(pairs, kmsencrypted.Pair{Name: "parent_file_id", Value: a.parent.String()})
	}
	return pairs
}

// unboundContext is the context that older releases used.
func (m *Manager[R]) unboundContext(row *R, a *Attachment) kmsencrypted.EncryptionContext {
	return kmsencrypted.ContextWith(m.model.Binding(m.key, row).Context, a.directPairs()[:2]...)
}

// checkUnbound returns [kmsencrypted.ErrBinding] for a file key of an older release
// whose context does not name the record: its row may have been copied from another
// record.
func (m *Manager[R]) checkUnbound(row *R, a *Attachment) error {
	version := kmsencrypted.ColumnVersion(a.WrappedKey)
	context, ok := m.model.Binding(m.key, row).Context.(kmsencrypted.VersionedContext)
	if m.config.UnboundKeys || !ok {
		return nil
	}
	ec, err := context(version)
	if err != nil {
		return nil // the Box returns the same error
	}
	is, err := kmsencrypted.Bind(ec)
	if err != nil {
		return err
	}
	usual, err := kmsencrypted.Bind(m.defaultContext(row))
	if err != nil {
		return err
	}
	if is.String() != usual.String() {
		return fmt.Errorf("attach: the file key of an older release does not name its record: see Config.UnboundKeys: %w", kmsencrypted.ErrBinding)
	}
	return nil
}

// defaultContext returns the context that records have by default. Its names and
// values are those of package field; kms_encrypted's types do not matter here.
func (m *Manager[R]) defaultContext(row *R) kmsencrypted.EncryptionContext {
	id := m.model.ID(row)
	if len(id) == 1 {
		return kmsencrypted.ModelContext{Name: m.model.Name(), ID: id[0]}
	}
	pairs := kmsencrypted.OrderedContext{{Name: "model_name", Value: m.model.Name()}}
	for i, column := range m.model.IDColumns() {
		pairs = append(pairs, kmsencrypted.Pair{Name: column, Value: id[i]})
	}
	return pairs
}

// version returns the version of a file key that the key service wraps itself.
func (a *Attachment) version() int {
	return kmsencrypted.ColumnVersion(strings.TrimPrefix(a.WrappedKey, directPrefix))
}

func (a *Attachment) orphaned() error {
	return fmt.Errorf("attach: %w: the file %s that it was derived from is gone", kmsencrypted.ErrBinding, a.Parent)
}

// readParents sets the file ids of what attachments were derived from. lock is empty
// or ends a statement that also locks. A parent that is gone leaves a zero id, under
// which no file key opens that was bound to a parent.
func (m *Manager[R]) readParents(ctx context.Context, db Tx, lock string, list ...*Attachment) error {
	parents := make(map[string]parentRow)
	for _, a := range list {
		if a.Parent == "" {
			parents[a.ID] = parentRow{a.File, a.Created.UnixMilli()}
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
			a.parent, a.parentCreated = parents[a.Parent].file, parents[a.Parent].created
		}
	}
	return nil
}

// parentRow is what a derived file knows of the row of its original.
type parentRow struct {
	file    files.ID
	created int64
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
		var id, text string
		var row parentRow
		if err := rows.Scan(&id, &text, &row.created); err != nil {
			return nil, err
		}
		if row.file, err = files.ParseID(text); err != nil {
			return nil, err
		}
		found[id] = row
	}
	return found, rows.Err()
}
