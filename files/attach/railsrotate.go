package attach

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
)

// Rotated adopts the files of records that were just rekeyed, in the same
// transaction; see [Rails]. It makes Rails a [field.Dependents]. For a
// single record use [Rails.Rekey].
func (r *Rails[R]) Rotated(ctx context.Context, tx *sql.Tx, records []field.Rotated) error {
	if err := r.usable(tx); err != nil {
		return err
	}
	if err := r.records.checkIsolation(ctx, tx); err != nil {
		return err
	}
	byID := make(map[string]int, len(records))
	for i, rotated := range records {
		byID[rotated.ID[0]] = i
	}
	var failures field.Failures
	for chunk := range slices.Chunk(records, 200) {
		var args []any
		for _, rotated := range chunk {
			if rotated.New.IsZero() {
				return nil // a rewrap keeps the data keys
			}
			row := new(R)
			if err := r.model.SetID(row, rotated.ID); err != nil {
				return err
			}
			args = append(args, r.model.IDValues(row)[0])
		}
		list, err := r.read(ctx, tx, "a.record_id IN "+marks(len(chunk))+" ORDER BY a.id{lock}", args...)
		if err != nil {
			return err
		}
		for _, b := range list {
			i, ok := byID[b.RecordID]
			if !ok {
				continue // the database takes "bob " for "bob": see ofRecord
			}
			err := r.adopt(ctx, tx, b, records[i])
			switch {
			case err == nil:
			case isOfFile(err), errors.Is(err, errUnknownName):
				failures = append(failures, field.Failure{Index: i, Err: r.failed("rotate", b, err)})
			default:
				return err
			}
		}
	}
	if failures != nil {
		return failures
	}
	return nil
}

// adopt makes the old data key the file's own key, or wraps the file's own key under
// the new data key.
func (r *Rails[R]) adopt(ctx context.Context, tx Tx, b *Blob, rotated field.Rotated) error {
	a, known := r.config.Attachments[b.Name]
	if known && (a.Plain || !a.RecordKey) || slices.Contains(r.config.Elsewhere, b.Name) {
		return nil
	}
	if b.malformed != nil {
		return b.malformed
	}
	if !known && b.Encrypted {
		return errUnknownName
	}
	if !b.Encrypted {
		return nil // attached before encrypts_attached was added
	}
	if rotated.Old.IsZero() {
		return kmsencrypted.ErrNoDataKey
	}
	place, err := r.place(b)
	if err != nil {
		return err
	}
	var key files.Key
	if b.Adopted() {
		key, err = files.UnwrapKey(rotated.Old, b.wrappedKey(), place)
	} else {
		key, err = keyFromDataKey(rotated.Old)
	}
	if err != nil {
		return err
	}
	defer key.Wipe()
	wrapped, err := files.WrapKey(rotated.New, key, place)
	if err != nil {
		return err
	}
	text, err := json.Marshal(wrapped)
	if err != nil {
		return err
	}
	b.metadata[adoptedKey] = text
	metadata, err := json.Marshal(b.metadata)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, r.dialect.SQL("UPDATE active_storage_blobs SET metadata = ? WHERE id = ?"), string(metadata), b.ID)
	return err
}

// errUnknownName is a blob that may be under a data key which the rekey replaces.
var errUnknownName = fmt.Errorf("%w: an encrypted attachment that is neither in Attachments nor in Elsewhere", kmsencrypted.ErrConfig)

func keyFromDataKey(k kmsencrypted.DataKey) (files.Key, error) {
	raw, err := k.Raw()
	if err != nil {
		return files.Key{}, err
	}
	defer clear(raw)
	return files.KeyFrom(raw)
}

