package attach_test

import (
	"database/sql"
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// A file is deleted with what Rails made from it, which foreign keys ask for: a plain one,
// and one that Rails encrypted later and marked so.
func TestRailsVariantsGoWithTheirPicture(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain", "license"} {
		t.Run(name, func(t *testing.T) { testVariantsGo(t, name) })
	}
}

func testVariantsGo(t *testing.T, name string) {
	t.Parallel()
	w := newRailsWorld(t)
	w.db.SetMaxOpenConns(1) // the transaction has it
	w.exec(t, "PRAGMA foreign_keys = ON")
	w.exec(t, "CREATE TABLE IF NOT EXISTS active_storage_variant_records (id integer PRIMARY KEY AUTOINCREMENT NOT NULL, blob_id bigint NOT NULL, variation_digest varchar NOT NULL, FOREIGN KEY (blob_id) REFERENCES active_storage_blobs (id))")
	d := w.read(t, 1)
	old, err := w.rails.List(t.Context(), d, name)
	must(t, err)
	for _, b := range old {
		must(t, w.transaction(t, func(tx *sql.Tx) error { return w.rails.Delete(t.Context(), tx, b) }))
	}
	picture := w.attach(t, d, name, []byte("a picture"))
	other := w.attach(t, w.read(t, 2), "scans", []byte("another file"))
	var made []*attach.Blob
	// made is the file of a record of Rails' own.
	madeFor := func(recordType string, id int64, name string) *attach.Blob {
		b := w.attach(t, d, "scans", []byte(name))
		w.exec(t, "UPDATE active_storage_attachments SET record_type = ?, record_id = ?, name = ? WHERE id = ?", recordType, id, name, b.AttachmentID)
		made = append(made, b)
		return b
	}
	preview := madeFor("ActiveStorage::Blob", picture.ID, "preview_image")
	for i, of := range []*attach.Blob{picture, picture, preview} {
		id := int64(100 + i)
		w.exec(t, "INSERT INTO active_storage_variant_records (id, blob_id, variation_digest) VALUES (?, ?, ?)", id, of.ID, "digest")
		madeFor("ActiveStorage::VariantRecord", id, "image")
	}
	must(t, w.transaction(t, func(tx *sql.Tx) error { return w.rails.Delete(t.Context(), tx, picture) }))
	for _, table := range []string{"active_storage_variant_records", "active_storage_attachments WHERE record_type LIKE 'ActiveStorage::%'"} {
		var n int
		if must(t, w.db.QueryRow("SELECT count(*) FROM "+table).Scan(&n)); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	time.Sleep(5 * time.Millisecond)
	if swept, err := w.rails.Sweep(t.Context()); err != nil || swept.Deleted < 5 {
		t.Errorf("Sweep = %+v, %v, want the picture, its preview and three variants deleted", swept, err)
	}
	for _, b := range append(made, picture) {
		if _, err := w.bucket.Open(t.Context(), b.Key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("object %s: %v, want fs.ErrNotExist", b.Key, err)
		}
	}
	if _, err := w.content(t, w.read(t, 2), other); err != nil {
		t.Errorf("another file: %v", err)
	}
}
