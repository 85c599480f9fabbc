package attach

import (
	"context"
	"slices"

	"github.com/kmsencrypted/kmsencrypted/internal/tables"
)

// variantType is the record type of the attachments of variants.
const variantType = "ActiveStorage::VariantRecord"

// removeVariants deletes what Rails made from a blob. A variant is a row of
// active_storage_variant_records, whose foreign key keeps the blob, with an
// attachment and a blob of its own. Rails before 6.1 has no such table.
func (r *Rails[R]) removeVariants(ctx context.Context, tx Tx, b *Blob) error {
	if b.Encrypted {
		return nil // Rails cannot read the picture
	}
	exists, err := r.hasVariants(ctx)
	if err != nil || !exists {
		return err
	}
	records, err := r.ints(ctx, tx, "SELECT id FROM active_storage_variant_records WHERE blob_id = ?{lock}", b.ID)
	if err != nil {
		return err
	}
	for _, record := range records {
		blobs, err := r.ints(ctx, tx, "SELECT blob_id FROM active_storage_attachments WHERE record_type = ? AND record_id = ?{lock}", variantType, record)
		if err != nil {
			return err
		}
		for _, s := range []struct {
			statement string
			args      []any
		}{
			{"DELETE FROM active_storage_attachments WHERE record_type = ? AND record_id = ?", []any{variantType, record}},
			{"DELETE FROM active_storage_variant_records WHERE id = ?", []any{record}},
		} {
			if _, err := r.exec(ctx, tx, s.statement, s.args...); err != nil {
				return err
			}
		}
		for _, blob := range blobs {
			if err := r.removeUnattached(ctx, tx, blob); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeUnattached deletes a blob unless an attachment refers to it.
func (r *Rails[R]) removeUnattached(ctx context.Context, tx Tx, id int64) error {
	var others int
	b := &Blob{ID: id}
	err := tx.QueryRowContext(ctx, r.dialect.SQL("SELECT count(*) FROM active_storage_attachments WHERE blob_id = ?"), id).Scan(&others)
	if err != nil || others > 0 {
		return err
	}
	if err := tx.QueryRowContext(ctx, r.dialect.SQL("SELECT "+r.dialect.Quoted("key")+", service_name FROM active_storage_blobs WHERE id = ?"), id).Scan(&b.Key, &b.Service); err != nil {
		return err
	}
	return r.removeBlob(ctx, tx, b)
}

// hasVariants asks outside the transaction: in PostgreSQL a failed statement ends it.
func (r *Rails[R]) hasVariants(ctx context.Context) (bool, error) {
	existing, err := tables.Columns(ctx, r.db, r.dialect, "active_storage_variant_records")
	return slices.Contains(existing, "blob_id"), err
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
