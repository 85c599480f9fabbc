package attach

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"mime"
	"strconv"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// Blob is a file of Active Storage: a row of active_storage_attachments and the row
// of active_storage_blobs that it refers to.
type Blob struct {
	ID, AttachmentID int64
	RecordID         string
	Name             string // of the attachment
	Key, Service     string // object and bucket
	FileName         string
	ContentType      string
	ObjectSize       int64  // in bytes; Rails calls it byte_size
	Checksum         string // MD5 of the object, base64
	Encrypted        bool
	Created          time.Time

	metadata  map[string]json.RawMessage
	malformed error // names the blob, if its metadata is not JSON
}

// adoptedKey names the entry of the blob's metadata that holds its own file key after
// a rekey.
const adoptedKey = "kms_file_key"

func (b *Blob) wrappedKey() (wrapped string) {
	json.Unmarshal(b.metadata[adoptedKey], &wrapped) // wrapped stays empty on an error
	return wrapped
}

// Adopted reports whether the file got a key of its own in a rekey of its record.
func (b *Blob) Adopted() bool { return b.metadata[adoptedKey] != nil }

// place returns what an adopted file key is bound to. The checksum identifies the
// object. Without it, the ciphertext of a column under the old data key could be
// passed off as the file.
func (r *Rails[R]) place(b *Blob) (files.Place, error) {
	sum, err := b.checksum()
	if err != nil {
		return files.Place{}, err
	}
	return files.Place{Format: files.Lockbox, Table: r.model.BoundTable(), ID: []string{b.RecordID}, Attachment: b.Name, File: sum}, nil
}

