package attach_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// attachDenied attaches a file from a process that may not decrypt.
func (w *world) attachDenied(t testing.TB, c *customer, content string) *attach.Attachment {
	t.Helper()
	w.keys.Set(kmstest.Revoke(1).On(kmsencrypted.OpUnwrap))
	defer w.keys.Set()
	return w.attach(t, w.read(t, c.ID), "scans", []byte(content))
}

// recreate deletes a record without its files and gives its primary key to another.
func (w *world) recreate(t testing.TB, id int64) *customer {
	t.Helper()
	w.exec(t, "DELETE FROM customers WHERE id = ?", id)
	return w.insert(t, id)
}

// A record that gets the primary key of a deleted one gets none of its files, whoever
// wrapped their keys, and nothing makes them its own. Strays shows them.
func TestReusedIDPostgresMariaDBSQLite(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		for _, context := range []kmsencrypted.ContextFunc{nil, tenant} {
			w := newWorld(t, d, nil)
			w.useContext(t, 1, context)
			ada, grace := w.insert(t, 1), w.insert(t, 2)
			direct, wrapped := w.attachDenied(t, ada, "direct of Ada"), w.attach(t, ada, "scans", []byte("of Ada"))
			kept := w.attachDenied(t, grace, "of Grace")
			if found, err := w.manager.Strays(t.Context(), "", 10); err != nil || len(found) != 0 {
				t.Errorf("Strays before = %d, %v", len(found), err)
			}
			w.recreate(t, 1)
			for _, a := range []*attach.Attachment{direct, wrapped} {
				if got, err := w.content(t, a); !errors.Is(err, kmsencrypted.ErrDecrypt) {
					t.Errorf("file of the record before = %q, %v, want ErrDecrypt", got, err)
				}
			}
			if err := w.manager.WrapKeys(t.Context(), nil); !errors.Is(err, kmsencrypted.ErrDecrypt) {
				t.Errorf("WrapKeys = %v, want ErrDecrypt", err)
			}
			w.holds(t, kept, []byte("of Grace"))
			if got, err := w.content(t, direct); !errors.Is(err, kmsencrypted.ErrDecrypt) {
				t.Errorf("file of the record before, after WrapKeys = %q, %v, want ErrDecrypt", got, err)
			}
			found, err := w.manager.Strays(t.Context(), "", 10)
			if must(t, err); len(found) != 2 || found[0].RecordID[0] != "1" || found[1].RecordID[0] != "1" {
				t.Errorf("Strays = %d attachments, want the 2 of the record before", len(found))
			}
			if orphans, err := w.manager.Orphans(t.Context(), "", 10); err != nil || len(orphans) != 0 {
				t.Errorf("Orphans = %d, %v, want none", len(orphans), err)
			}
			// A rekey leaves such a record as it was until somebody has looked.
			if result := w.rotateIn(t, context, rotation.Rekey, 2); result.Written != 1 || result.Failed == 0 {
				t.Errorf("rekey = %+v, want one record written and a failure", result)
			}
			must(t, w.transaction(t, func(tx *sql.Tx) error {
				return errors.Join(w.manager.Delete(t.Context(), tx, found[0]), w.manager.Delete(t.Context(), tx, found[1]))
			}))
			if result := w.rotateIn(t, context, rotation.Rekey, 3); result.Written != 2 || result.Failed != 0 {
				t.Errorf("rekey after Strays were deleted = %+v, want two records written", result)
			}
			w.holds(t, kept, []byte("of Grace"))
		}
	})
}

// rotateIn is rotate for a model with that context.
func (w *world) rotateIn(t testing.TB, context kmsencrypted.ContextFunc, kind rotation.Kind, version int) rotation.Result {
	t.Helper()
	w.useContext(t, version, context)
	return w.run(t, kind)
}

// useSealed is use for a version that seals records, which the commitment covers.
func (w *world) useSealed(t testing.TB, version int) {
	t.Helper()
	p := w.keys.Provider()
	b, err := kmsencrypted.Config{Current: version, Versions: map[int]kmsencrypted.Version{1: {Provider: p}, version: {Provider: p, RecordSeal: true}}}.Box()
	must(t, err)
	w.model, err = field.NewModel[customer](b, field.Config{Table: "customers", Files: true, Complete: true})
	must(t, err)
	w.manager, err = attach.New(t.Context(), w.db, w.d.dialect, w.model, w.config)
	must(t, err)
}

