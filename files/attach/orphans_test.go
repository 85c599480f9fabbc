package attach_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// A derived file whose original is gone stops the rekey of its record, which says where to
// find it. Orphans does, and Delete ends it.
func TestDerivedWithoutOriginal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, func(c *attach.Config) { c.Grace = time.Millisecond })
	c := w.insert(t, 1)
	kept := w.attach(t, c, "scans", []byte("kept"))
	w.derive(t, c, kept)
	original := w.attach(t, c, "scans", []byte("original"))
	small := w.derive(t, c, original)
	w.exec(t, "DELETE FROM kms_attachments WHERE id = ?", original.ID)
	must(t, w.memory.Delete(t.Context(), original.Object))

	old, err := w.model.Adapter().DataKeys(t.Context(), w.manager.KeyColumn(), c)
	must(t, err)
	again := w.read(t, 1)
	must(t, w.model.Adapter().RekeyWithFiles(t.Context(), again))
	now, err := w.model.Adapter().DataKeys(t.Context(), w.manager.KeyColumn(), again)
	must(t, err)
	err = w.transaction(t, func(tx *sql.Tx) error {
		return w.manager.Rotated(t.Context(), tx, []field.Rotated{{ID: []string{"1"}, Old: old[0], New: now[0]}})
	})
	if failures, is := errors.AsType[field.Failures](err); !is || len(failures) != 1 || !strings.Contains(err.Error(), "Orphans") {
		t.Errorf("Rotated = %v, want one failure that names Orphans", err)
	}

	found, err := w.manager.Orphans(t.Context(), "", 10)
	if err != nil || len(found) != 1 || found[0].ID != small.ID {
		t.Fatalf("Orphans() = %v, %v, want the derived file", found, err)
	}
	if strays, err := w.manager.Strays(t.Context(), "", 10); err != nil || len(strays) > 0 {
		t.Errorf("Strays() = %v, %v, want none", strays, err)
	}
	must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, found[0]) }))
	w.sweep(t)
	w.clean(t, 2)
	w.use(t, 2)
	must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Rekey(t.Context(), tx, w.read(t, 1)) }))
	w.holds(t, kept, []byte("kept"))
	if err := w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, small) }); !errors.Is(err, kmsencrypted.ErrConflict) {
		t.Errorf("second Delete = %v, want ErrConflict", err)
	}
}
