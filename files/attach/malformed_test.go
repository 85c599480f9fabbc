package attach_test

import (
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// One malformed row of kms_attachments concerns its record only, and the error names the
// row.
func TestMalformedRow(t *testing.T) {
	t.Parallel()
	for _, bad := range []struct{ column, value string }{
		{"file_id", "zz"}, {"file_id", strings.Repeat("0", 32)}, {"format", ""}, {"name", ""},
		{"size", "zz"}, {"object_size", ""}, {"created", "zz"}, {"record_id", "zz"},
	} {
		t.Run(bad.column+"="+bad.value, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sqlite, func(c *attach.Config) { c.Grace = time.Millisecond })
			var list []*attach.Attachment
			for id := range int64(4) {
				list = append(list, w.attach(t, w.insert(t, id+1), "scans", []byte("a scan")))
			}
			w.derive(t, w.read(t, 2), list[1])
			w.exec(t, "DELETE FROM customers WHERE id = 4")
			w.exec(t, "UPDATE kms_attachments SET "+bad.column+" = ? WHERE id = ?", bad.value, list[1].ID)
			named := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, kmsencrypted.ErrMalformed) || !strings.Contains(err.Error(), "row "+list[1].ID) {
					t.Errorf("%s: %v, want ErrMalformed that names row %s", what, err, list[1].ID)
				}
			}
			found, err := w.manager.Orphans(t.Context(), "", 10)
			named("Orphans", err)
			if len(found) != 1 || found[0].ID != list[3].ID {
				t.Errorf("Orphans() = %v, want the file of record 4", found)
			}
			_, err = w.manager.Strays(t.Context(), "", 10)
			named("Strays", err)
			if bad.column != "record_id" { // else it is of no record
				_, err = w.manager.Find(t.Context(), list[1].ID)
				named("Find", err)
			}

			result := w.rotate(t, rotation.Rekey, 2)
			if result.Written+result.Failed != 3 || result.Written < 2 {
				t.Errorf("rekey = %+v, want two written and one not", result)
			}
			w.holds(t, list[0], []byte("a scan"))
			w.holds(t, list[2], []byte("a scan"))
			must(t, w.deleteAll(t, 2))
			must(t, w.deleteAll(t, 1))
		})
	}
}

func (w *world) deleteAll(t *testing.T, id int64) error {
	return w.transaction(t, func(tx *sql.Tx) error { return w.manager.DeleteAll(t.Context(), tx, w.read(t, id)) })
}

// The same for file keys that the key service wrapped, and for those whose record is gone.
func TestWrapKeysGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	gone := w.attachDenied(t, w.insert(t, 1), "of a deleted record")
	bad := w.attachDenied(t, w.insert(t, 2), "malformed")
	for id := range int64(4) {
		w.attachDenied(t, w.insert(t, 3+id), "good")
	}
	w.exec(t, "DELETE FROM customers WHERE id = 1")
	w.exec(t, "UPDATE kms_attachments SET file_id = 'zz' WHERE id = ?", bad.ID)
	counts, err := w.manager.Count(t.Context())
	must(t, err)
	if !maps.Equal(counts, map[int]int64{1: 6}) {
		t.Errorf("Count() = %v, want 6 of version 1", counts)
	}
	err = w.manager.WrapKeys(t.Context(), nil)
	for _, want := range []string{"row " + bad.ID, "customers [" + gone.RecordID[0] + "]", "Orphans"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("WrapKeys = %v, want an error with %q", err, want)
		}
	}
	if counts, err = w.manager.Count(t.Context()); err != nil || !maps.Equal(counts, map[int]int64{1: 2}) {
		t.Errorf("Count() = %v, %v, want the two that could not be wrapped", counts, err)
	}
}

// The same for a blob of Active Storage whose metadata is not JSON.
func TestMalformedBlob(t *testing.T) {
	t.Parallel()
	w := newRailsWorld(t)
	var rotated []field.Rotated
	for _, f := range w.manifest.Files {
		known := slices.ContainsFunc(rotated, func(r field.Rotated) bool { return r.ID[0] == fmt.Sprint(f.RecordID) })
		if f.Name != "photo" || known {
			continue
		}
		keys, err := w.documents.Adapter().DataKeys(t.Context(), w.rails.KeyColumn(), w.read(t, f.RecordID))
		must(t, err)
		rotated = append(rotated, field.Rotated{ID: []string{fmt.Sprint(f.RecordID)}, Old: keys[0], New: keys[0]})
	}
	if len(rotated) < 2 {
		t.Fatalf("%d documents with a photo, want two", len(rotated))
	}
	_, err := w.db.Exec("UPDATE active_storage_blobs SET metadata = 'no JSON' WHERE id IN (SELECT blob_id FROM active_storage_attachments WHERE name = 'photo' AND record_id = ?)", rotated[1].ID[0])
	must(t, err)
	err = w.transaction(t, func(tx *sql.Tx) error { return w.rails.Rotated(t.Context(), tx, rotated) })
	failures, is := errors.AsType[field.Failures](err)
	if !is || !slices.Equal(slices.Compact(indexes(failures)), []int{1}) || !errors.Is(err, kmsencrypted.ErrMalformed) {
		t.Errorf("Rotated = %v, want ErrMalformed of the second document only", err)
	}
}

func indexes(failures field.Failures) (list []int) {
	for _, f := range failures {
		list = append(list, f.Index)
	}
	return list
}