// recordKey is the name of the data key in the row of a file.
func (w *world) recordKey(t testing.TB, a *attach.Attachment) string {
	t.Helper()
	now, err := w.manager.Find(t.Context(), a.ID)
	must(t, err)
	parts := strings.Split(now.WrappedKey, ":")
	if len(parts) != 4 || parts[0] != "fb3" {
		t.Fatalf("wrapped key %.10s, want one of the key service with a record key", now.WrappedKey)
	}
	return parts[1]
}

// A rewrap to a version that binds something else changes the commitment of the key
// column and not the data key: the files stay with their record.
func TestFilesStayThroughRewrapOfAnotherBinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	a := w.attachDenied(t, w.insert(t, 1), "of Ada")
	before := w.recordKey(t, a)
	w.useSealed(t, 2)
	if got, err := w.content(t, a); err != nil || string(got) != "of Ada" {
		t.Errorf("before the rewrap: %q, %v", got, err)
	}
	if result := w.run(t, rotation.Rewrap); result.Written != 1 || result.Failed != 0 {
		t.Errorf("rewrap = %+v", result)
	}
	w.holds(t, a, []byte("of Ada"))
	if after := w.recordKey(t, a); after == before {
		t.Error("the rewrap did not change the commitment: the test shows nothing")
	}
	must(t, w.manager.WrapKeys(t.Context(), nil))
	w.holds(t, a, []byte("of Ada"))
}

// A rewrap of one record, without its manager, changes the commitment too.
func TestFilesOpenAfterRewrapWithoutManager(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	a := w.attachDenied(t, w.insert(t, 1), "of Ada")
	w.useSealed(t, 2)
	c := w.read(t, 1)
	must(t, w.model.Rewrap(t.Context(), c))
	w.exec(t, "UPDATE customers SET encrypted_kms_key = ? WHERE id = 1", c.Key)
	if version, _ := w.read(t, 1).Key.Version(); version != 2 {
		t.Fatalf("version %d, want 2", version)
	}
	w.holds(t, a, []byte("of Ada"))
	must(t, w.manager.WrapKeys(t.Context(), nil))
	w.holds(t, a, []byte("of Ada"))
}

// A restore gives files back to records with the data key that they had, and to others
// only on demand: the primary key may be another record's.
func TestRestoreReusedID(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	w := newWorld(t, sqlite, v.into(t, nil))
	kept := w.attach(t, w.insert(t, 1), "scans", []byte("of Ada"))
	small := w.derive(t, w.read(t, 1), kept)
	gone := w.attachDenied(t, w.insert(t, 2), "of Grace")
	bare := w.attach(t, w.insert(t, 3), "scans", []byte("of Joan"))
	w.recreate(t, 2)
	w.exec(t, "UPDATE customers SET encrypted_kms_key = NULL, email_ciphertext = NULL WHERE id = 3")
	for _, table := range []string{"kms_attachments", "kms_attachment_objects"} {
		w.exec(t, "DELETE FROM "+table)
	}
	got, err := w.manager.Restore(t.Context(), attach.RestoreOptions{})
	if want := (attach.Restored{Files: 2, OtherKey: 2}); err != nil || got != want {
		t.Errorf("Restore = %+v, %v, want %+v", got, err, want)
	}
	w.holds(t, kept, []byte("of Ada"))
	w.holds(t, small, []byte("of "))
	if ids := idsOf(t, w); len(ids) != 2 {
		t.Errorf("%d files are back, want 2", len(ids))
	}
	// After a rekey the wraps name the data key before. WrapRecovery renews them.
	w.rotate(t, rotation.Rekey, 2)
	must(t, w.manager.WrapRecovery(t.Context(), nil))
	w.exec(t, "DELETE FROM kms_attachments")
	if got, err := w.manager.Restore(t.Context(), attach.RestoreOptions{}); err != nil || got.Files != 2 || got.OtherKey != 2 {
		t.Errorf("Restore after a rekey = %+v, %v, want the same 2 files", got, err)
	}
	if got, err := w.manager.Restore(t.Context(), attach.RestoreOptions{NewKeys: true}); err != nil || got.Files != 2 || got.Present != 2 {
		t.Errorf("Restore with NewKeys = %+v, %v, want the 2 others", got, err)
	}
	w.holds(t, gone, []byte("of Grace")) // as demanded
	w.holds(t, bare, []byte("of Joan"))
}
