package attach_test

import (
	"database/sql"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// tenant is a context that does not name the record.
func tenant(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
	return kmsencrypted.Context{"tenant": "acme"}, nil
}

// useContext is use(version) with a context for all records, nil for the default.
func (w *world) useContext(t testing.TB, version int, context kmsencrypted.ContextFunc) {
	t.Helper()
	var err error
	w.model, err = field.NewModel[customer](box(t, w.keys.Provider(), version), field.Config{Table: "customers", Files: true, Complete: true, Context: context})
	must(t, err)
	w.manager, err = attach.New(t.Context(), w.db, w.d.dialect, w.model, w.config)
	must(t, err)
}

// derive attaches the first bytes of a file as its variant "small".
func (w *world) derive(t testing.TB, c *customer, a *attach.Attachment) *attach.Attachment {
	t.Helper()
	p, err := w.manager.Derive(t.Context(), c, a, "small", attach.Options{}, func(dst io.Writer, src *attach.File) error {
		_, err := io.CopyN(dst, src, 3)
		return err
	})
	must(t, err)
	small, err := w.commit(t, p)
	must(t, err)
	return small
}

// Whoever wraps the file keys, and whatever the context names, a row that was moved
// to another record, name or parent does not open, and nothing makes it permanent
// there.
func TestFileKeysAreBoundPostgresMariaDBSQLite(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]database{"SQLite": sqlite, "Postgres": postgres, "MariaDB": mariadb} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, direct := range []bool{false, true} {
				for _, context := range []kmsencrypted.ContextFunc{nil, tenant} {
					testBound(t, d, direct, context)
				}
			}
		})
	}
}

func testBound(t *testing.T, d database, direct bool, context kmsencrypted.ContextFunc) {
	w := newWorld(t, d, nil)
	w.useContext(t, 1, context)
	ada, _ := w.insert(t, 1), w.insert(t, 2)
	one, two := w.attach(t, ada, "scans", []byte("one of Ada")), w.attach(t, ada, "scans", []byte("two of Ada"))
	smallOne, smallTwo := w.derive(t, ada, one), w.derive(t, ada, two)
	if direct {
		w.keys.Set(kmstest.Revoke(1).On(kmsencrypted.OpUnwrap))
	}
	license := w.attach(t, w.read(t, 1), "license", []byte("licence of Ada"))
	w.keys.Set()
	if files.IsWrappedKey(license.WrappedKey) == direct {
		t.Fatalf("wrapped key %.8s, want one of the key service: %v", license.WrappedKey, direct)
	}
	what := func(move string) string {
		return move + ", wrapped as " + license.WrappedKey[:4] + map[bool]string{true: ", context of a tenant"}[context != nil]
	}
	refused := func(move, id string) {
		t.Helper()
		a, err := w.manager.Find(t.Context(), id)
		must(t, err)
		if got, err := w.content(t, a); !errors.Is(err, kmsencrypted.ErrDecrypt) {
			t.Errorf("%s: Open = %q, %v, want ErrDecrypt", what(move), got, err)
		}
	}
	w.exec(t, "UPDATE kms_attachments SET record_id = '2' WHERE id = ?", license.ID)
	refused("moved to another record", license.ID)
	if err := w.manager.WrapKeys(t.Context(), nil); direct && !errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Errorf("%s: WrapKeys = %v, want ErrDecrypt", what("moved"), err)
	}
	refused("moved to another record and wrapped", license.ID)
	w.exec(t, "UPDATE kms_attachments SET record_id = '1', name = 'photo' WHERE id = ?", license.ID)
	refused("renamed", license.ID)
	w.exec(t, "UPDATE kms_attachments SET name = 'license', parent_id = ?, variant = 'small' WHERE id = ?", one.ID, license.ID)
	refused("made a preview", license.ID)
	w.exec(t, "UPDATE kms_attachments SET parent_id = '', variant = '' WHERE id = ?", license.ID)
	w.holds(t, license, []byte("licence of Ada"))

	// Previews exchanged: small of one is that of two.
	w.exec(t, "UPDATE kms_attachments SET parent_id = ? WHERE id = ?", two.ID, smallOne.ID)
	refused("a preview of another file", smallOne.ID)
	w.exec(t, "UPDATE kms_attachments SET parent_id = 'gone' WHERE id = ?", smallOne.ID)
	refused("a preview of no file", smallOne.ID)
	w.exec(t, "UPDATE kms_attachments SET parent_id = '' WHERE id = ?", smallOne.ID)
	refused("a preview without a parent", smallOne.ID)
	w.exec(t, "UPDATE kms_attachments SET parent_id = ? WHERE id = ?", one.ID, smallOne.ID)
	w.holds(t, smallOne, []byte("one"))

	// IDs of two files exchanged: the spec says that each opens in the place of the
	// other, and that previews do not follow.
	w.exec(t, "UPDATE kms_attachments SET id = 'x' WHERE id = ?", one.ID)
	w.exec(t, "UPDATE kms_attachments SET id = ? WHERE id = ?", one.ID, two.ID)
	w.exec(t, "UPDATE kms_attachments SET id = ? WHERE id = 'x'", two.ID)
	w.holds(t, one, []byte("two of Ada"))
	refused("a preview of exchanged files", smallOne.ID)
	refused("a preview of exchanged files", smallTwo.ID)
}