// Adopted returns at most limit adopted files with blob IDs above after, in that
// order, without those of [RailsConfig].Elsewhere. Rails cannot read them until they are
// re-encrypted.
func (r *Rails[R]) Adopted(ctx context.Context, after int64, limit int) ([]*Blob, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	condition, args := fmt.Sprintf("b.id > ? AND b.metadata LIKE '%%\"%s\"%%'", adoptedKey), []any{after}
	for _, name := range r.config.Elsewhere {
		condition, args = condition+" AND a.name <> ?", append(args, name)
	}
	return r.query(ctx, r.db, condition+fmt.Sprintf(" ORDER BY b.id LIMIT %d", max(limit, 0)), args...)
}

// Reencrypt moves a file to a new object under the key that Rails uses today. For an
// adopted file that is the record's data key. A plain file of an attachment with Migrating
// is encrypted, and what Rails made from it (its variants and its preview) is deleted. Attachment and blob keep their IDs. row
// is the record, read with its key column. progress, which may be nil, receives the
// number of bytes of the file that are done. Reencrypt returns
// [kmsencrypted.ErrConflict] if the file or the record changed meanwhile.
// [Rails.Sweep] deletes the old object after the grace period.
func (r *Rails[R]) Reencrypt(ctx context.Context, row *R, b *Blob, progress func(done, total int64)) (*Blob, error) {
	if err := r.usable(row, b); err != nil {
		return nil, err
	}
	src, err := r.Open(ctx, row, b)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	bucket, err := r.records.config.bucketFor(ctx, b.Name, Options{Bucket: r.records.config.staysIn(b.Service)})
	if err != nil {
		return nil, r.failed("reencrypt", b, err)
	}
	p := &RailsPending[R]{rails: r, row: row, b: &Blob{ID: b.ID, AttachmentID: b.AttachmentID, RecordID: b.RecordID, Name: b.Name, Service: bucket}}
	if err := r.put(ctx, p, src, Options{Size: src.Size(), Progress: progress}); err != nil {
		return nil, r.failed("reencrypt", b, err)
	}
	moved := *p.b
	moved.FileName, moved.ContentType, moved.Created = b.FileName, b.ContentType, b.Created
	moved.metadata = make(map[string]json.RawMessage)
	for name, value := range b.metadata {
		if name != adoptedKey {
			moved.metadata[name] = value
		}
	}
	if moved.Encrypted { // a file from before it was encrypted gets the marks of Lockbox
		moved.metadata["encrypted"], moved.metadata["analyzed"] = json.RawMessage("true"), json.RawMessage("true")
	}
	// The new object must open before the old one is dropped.
	again, err := r.open(ctx, row, &moved)
	if err == nil {
		err = again.Close()
	}
	if err == nil {
		err = r.transaction(ctx, func(tx Tx) error { return r.swap(ctx, tx, p, b, &moved) })
	}
	if err != nil {
		return nil, r.failed("reencrypt", b, errors.Join(err, p.Discard(ctx)))
	}
	return &moved, nil
}

func (r *Rails[R]) swap(ctx context.Context, tx Tx, p *RailsPending[R], old, moved *Blob) error {
	if err := r.lockRecord(ctx, tx, p, moved); err != nil {
		return err
	}
	metadata, err := json.Marshal(moved.metadata)
	if err != nil {
		return err
	}
	key := r.dialect.Quoted("key")
	swapped, err := r.exec(ctx, tx, "UPDATE active_storage_blobs SET "+key+" = ?, service_name = ?, byte_size = ?, checksum = ?, metadata = ? WHERE id = ? AND "+key+" = ?",
		moved.Key, moved.Service, moved.ObjectSize, moved.Checksum, string(metadata), old.ID, old.Key)
	if err == nil && !swapped {
		err = kmsencrypted.ErrConflict
	}
	if err == nil && moved.Encrypted && !old.Encrypted { // they show what is encrypted now
		err = r.removeMade(ctx, tx, old)
	}
	if err == nil {
		err = r.doom(ctx, tx, old.Service, old.Key)
	}
	if err != nil {
		return err
	}
	return r.settle(ctx, tx, moved.Service, moved.Key)
}
