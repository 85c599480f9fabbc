package attach

import (
	"context"
	"slices"
	"strconv"

	"github.com/kmsencrypted/kmsencrypted/internal/tables"
)

// The record types of the attachments of variants and of previews.
const (
	variantType = "ActiveStorage::VariantRecord"
	previewType = "ActiveStorage::Blob"
)

// removeMade deletes what Rails made from a blob: its variants, and its preview, which
// has variants too. An encrypted blob has them if it was plain before.
func (r *Rails[R]) removeMade(ctx context.Context, tx Tx, b *Blob) error {
	if err := r.removeVariants(ctx, tx, b); err != nil {
		return err
	}
	return r.removePreview(ctx, tx, b)
}

// removePreview deletes the image that Rails made of a PDF or a video. It is an attachment
// whose record is the blob. Where the ids of records are not numbers, there can be none.
func (r *Rails[R]) removePreview(ctx context.Context, tx Tx, b *Blob) error {
	if _, err := strconv.ParseInt(b.RecordID, 10, 64); err != nil {
		return nil
	}
	return r.removeAttached(ctx, tx, previewType, b.ID, b.RecordID)
}

// removeVariants deletes the variants of a blob. A variant is a row of
// active_storage_variant_records, whose foreign key keeps the blob, with an
// attachment and a blob of its own. Rails before 6.1 has no such table.
func (r *Rails[R]) removeVariants(ctx context.Context, tx Tx, b *Blob) error {
	columns, err := tables.Columns(ctx, tx, r.dialect, "active_storage_variant_records")
	if err != nil || !slices.Contains(columns, "blob_id") {
		return err
	}
	records, err := r.ints(ctx, tx, "SELECT id FROM active_storage_variant_records WHERE blob_id = ?{lock}", b.ID)
	if err != nil {
		return err
	}
	for _, record := range records {
		if err := r.removeAttached(ctx, tx, variantType, record, b.RecordID); err != nil {
			return err
		}
		if _, err := r.exec(ctx, tx, "DELETE FROM active_storage_variant_records WHERE id = ?", record); err != nil {
			return err
		}
	}
	return nil
}

// removeAttached deletes the attachments of a record of Rails' own, with their blobs. of
// is the id of the record whose file they were made from.
func (r *Rails[R]) removeAttached(ctx context.Context, tx Tx, recordType string, record int64, of string) error {
	blobs, err := r.ints(ctx, tx, "SELECT blob_id FROM active_storage_attachments WHERE record_type = ? AND record_id = ?{lock}", recordType, record)
	if err != nil || len(blobs) == 0 {
		return err
	}
	if _, err := r.exec(ctx, tx, "DELETE FROM active_storage_attachments WHERE record_type = ? AND record_id = ?", recordType, record); err != nil {
		return err
	}
	for _, id := range blobs {
		if err := r.removeUnattached(ctx, tx, &Blob{ID: id, RecordID: of}); err != nil {
			return err
		}
	}
	return nil
}

// removeUnattached deletes a blob unless an attachment refers to it.
func (r *Rails[R]) removeUnattached(ctx context.Context, tx Tx, b *Blob) error {
	var others int
	err := tx.QueryRowContext(ctx, r.dialect.SQL("SELECT count(*) FROM active_storage_attachments WHERE blob_id = ?"), b.ID).Scan(&others)
	if err != nil || others > 0 {
		return err
	}
	if err := tx.QueryRowContext(ctx, r.dialect.SQL("SELECT "+r.dialect.Quoted("key")+", service_name FROM active_storage_blobs WHERE id = ?"), b.ID).Scan(&b.Key, &b.Service); err != nil {
		return err
	}
	if err := r.removeMade(ctx, tx, b); err != nil {
		return err
	}
	return r.removeBlob(ctx, tx, b)
}

func (r *Rails[R]) ints(ctx context.Context, tx Tx, query string, args ...any) (list []int64, err error) {
	rows, err := tx.QueryContext(ctx, r.dialect.SQL(query), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, rows.Err()
}