// A preview follows its file through re-encryption and rekey, and one that was made
// of the file before is not attached.
func TestPreviewsFollowTheirFilePostgresMariaDBSQLite(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]database{"SQLite": sqlite, "Postgres": postgres, "MariaDB": mariadb} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, d, nil)
			c := w.insert(t, 1)
			a := w.attach(t, c, "license", []byte("licence of Ada"))
			small := w.derive(t, c, a)
			again, err := w.manager.Reencrypt(t.Context(), a, nil)
			must(t, err)
			w.holds(t, small, []byte("lic"))
			w.rotate(t, rotation.Rekey, 2)
			w.holds(t, small, []byte("lic"))
			w.holds(t, again, []byte("licence of Ada"))

			c = w.read(t, 1)
			late, err := w.manager.Derive(t.Context(), c, again, "late", attach.Options{}, func(dst io.Writer, src *attach.File) error {
				_, err := io.Copy(dst, src)
				return err
			})
			must(t, err)
			p, err := w.manager.Replace(t.Context(), c, again, strings.NewReader("licence of Bob"), attach.Options{})
			must(t, err)
			replaced, err := w.commit(t, p)
			must(t, err)
			if _, err := w.commit(t, late); !errors.Is(err, kmsencrypted.ErrConflict) {
				t.Errorf("Commit of a preview of the file before = %v, want ErrConflict", err)
			}
			w.holds(t, replaced, []byte("licence of Bob"))
		})
	}
}

