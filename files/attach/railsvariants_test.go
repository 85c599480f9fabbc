package attach_test

import (
	"database/sql"
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// A plain picture is deleted with what Rails made from it, which its foreign key asks
// for.
func TestRailsVariantsGoWithTheirPicture(t *testing.T) {
	t.Parallel()
	w := newRailsWorld(t)
	w.exec(t, "CREATE TABLE IF NOT EXISTS active_storage_variant_records (id integer PRIMARY KEY AUTOINCREMENT NOT NULL, blob_id bigint NOT NULL, variation_digest varchar NOT NULL, FOREIGN KEY (blob_id) REFERENCES active_storage_blobs (id))")
	d := w.read(t, 1)
	old, err := w.rails.List(t.Context(), d, "plain")
	must(t, err)
	for _, b := range old {
		must(t, w.transaction(t, func(tx *sql.Tx) error { return w.rails.Delete(t.Context(), tx, b) }))
	}
	picture := w.attach(t, d, "plain", []byte("a picture"))
	other := w.attach(t, w.read(t, 2), "scans", []byte("another file"))
	var variants []*attach.Blob
	for i, digest := range []string{"one", "two"} {
		// As Rails does: the variant's file is the attachment "image" of its record.
		b := w.attach(t, d, "scans", []byte(digest))
		w.exec(t, "INSERT INTO active_storage_variant_records (id, blob_id, variation_digest) VALUES (?, ?, ?)", 100+i, picture.ID, digest)
		w.exec(t, "UPDATE active_storage_attachments SET record_type = 'ActiveStorage::VariantRecord', record_id = ?, name = 'image' WHERE id = ?", 100+i, b.AttachmentID)
		variants = append(variants, b)
	}
	must(t, w.transaction(t, func(tx *sql.Tx) error {
		if _, err := tx.Exec("PRAGMA defer_foreign_keys = ON"); err != nil {
			return err
		}
		return w.rails.Delete(t.Context(), tx, picture)
	}))
	for _, table := range []string{"active_storage_variant_records", "active_storage_attachments WHERE record_type = 'ActiveStorage::VariantRecord'"} {
		var n int
		if must(t, w.db.QueryRow("SELECT count(*) FROM "+table).Scan(&n)); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	time.Sleep(5 * time.Millisecond)
	if swept, err := w.rails.Sweep(t.Context()); err != nil || swept.Deleted < 3 {
		t.Errorf("Sweep = %+v, %v, want the picture and two variants deleted", swept, err)
	}
	for _, b := range append(variants, picture) {
		if _, err := w.bucket.Open(t.Context(), b.Key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("object %s: %v, want fs.ErrNotExist", b.Key, err)
		}
	}
	if _, err := w.content(t, w.read(t, 2), other); err != nil {
		t.Errorf("another file: %v", err)
	}
}
