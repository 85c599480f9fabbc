package attach_test

import (
	"database/sql"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// A second file where there can be one says what to do, and not to read again.
func TestSecondFileUnderOneName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	c := w.insert(t, 1)
	a := w.attach(t, c, "license", []byte("one"))
	p, err := w.manager.Upload(t.Context(), c, "license", strings.NewReader("two"), attach.Options{})
	must(t, err)
	if _, err := w.commit(t, p); !errors.Is(err, kmsencrypted.ErrConflict) || !strings.Contains(err.Error(), "use Replace") {
		t.Errorf("Commit of a second file = %v, want ErrConflict that names Replace", err)
	}
	w.derive(t, c, a)
	p, err = w.manager.Derive(t.Context(), c, a, "small", attach.Options{}, func(dst io.Writer, src *attach.File) error {
		_, err := io.Copy(dst, src)
		return err
	})
	must(t, err)
	if _, err := w.commit(t, p); !errors.Is(err, kmsencrypted.ErrConflict) || !strings.Contains(err.Error(), "variant") {
		t.Errorf("Commit of a second variant = %v, want ErrConflict that names the variant", err)
	}
}

// A file key that the key service wrapped itself does not follow its record to another
// tenant, and says what to do about it. WrapKeys is that.
func TestFileKeysOfTheServiceStayWithTheTenant(t *testing.T) {
	t.Parallel()
	service := kmstest.NewService(kmstest.Memory())
	b, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: service.Provider(),
		Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
			return kmsencrypted.Context{"tenant": s.Record.(*tenantFile).Tenant}, nil
		},
	}}}.Box()
	must(t, err)
	model, err := field.NewModel[tenantFile](b, field.Config{Table: "documents", Files: true})
	must(t, err)
	db, err := sql.Open("sqlite", sqliteDSN(filepath.Join(t.TempDir(), "moves")))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	_, err = db.Exec("CREATE TABLE documents (id integer PRIMARY KEY, tenant text, encrypted_kms_key text)")
	must(t, err)
	m, err := attach.New(t.Context(), db, field.SQLite, model, attach.Config{Many: []string{"scans"}, Buckets: map[string]attach.Bucket{"main": new(attach.Memory)}})
	must(t, err)
	must(t, m.CreateTables(t.Context()))
	read := func() *tenantFile {
		f := tenantFile{ID: 1}
		must(t, db.QueryRow("SELECT tenant, encrypted_kms_key FROM documents WHERE id = 1").Scan(&f.Tenant, &f.Key))
		return &f
	}
	made := tenantFile{ID: 1, Tenant: "acme"}
	must(t, made.Key.Scan(nil))
	must(t, model.Adapter().AddKey(t.Context(), "encrypted_kms_key", &made))
	_, err = db.Exec("INSERT INTO documents VALUES (1, 'acme', ?)", made.Key)
	must(t, err)
	in := func(do func(tx *sql.Tx) error) error {
		tx, err := db.BeginTx(t.Context(), nil)
		must(t, err)
		defer tx.Rollback()
		if err := do(tx); err != nil {
			return err
		}
		return tx.Commit()
	}
	service.Set(kmstest.Revoke(1).On(kmsencrypted.OpUnwrap))
	p, err := m.Upload(t.Context(), read(), "scans", strings.NewReader("content"), attach.Options{})
	must(t, err)
	var a *attach.Attachment
	must(t, in(func(tx *sql.Tx) (err error) { a, err = p.Commit(t.Context(), tx); return err }))
	service.Set()
	if files.IsWrappedKey(a.WrappedKey) {
		t.Fatalf("wrapped key %.4s, want one of the key service", a.WrappedKey)
	}
	move := func(tx *sql.Tx) error {
		f := read()
		must(t, model.Open(t.Context(), f)) // notes the tenant that the row has
		f.Tenant = "globex"
		return m.Rekey(t.Context(), tx, f)
	}
	if err := in(move); !errors.Is(err, kmsencrypted.ErrDecrypt) || !strings.Contains(err.Error(), "call WrapKeys") {
		t.Errorf("Rekey to another tenant = %v, want ErrDecrypt that names WrapKeys", err)
	}
	must(t, m.WrapKeys(t.Context(), nil))
	unopened := func(tx *sql.Tx) error {
		f := read()
		f.Tenant = "globex"
		return m.Rekey(t.Context(), tx, f)
	}
	if err := in(unopened); !errors.Is(err, kmsencrypted.ErrDecrypt) || !strings.Contains(err.Error(), "Model.Open") {
		t.Errorf("Rekey of a record that was not opened to another tenant = %v, want ErrDecrypt that names Model.Open", err)
	}
	must(t, in(move))
	f, err := m.Open(t.Context(), a)
	must(t, err)
	must(t, f.Close())
	if now := read(); now.Tenant != "globex" {
		t.Errorf("the record has the tenant %s, want globex", now.Tenant)
	}
}
