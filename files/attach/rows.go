package attach

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
)

const attachmentColumns = "id, record_table, record_id, name, variant, parent_id, bucket, object, format, file_id, wrapped_key, size, object_size, file_name, content_type, created"

// rowColumns are the columns that this manager reads and writes. Without recovery it
// works with tables that have no column for it.
func (m *Manager[R]) rowColumns() string {
	if m.config.Recovery == nil {
		return attachmentColumns
	}
	return attachmentColumns + ", recovery"
}

// query reads attachments by a condition on the table kms_attachments. A malformed row is
// an error.
func (m *Manager[R]) query(ctx context.Context, db Tx, condition string, args ...any) ([]*Attachment, error) {
	list, err := m.read(ctx, db, condition, args...)
	for _, a := range list {
		if err == nil {
			err = a.malformed
		}
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

// read is query for a caller that looks at Attachment.malformed: one malformed row must
// not end what concerns many records.
func (m *Manager[R]) read(ctx context.Context, db Tx, condition string, args ...any) ([]*Attachment, error) {
	list, err := m.scan(ctx, db, condition, args...)
	if err != nil {
		return nil, err
	}
	lock := ""
	if strings.HasSuffix(condition, "{lock}") {
		lock = "{lock}"
	}
	return list, m.readParents(ctx, db, lock, list...)
}

// scan is read without the file ids of parents.
func (m *Manager[R]) scan(ctx context.Context, db Tx, condition string, args ...any) (list []*Attachment, err error) {
	rows, err := db.QueryContext(ctx, m.dialect.SQL("SELECT "+m.rowColumns()+" FROM kms_attachments WHERE "+condition), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		a, err := m.scanRow(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, rows.Err()
}

// scanRow reads the current row.
func (m *Manager[R]) scanRow(rows *sql.Rows) (*Attachment, error) {
	var a Attachment
	var record, format, file string
	var size, objectSize, created number
	var recovery sql.NullString
	into := []any{&a.ID, &a.Table, &record, &a.Name, &a.Variant, &a.Parent, &a.Bucket, &a.Object, &format, &file,
		&a.WrappedKey, &size, &objectSize, &a.FileName, &a.ContentType, &created}
	if m.config.Recovery != nil {
		into = append(into, &recovery)
	}
	if err := rows.Scan(into...); err != nil {
		return nil, err
	}
	a.recovery = recovery.String
	a.Format, a.Size, a.ObjectSize, a.Created = files.Format(format), size.n, objectSize.n, time.UnixMilli(created.n).UTC()
	var badID, badFile error
	if a.RecordID, badID = parseRecordID(record, len(m.model.IDColumns())); badID != nil {
		a.RecordID = []string{record} // for errors
	}
	a.File, badFile = files.ParseID(file)
	for _, c := range []struct {
		name string
		bad  bool
	}{
		{"record_id", badID != nil}, {"name", a.Name == ""}, {"format", format == ""}, {"file_id", badFile != nil || a.File.IsZero()},
		{"size", size.bad}, {"object_size", objectSize.bad}, {"created", created.bad},
	} {
		if c.bad {
			a.malformed = a.malformedColumn(c.name)
			break
		}
	}
	return &a, nil
}

// number is an integer of a row. SQLite also stores text in such a column.
type number struct {
	n   int64
	bad bool
}

// Scan implements [sql.Scanner].
func (n *number) Scan(value any) error {
	var v sql.NullInt64
	n.bad = v.Scan(value) != nil || !v.Valid
	n.n = v.Int64
	return nil
}

// one is like query for exactly one attachment. It returns [fs.ErrNotExist] without
// one.
func (m *Manager[R]) one(ctx context.Context, db Tx, condition string, args ...any) (*Attachment, error) {
	list, err := m.query(ctx, db, condition, args...)
	if err == nil && len(list) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func (m *Manager[R]) rowValues(a *Attachment) []any {
	values := []any{a.ID, a.Table, recordID(a.RecordID), a.Name, a.Variant, a.Parent, a.Bucket, a.Object, string(a.Format), a.File.String(),
		a.WrappedKey, a.Size, a.ObjectSize, a.FileName, a.ContentType, a.Created.UnixMilli()}
	if m.config.Recovery != nil {
		values = append(values, a.recovery)
	}
	return values
}

// insert adds the row of an attachment.
func (m *Manager[R]) insert(ctx context.Context, tx Tx, a *Attachment) error {
	values := m.rowValues(a)
	_, err := m.exec(ctx, tx, "INSERT INTO kms_attachments ("+m.rowColumns()+") VALUES "+marks(len(values)), values...)
	return err
}

// swap makes a row refer to another object, if it still refers to the object of old.
func (m *Manager[R]) swap(ctx context.Context, tx Tx, old, a *Attachment) error {
	set := strings.Split(m.rowColumns(), ", ")[6:] // from bucket on
	args := append(m.rowValues(a)[6:], old.ID, m.model.BoundTable(), old.Bucket, old.Object)
	swapped, err := m.exec(ctx, tx, "UPDATE kms_attachments SET "+strings.Join(set, " = ?, ")+" = ? WHERE id = ? AND record_table = ? AND bucket = ? AND object = ?", args...)
	if err == nil && !swapped {
		err = kmsencrypted.ErrConflict
	}
	return err
}

// remove deletes the row of an attachment if it still refers to the same object, and
// the rows derived from it, and dooms their objects.
func (m *Manager[R]) remove(ctx context.Context, tx Tx, a *Attachment) error {
	removed, err := m.exec(ctx, tx, "DELETE FROM kms_attachments WHERE id = ? AND record_table = ? AND bucket = ? AND object = ?", a.ID, m.model.BoundTable(), a.Bucket, a.Object)
	if err == nil && !removed {
		err = kmsencrypted.ErrConflict
	}
	if err == nil {
		err = m.doom(ctx, tx, a.Bucket, a.Object)
	}
	if err == nil {
		err = m.removeDerived(ctx, tx, a)
	}
	return err
}

func (m *Manager[R]) removeDerived(ctx context.Context, tx Tx, parent *Attachment) error {
	derived, err := m.scan(ctx, tx, "parent_id = ? AND record_table = ? AND record_id = ?{lock}", parent.ID, parent.Table, recordID(parent.RecordID))
	if err != nil || len(derived) == 0 {
		return err
	}
	return m.removeMany(ctx, tx, derived)
}

// record returns the table and the ID of a record as in kms_attachments.
func (m *Manager[R]) record(row *R) (table, id string, err error) {
	texts := m.model.ID(row)
	if texts == nil {
		return "", "", &kmsencrypted.Error{Op: "attach", Record: m.model.Table(), Err: kmsencrypted.ErrNoID}
	}
	return m.model.BoundTable(), recordID(texts), nil
}

// List returns the attachments of a record under a name, the oldest first, without
// derived ones.
func (m *Manager[R]) List(ctx context.Context, row *R, name string) ([]*Attachment, error) {
	if err := m.usable(row); err != nil {
		return nil, err
	}
	if err := m.named(name); err != nil {
		return nil, err
	}
	table, id, err := m.record(row)
	if err != nil {
		return nil, err
	}
	list, err := m.query(ctx, m.db, "record_table = ? AND record_id = ? AND name = ? AND variant = '' ORDER BY created, id", table, id, name)
	return ofRecord(list, id), err
}

// ofRecord leaves out rows of other records: MariaDB and MySQL compare texts without the
// spaces at their ends, and "bob " may be another record than "bob".
func ofRecord(list []*Attachment, id string) []*Attachment {
	return slices.DeleteFunc(list, func(a *Attachment) bool { return recordID(a.RecordID) != id })
}

// Get returns the attachment of a record under a name of [Config.One]. It returns
// [fs.ErrNotExist] if there is none.
func (m *Manager[R]) Get(ctx context.Context, row *R, name string) (*Attachment, error) {
	if err := m.usable(row); err != nil {
		return nil, err
	}
	list, err := m.List(ctx, row, name)
	if err == nil && len(list) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// Find returns the attachment with an ID, of any record of the table. It returns
// [fs.ErrNotExist] if there is none. The caller must check whether its user may see
// the attachment.
func (m *Manager[R]) Find(ctx context.Context, id string) (*Attachment, error) {
	if err := m.usable(); err != nil {
		return nil, err
	}
	return m.one(ctx, m.db, "id = ? AND record_table = ?", id, m.model.BoundTable())
}

// Derived returns what [Manager.Derive] made from an attachment under a variant. It
// returns [fs.ErrNotExist] if there is none.
func (m *Manager[R]) Derived(ctx context.Context, a *Attachment, variant string) (*Attachment, error) {
	if err := m.usable(a); err != nil {
		return nil, err
	}
	return m.one(ctx, m.db, "parent_id = ? AND variant = ? AND record_table = ? AND record_id = ?", a.ID, variant, a.Table, recordID(a.RecordID))
}

// Delete detaches a file and its derived files in the caller's transaction.
// [Manager.Sweep] deletes the objects after [Config.Grace]. Delete returns
// [kmsencrypted.ErrConflict] if the row is gone or refers to another object, and
// [kmsencrypted.ErrConfig] for an attachment of a record of another table.
func (m *Manager[R]) Delete(ctx context.Context, tx Tx, a *Attachment) error {
	if err := m.usable(tx, a); err != nil {
		return err
	}
	err := m.checkIsolation(ctx, tx)
	if err == nil {
		err = m.remove(ctx, tx, a)
	}
	return a.failed("delete", err)
}

// DeleteAll detaches all files of a record. Call it before the record itself is
// deleted. Where the database takes different texts for one primary key, as under a
// collation that ignores case, they are the files of the record that it finds.
func (m *Manager[R]) DeleteAll(ctx context.Context, tx Tx, row *R) error {
	if err := m.usable(tx, row); err != nil {
		return err
	}
	table, id, err := m.record(row)
	if err != nil {
		return err
	}
	stored, err := m.find(ctx, tx, m.model.ID(row), m.dialect.Lock()) // no file is committed meanwhile
	if err == nil {
		id = recordID(m.model.ID(stored))
	} else if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	list, err := m.scan(ctx, tx, "record_table = ? AND record_id = ?{lock}", table, id)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(ofRecord(list, id), bulk) {
		if err := m.removeMany(ctx, tx, chunk); err != nil {
			return err
		}
	}
	return nil
}

// bulk is the number of rows that one statement handles.
const bulk = 500

// removeMany deletes rows that were read under lock, and dooms their objects.
func (m *Manager[R]) removeMany(ctx context.Context, tx Tx, list []*Attachment) error {
	ids := make([]any, len(list))
	for n, a := range list {
		ids[n] = a.ID
	}
	for _, s := range []struct {
		statement string
		args      []any
	}{
		{"INSERT INTO kms_attachment_objects (bucket, object, state, until) SELECT bucket, object, '" + doomed + "', {now} + ? FROM kms_attachments WHERE id IN " + marks(len(ids)), append([]any{m.grace.Milliseconds()}, ids...)},
		{"DELETE FROM kms_attachments WHERE id IN " + marks(len(ids)), ids},
	} {
		result, err := tx.ExecContext(ctx, m.dialect.SQL(s.statement), s.args...)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil {
			return err
		} else if n != int64(len(ids)) {
			return kmsencrypted.ErrConflict
		}
	}
	return nil
}

func (m *Manager[R]) named(name string) error {
	if !slices.Contains(m.config.One, name) && !slices.Contains(m.config.Many, name) {
		return configError("%s has no attachment %q", m.model.Table(), name)
	}
	return nil
}

// transaction runs do in a transaction of the manager's own.
func (i intents) transaction(ctx context.Context, do func(Tx) error) error {
	var options sql.TxOptions
	if i.dialect == field.Postgres { // whatever the database's default is
		options.Isolation = sql.LevelReadCommitted
	}
	tx, err := i.db.BeginTx(ctx, &options)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// checkIsolation refuses a transaction of PostgreSQL that goes on seeing what was there
// before it had locked rows: it would not see a file that was committed meanwhile. A rekey
// would leave that under a data key that is gone, and Delete would leave what was derived
// from a file. Those of the other databases read what is there when they lock.
func (i intents) checkIsolation(ctx context.Context, tx Tx) error {
	if i.dialect != field.Postgres {
		return nil
	}
	var level string
	if err := tx.QueryRowContext(ctx, "SHOW transaction_isolation").Scan(&level); err != nil {
		return err
	}
	if level == "repeatable read" || level == "serializable" {
		return configError("files are attached, moved and deleted in transactions that are READ COMMITTED, and this one is %s", level)
	}
	return nil
}