// File keys that an older release let the key service wrap open under the default
// context, which names the record. Under another context they need a decision.
func TestFileKeysOfOlderReleasesPostgresMariaDBSQLite(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]database{"SQLite": sqlite, "Postgres": postgres, "MariaDB": mariadb} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, d, nil)
			c := w.insert(t, 1)
			a := w.attach(t, c, "license", []byte("licence of Ada"))
			w.wrapAsBefore(t, c, a)
			w.holds(t, a, []byte("licence of Ada"))
			must(t, w.manager.WrapKeys(t.Context(), nil))
			if now, err := w.manager.Find(t.Context(), a.ID); err != nil || !files.IsWrappedKey(now.WrappedKey) {
				t.Errorf("after WrapKeys: %.5s, %v", now.WrappedKey, err)
			}
			w.holds(t, a, []byte("licence of Ada"))

			w.useContext(t, 1, tenant)
			b := w.attach(t, w.insert(t, 2), "license", []byte("licence of Bob"))
			old := w.wrapAsBefore(t, w.read(t, 2), b)
			if _, err := w.content(t, b); !errors.Is(err, kmsencrypted.ErrBinding) {
				t.Errorf("Open under a context that does not name the record = %v, want ErrBinding", err)
			}
			if err := w.manager.WrapKeys(t.Context(), nil); !errors.Is(err, kmsencrypted.ErrBinding) {
				t.Errorf("WrapKeys = %v, want ErrBinding", err)
			}
			if now, err := w.manager.Find(t.Context(), b.ID); err != nil || now.WrappedKey != old {
				t.Errorf("WrapKeys made permanent what is not bound: %.5s, %v", now.WrappedKey, err)
			}
			if counts, err := w.manager.Count(t.Context()); err != nil || counts[1] != 1 {
				t.Errorf("Count() = %v, %v, want one under version 1", counts, err)
			}
			w.config.UnboundKeys = true
			w.useContext(t, 1, tenant)
			w.holds(t, b, []byte("licence of Bob"))
			must(t, w.manager.WrapKeys(t.Context(), nil))
			w.config.UnboundKeys = false
			w.useContext(t, 1, tenant)
			w.holds(t, b, []byte("licence of Bob"))
		})
	}
}

// A rotation leaves such a record as it was, and says so.
func TestRotationRefusesUnboundKeys(t *testing.T) {
	t.Parallel()
	for _, kind := range []rotation.Kind{rotation.Rewrap, rotation.Rekey} {
		w := newWorld(t, sqlite, nil)
		w.useContext(t, 1, tenant)
		for id := int64(1); id <= 2; id++ {
			a := w.attach(t, w.insert(t, id), "license", []byte("content"))
			if id == 2 {
				w.wrapAsBefore(t, w.read(t, 2), a)
			}
		}
		w.useContext(t, 2, tenant)
		s, err := sqlstore.New(t.Context(), w.db, w.d.dialect, w.model, sqlstore.Options{Dependents: []field.Dependents{w.manager}})
		must(t, err)
		must(t, s.CreateTables(t.Context()))
		r, err := rotation.New(w.model.Adapter().Box(), s, rotation.Options{Kind: kind, WritersAreOurs: true, Workers: 1, Shards: 1})
		must(t, err)
		result, err := r.Run(t.Context())
		if err != nil || result.Written != 1 || result.Failed == 0 {
			t.Errorf("%s: %+v, %v, want one record written and a failure", kind, result, err)
		}
		one, _ := w.read(t, 1).Key.Version()
		two, _ := w.read(t, 2).Key.Version()
		if one != 2 || two != 1 {
			t.Errorf("%s: versions %d and %d, want 2 and 1", kind, one, two)
		}
	}
}

// wrapAsBefore puts the file key under the key service as an older release did.
func (w *world) wrapAsBefore(t testing.TB, c *customer, a *attach.Attachment) (wrapped string) {
	t.Helper()
	adapter := w.model.Adapter()
	keys, err := adapter.DataKeys(t.Context(), "encrypted_kms_key", c)
	must(t, err)
	key, err := files.UnwrapKey(keys[0], a.WrappedKey, files.Place{Format: a.Format, Table: a.Table, ID: a.RecordID, Attachment: a.Name, File: a.File})
	must(t, err)
	raw, err := key.Raw()
	must(t, err)
	wrapped, err = adapter.Box().Encrypt(t.Context(), raw, kmsencrypted.ContextWith(adapter.Binding("encrypted_kms_key", c).Context,
		kmsencrypted.Pair{Name: "attachment", Value: a.Name}, kmsencrypted.Pair{Name: "file_id", Value: a.File.String()}))
	must(t, err)
	must(t, w.transaction(t, func(tx *sql.Tx) error {
		_, err := tx.Exec(w.sql("UPDATE kms_attachments SET wrapped_key = ? WHERE id = ?"), wrapped, a.ID)
		return err
	}))
	return wrapped
}