// query reads attachments of the model by a condition on the tables a and b. A malformed
// row is an error.
func (r *Rails[R]) query(ctx context.Context, db Tx, condition string, args ...any) ([]*Blob, error) {
	list, err := r.read(ctx, db, condition, args...)
	for _, b := range list {
		if err == nil {
			err = b.malformed
		}
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

// read is query for a caller that looks at Blob.malformed.
func (r *Rails[R]) read(ctx context.Context, db Tx, condition string, args ...any) (list []*Blob, err error) {
	rows, err := db.QueryContext(ctx, r.dialect.SQL(`SELECT b.id, a.id, a.record_id, a.name, b.`+r.dialect.Quoted("key")+`, b.service_name, b.filename, b.content_type, b.metadata, b.byte_size, b.checksum, b.created_at
		FROM active_storage_attachments a JOIN active_storage_blobs b ON b.id = a.blob_id WHERE a.record_type = ? AND `+condition), append([]any{r.config.RecordType}, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var b Blob
		var contentType, metadata, checksum *string
		var created any
		if err := rows.Scan(&b.ID, &b.AttachmentID, &b.RecordID, &b.Name, &b.Key, &b.Service, &b.FileName, &contentType, &metadata, &b.ObjectSize, &checksum, &created); err != nil {
			return nil, err
		}
		b.Created = railsTime(created)
		if contentType != nil {
			b.ContentType = *contentType
		}
		if checksum != nil {
			b.Checksum = *checksum
		}
		b.metadata = make(map[string]json.RawMessage)
		if metadata != nil && *metadata != "" {
			if err := json.Unmarshal([]byte(*metadata), &b.metadata); err != nil {
				b.malformed = fmt.Errorf("attach: %w: metadata of blob %d", kmsencrypted.ErrMalformed, b.ID)
			}
		}
		b.Encrypted = string(b.metadata["encrypted"]) == "true"
		list = append(list, &b)
	}
	return list, rows.Err()
}

// railsLayout is the format of a time that Rails writes where the database has no
// type for it.
const railsLayout = "2006-01-02 15:04:05.000000"

func railsTime(v any) time.Time {
	switch v := v.(type) {
	case time.Time:
		return v.UTC()
	case string:
		t, _ := time.Parse("2006-01-02 15:04:05.999999", v)
		return t
	case []byte:
		return railsTime(string(v))
	}
	return time.Time{}
}

// recordID returns the record's ID as an argument for the column record_id.
func (r *Rails[R]) recordID(row *R) (any, error) {
	id := r.model.ID(row)
	if id == nil {
		return nil, &kmsencrypted.Error{Op: "attach", Record: r.model.Table(), Err: kmsencrypted.ErrNoID}
	}
	return r.model.IDValues(row)[0], nil
}

// List returns the attachments of a record under a name, the oldest first.
func (r *Rails[R]) List(ctx context.Context, row *R, name string) ([]*Blob, error) {
	if err := r.usable(row); err != nil {
		return nil, err
	}
	if err := r.records.named(name); err != nil {
		return nil, err
	}
	id, err := r.recordID(row)
	if err != nil {
		return nil, err
	}
	return r.query(ctx, r.db, "a.record_id = ? AND a.name = ? ORDER BY a.id", id, name)
}

// Get returns the first attachment of a record under a name. It returns
// [fs.ErrNotExist] if there is none.
func (r *Rails[R]) Get(ctx context.Context, row *R, name string) (*Blob, error) {
	if err := r.usable(row); err != nil {
		return nil, err
	}
	list, err := r.List(ctx, row, name)
	if err == nil && len(list) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// insert adds both rows, as Rails does.
func (r *Rails[R]) insert(ctx context.Context, tx Tx, b *Blob, record any) error {
	metadata := `{"identified":true,"analyzed":true}`
	if b.Encrypted {
		metadata = `{"identified":true,"encrypted":true,"analyzed":true}`
	}
	if err := json.Unmarshal([]byte(metadata), &b.metadata); err != nil {
		return err
	}
	created := b.Created.Format(railsLayout)
	_, err := tx.ExecContext(ctx, r.dialect.SQL("INSERT INTO active_storage_blobs ("+r.dialect.Quoted("key")+", filename, content_type, metadata, service_name, byte_size, checksum, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"),
		b.Key, b.FileName, b.ContentType, metadata, b.Service, b.ObjectSize, b.Checksum, created)
	if err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, r.dialect.SQL("SELECT id FROM active_storage_blobs WHERE "+r.dialect.Quoted("key")+" = ?"), b.Key).Scan(&b.ID); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, r.dialect.SQL("INSERT INTO active_storage_attachments (name, record_type, record_id, blob_id, created_at) VALUES (?, ?, ?, ?, ?)"),
		b.Name, r.config.RecordType, record, b.ID, created)
	if err != nil {
		return err
	}
	return tx.QueryRowContext(ctx, r.dialect.SQL("SELECT max(id) FROM active_storage_attachments WHERE blob_id = ?"), b.ID).Scan(&b.AttachmentID)
}

// Delete detaches a file in the caller's transaction. [Rails.Sweep] deletes its
// object after the grace period, unless another attachment uses the same blob. What
// Rails made from a plain file (its variants and its preview) is deleted too, as Rails does. Delete
// returns [kmsencrypted.ErrConflict] if the file is already detached.
func (r *Rails[R]) Delete(ctx context.Context, tx Tx, b *Blob) error {
	if err := r.usable(tx, b); err != nil {
		return err
	}
	if err := r.checkIsolation(ctx, tx); err != nil {
		return r.failed("delete", b, err)
	}
	gone, err := r.exec(ctx, tx, "DELETE FROM active_storage_attachments WHERE id = ? AND blob_id = ?", b.AttachmentID, b.ID)
	if err == nil && !gone {
		err = kmsencrypted.ErrConflict
	}
	var others int
	if err == nil {
		err = tx.QueryRowContext(ctx, r.dialect.SQL("SELECT count(*) FROM active_storage_attachments WHERE blob_id = ?"), b.ID).Scan(&others)
	}
	if err != nil || others > 0 {
		return r.failed("delete", b, err)
	}
	if err = r.removeMade(ctx, tx, b); err == nil {
		err = r.removeBlob(ctx, tx, b)
	}
	return r.failed("delete", b, err)
}

// removeBlob deletes the row of a blob that no attachment refers to, and dooms its
// object.
func (r *Rails[R]) removeBlob(ctx context.Context, tx Tx, b *Blob) error {
	gone, err := r.exec(ctx, tx, "DELETE FROM active_storage_blobs WHERE id = ? AND "+r.dialect.Quoted("key")+" = ?", b.ID, b.Key)
	if err == nil && !gone {
		err = kmsencrypted.ErrConflict
	}
	if err != nil {
		return err
	}
	return r.doom(ctx, tx, b.Service, b.Key)
}

// failed adds the blob to an error.
func (r *Rails[R]) failed(op string, b *Blob, err error) error {
	if err == nil {
		return nil
	}
	return &kmsencrypted.Error{Op: op, Record: r.model.Table() + " " + b.RecordID, Column: b.Name + " blob " + strconv.FormatInt(b.ID, 10), Err: err}
}

// railsContentType removes the parameters, which Rails does not keep.
func railsContentType(contentType string) string {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return strings.TrimSpace(contentType)
	}
	return kind
}
