package attach_test

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// One record gets a new data key, and its files follow; its neighbour's do not.
func TestRekeyOneRecordPostgresMariaDBMySQLSQLite(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		w := newWorld(t, d, nil)
		one, other := w.insert(t, 1), w.insert(t, 2)
		license := w.attach(t, one, "license", []byte("licence of Ada"))
		scan := w.attach(t, one, "scans", random(1, 100_000))
		neighbour := w.attach(t, other, "license", []byte("licence of Bob"))
		wrapped := func(id string) (key string) {
			must(t, w.db.QueryRow(w.sql("SELECT wrapped_key FROM kms_attachments WHERE id = ?"), id).Scan(&key))
			return key
		}
		column := func(id int64) (key string) {
			must(t, w.db.QueryRow(w.sql("SELECT encrypted_kms_key FROM customers WHERE id = ?"), id).Scan(&key))
			return key
		}
		before, beforeOther := column(1), column(2)

		w.use(t, 2)
		// A model with files refuses to do it without them.
		c := w.read(t, 1)
		if err := w.model.Rekey(t.Context(), c); !errors.Is(err, kmsencrypted.ErrNeedsFiles) {
			t.Errorf("Model.Rekey = %v, want ErrNeedsFiles", err)
		}
		// Rolled back, nothing has happened.
		tx, err := w.db.BeginTx(t.Context(), nil)
		must(t, err)
		must(t, w.manager.Rekey(t.Context(), tx, w.read(t, 1)))
		must(t, tx.Rollback())
		if column(1) != before || wrapped(license.ID) != license.WrappedKey {
			t.Error("a rekey that was rolled back changed something")
		}
		w.holds(t, license, []byte("licence of Ada"))

		c = w.read(t, 1)
		must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Rekey(t.Context(), tx, c) }))
		if wrapped(license.ID) == license.WrappedKey || wrapped(scan.ID) == scan.WrappedKey || wrapped(neighbour.ID) != neighbour.WrappedKey {
			t.Error("want both file keys of the record wrapped anew, and not its neighbour's")
		}
		if version := kmsencrypted.ColumnVersion(column(1)); version != 2 || column(2) != beforeOther {
			t.Errorf("the record is at version %d, want 2, and its neighbour as before", version)
		}
		// The record in memory equals the row in the database.
		c.Email = field.New("countess@example.org")
		if err := w.model.Seal(t.Context(), c); err != nil {
			t.Errorf("a change after the rekey: %v", err)
		}
		w.holds(t, license, []byte("licence of Ada"))
		w.holds(t, scan, random(1, 100_000))
		w.holds(t, neighbour, []byte("licence of Bob"))
		again := w.read(t, 1)
		must(t, w.model.Open(t.Context(), again))
		if email, err := again.Email.Get(); err != nil || email != "ada@example.org" {
			t.Errorf("email = %q, %v", email, err)
		}
	})
}

// Nothing is written where the record is no longer what was read, or one of its
// file keys does not open.
func TestRekeyOneRecordRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	for id := int64(1); id <= 2; id++ {
		w.attach(t, w.insert(t, id), "license", []byte("content"))
	}
	stale := w.read(t, 1)
	w.use(t, 2)
	must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Rekey(t.Context(), tx, w.read(t, 1)) }))
	err := w.transaction(t, func(tx *sql.Tx) error { return w.manager.Rekey(t.Context(), tx, stale) })
	if !errors.Is(err, kmsencrypted.ErrConflict) {
		t.Errorf("Rekey of a stale record = %v, want ErrConflict", err)
	}
	w.exec(t, "UPDATE kms_attachments SET wrapped_key = (SELECT k FROM (SELECT wrapped_key AS k FROM kms_attachments WHERE record_id = ?) AS other) WHERE record_id = ?", `1`, `2`)
	err = w.transaction(t, func(tx *sql.Tx) error { return w.manager.Rekey(t.Context(), tx, w.read(t, 2)) })
	if version, _ := w.read(t, 2).Key.Version(); !errors.Is(err, kmsencrypted.ErrDecrypt) || version != 1 {
		t.Errorf("Rekey with a damaged file key = %v, the record at version %d, want ErrDecrypt and 1", err, version)
	}
	if err := w.transaction(t, func(tx *sql.Tx) error { return w.manager.Rekey(t.Context(), tx, new(customer)) }); !errors.Is(err, kmsencrypted.ErrNoID) {
		t.Errorf("Rekey of no record = %v, want ErrNoID", err)
	}
	if err := w.transaction(t, func(tx *sql.Tx) error { return w.manager.Rekey(t.Context(), tx, &customer{ID: 2}) }); !errors.Is(err, kmsencrypted.ErrNotLoaded) {
		t.Errorf("Rekey of a record that was not read = %v, want ErrNotLoaded", err)
	}
}
