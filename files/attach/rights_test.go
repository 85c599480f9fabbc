package attach_test

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// The rights that docs/files.md lists are enough, and without UPDATE on a column of the
// record PostgreSQL refuses DeleteAll.
func TestRightsPostgres(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres, func(c *attach.Config) {
		c.Grace = time.Millisecond
		c.Buckets = map[string]attach.Bucket{"main": openDir(t, t.TempDir())}
	})
	w.insert(t, 1)
	role := "files_" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "_"))
	for _, statement := range []string{
		"DROP ROLE IF EXISTS " + role, "CREATE ROLE " + role,
		"GRANT SELECT, UPDATE (encrypted_kms_key) ON customers TO " + role,
		"GRANT SELECT, INSERT, UPDATE, DELETE ON kms_attachments TO " + role,
		"GRANT SELECT, INSERT, UPDATE, DELETE ON kms_attachment_objects TO " + role,
		"GRANT SELECT, INSERT ON kms_attachment_stores TO " + role,
		"GRANT SELECT, INSERT, DELETE ON kms_attachment_parts TO " + role,
	} {
		w.exec(t, statement)
	}
	t.Cleanup(func() { w.db.Exec("RESET ROLE"); w.db.Exec("DROP OWNED BY " + role); w.db.Exec("DROP ROLE " + role) })
	w.db.SetMaxOpenConns(1) // the role is that of the connection
	w.exec(t, "SET ROLE "+role)

	a := w.attach(t, w.read(t, 1), "license", []byte("content"))
	w.attach(t, w.read(t, 1), "scans", []byte("scan"))
	must(t, w.attachInParts(t.Context(), w.read(t, 1), []byte("in one part")))
	u, _, err := w.manager.BeginParts(t.Context(), w.read(t, 1), "scans", attach.Options{Size: 1})
	must(t, err)
	must(t, w.manager.DiscardParts(t.Context(), u))
	p, err := w.manager.Replace(t.Context(), w.read(t, 1), a, strings.NewReader("another"), attach.Options{})
	must(t, err)
	a, err = w.commit(t, p)
	must(t, err)
	a, err = w.manager.Reencrypt(t.Context(), a, nil)
	must(t, err)
	w.holds(t, a, []byte("another"))
	deleteAll := func() error {
		return w.transaction(t, func(tx *sql.Tx) error { return w.manager.DeleteAll(t.Context(), tx, &customer{ID: 1}) })
	}
	w.exec(t, "RESET ROLE")
	w.exec(t, "REVOKE UPDATE (encrypted_kms_key) ON customers FROM "+role)
	w.exec(t, "SET ROLE "+role)
	if err := deleteAll(); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("DeleteAll without UPDATE = %v, want permission denied", err)
	}
	w.exec(t, "RESET ROLE")
	w.exec(t, "GRANT UPDATE (encrypted_kms_key) ON customers TO "+role)
	w.exec(t, "SET ROLE "+role)
	must(t, deleteAll())
	time.Sleep(5 * time.Millisecond)
	if swept, err := w.manager.Sweep(t.Context()); err != nil || swept.Deleted == 0 {
		t.Errorf("Sweep = %+v, %v", swept, err)
	}
}
