package attach_test

import (
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// A Discard that comes late, after the file was attached and deleted, leaves the object
// for as long as Grace says.
func TestLateDiscard(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		w := newWorld(t, d, nil)
		c := w.insert(t, 1)
		p, err := w.manager.Upload(t.Context(), c, "scans", strings.NewReader("content"), attach.Options{})
		must(t, err)
		a, err := w.commit(t, p)
		must(t, err)
		must(t, p.Discard(t.Context()))
		w.holds(t, a, []byte("content"))
		must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, a) }))
		must(t, p.Discard(t.Context()))
		if names := w.memory.Names(); len(names) != 1 {
			t.Errorf("objects %v are left within Grace, want 1", names)
		}
		if n := w.count(t, "SELECT count(*) FROM kms_attachment_objects WHERE state = 'doomed'"); n != 1 {
			t.Errorf("%d objects are listed, want 1", n)
		}
		// One that was never attached goes at once, and twice is not too often.
		p, err = w.manager.Upload(t.Context(), c, "scans", strings.NewReader("content"), attach.Options{})
		must(t, err)
		must(t, errors.Join(p.Discard(t.Context()), p.Discard(t.Context())))
		if names := w.memory.Names(); len(names) != 1 || names[0] != a.Object {
			t.Errorf("objects %v are left after Discard, want %s", names, a.Object)
		}
	})
}

// stranger is a record of another table.
type stranger struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

// A manager takes no attachment of another table, not even with the same primary key.
func TestAttachmentOfAnotherTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	a := w.attach(t, w.insert(t, 1), "license", []byte("licence of Ada"))
	w.exec(t, "CREATE TABLE strangers (id bigint PRIMARY KEY, encrypted_kms_key text)")
	w.exec(t, "INSERT INTO strangers (id) VALUES (1)")
	model, err := field.NewModel[stranger](w.model.Adapter().Box(), field.Config{Table: "strangers", Files: true})
	must(t, err)
	other, err := attach.New(t.Context(), w.db, w.d.dialect, model, w.config)
	must(t, err)
	row := &stranger{ID: 1}
	nothing := func(io.Writer, *attach.File) error { return nil }
	in := func(do func(tx *sql.Tx) error) func() error { return func() error { return w.transaction(t, do) } }
	for what, do := range map[string]func() error{
		"Delete":   in(func(tx *sql.Tx) error { return other.Delete(t.Context(), tx, a) }),
		"Open":     func() error { _, err := other.Open(t.Context(), a); return err },
		"OpenFrom": func() error { _, err := other.OpenFrom(t.Context(), row, a); return err },
		"Replace": func() error {
			_, err := other.Replace(t.Context(), row, a, strings.NewReader("x"), attach.Options{})
			return err
		},
		"Derive":    func() error { _, err := other.Derive(t.Context(), row, a, "x", attach.Options{}, nothing); return err },
		"Derived":   func() error { _, err := other.Derived(t.Context(), a, "x"); return err },
		"Reencrypt": func() error { _, err := other.Reencrypt(t.Context(), a, nil); return err },
	} {
		if err := do(); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s of an attachment of another table = %v, want ErrConfig", what, err)
		}
	}
	// Nor one that pretends to be of this table.
	forged := *a
	forged.Table = "strangers"
	if err := w.transaction(t, func(tx *sql.Tx) error { return other.Delete(t.Context(), tx, &forged) }); !errors.Is(err, kmsencrypted.ErrConflict) {
		t.Errorf("Delete of a forged attachment = %v, want ErrConflict", err)
	}
	w.holds(t, a, []byte("licence of Ada"))
}

// A declared type of any length is stored as what the bytes say.
func TestLongContentType(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	c := w.insert(t, 1)
	for declared, want := range map[string]string{
		"application/vnd." + strings.Repeat("x", 5000):                        "application/octet-stream",
		"application/x-own; a=" + strings.Repeat("b", 5000):                   "application/octet-stream",
		"application/x-own; a=" + strings.Repeat("b", 200):                    "application/x-own; a=" + strings.Repeat("b", 200),
		"application/" + strings.Repeat("x", 244) /* 256 bytes */ :            "application/octet-stream",
		"application/" + strings.Repeat("x", 243) /* as many as there may */ : "application/" + strings.Repeat("x", 243),
	} {
		p, err := w.manager.Upload(t.Context(), c, "scans", strings.NewReader("\x00\x01\x02\x03"), attach.Options{ContentType: declared})
		must(t, err)
		if p.ContentType() != want {
			t.Errorf("a declared type of %d bytes is stored as %d bytes, %.40s", len(declared), len(p.ContentType()), p.ContentType())
		}
		must(t, p.Discard(t.Context()))
	}
}

// Restore tells of objects that it cannot restore because they have no sidecar.
func TestRestoreTellsOfObjectsWithoutSidecar(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	w := newWorld(t, sqlite, nil)
	c := w.insert(t, 1)
	before := w.attach(t, c, "scans", []byte("from before"))
	v.into(t, w.memory)(&w.config)
	w.config.Grace = time.Hour
	w.use(t, 1)
	w.attach(t, c, "scans", []byte("with a sidecar"))
	deleted := w.attach(t, c, "scans", []byte("deleted"))
	must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, deleted) }))
	must(t, w.memory.Delete(t.Context(), deleted.Object+attach.SidecarSuffix))
	if got := w.restore(t); got.NoSidecar != 0 || got.Present != 1 {
		t.Errorf("Restore in a complete database = %+v, want no object without a sidecar", got)
	}
	w.exec(t, "DELETE FROM kms_attachments")
	var told []string
	got, err := w.manager.Restore(t.Context(), attach.RestoreOptions{Each: func(f *attach.Recoverable, outcome string, err error) {
		if outcome == "no sidecar" {
			told = append(told, f.Attachment.Bucket+"/"+f.Attachment.Object)
		}
	}})
	must(t, err)
	if got.Files != 1 || got.NoSidecar != 1 || len(told) != 1 || told[0] != "main/"+before.Object {
		t.Errorf("Restore = %+v, %v, want one without a sidecar, %s", got, told, before.Object)
	}
}

// lodger is a record with a primary key whose case the database ignores.
type lodger struct {
	ID  string    `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

// Where the database takes two texts for one primary key, files belong to the text that
// is stored, and none is left where nobody finds it.
func TestPrimaryKeyOfAnotherCase(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		d    database
		kind string
	}{
		"SQLite":  {sqlite, "varchar(50) COLLATE NOCASE"},
		"MariaDB": {mariadb, "varchar(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.d, nil)
			w.exec(t, "CREATE TABLE lodgers (id "+c.kind+" PRIMARY KEY, encrypted_kms_key text)")
			w.exec(t, "INSERT INTO lodgers (id) VALUES ('ada')")
			model, err := field.NewModel[lodger](w.model.Adapter().Box(), field.Config{Table: "lodgers", Files: true})
			must(t, err)
			m, err := attach.New(t.Context(), w.db, w.d.dialect, model, w.config)
			must(t, err)
			put := func(id string) (a *attach.Attachment, err error) {
				p, err := m.Upload(t.Context(), &lodger{ID: id}, "scans", strings.NewReader("content"), attach.Options{})
				must(t, err)
				err = w.transaction(t, func(tx *sql.Tx) error { a, err = p.Commit(t.Context(), tx); return err })
				return a, err
			}
			if _, err := put("ADA"); !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("Commit under another text of the primary key = %v, want ErrNoRows", err)
			}
			a, err := put("ada")
			must(t, err)
			// One from before, when nobody looked.
			w.exec(t, "UPDATE kms_attachments SET record_id = 'ADA' WHERE id = ?", a.ID)
			if found, err := m.Orphans(t.Context(), "", 10); err != nil || len(found) != 1 {
				t.Errorf("Orphans = %d, %v, want the file that no record has", len(found), err)
			}
			forged := *a
			forged.RecordID = []string{"ADA"}
			if _, err := m.Open(t.Context(), &forged); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open = %v, want fs.ErrNotExist", err)
			}
			w.exec(t, "UPDATE kms_attachments SET record_id = 'ada' WHERE id = ?", a.ID)
			must(t, w.transaction(t, func(tx *sql.Tx) error { return m.DeleteAll(t.Context(), tx, &lodger{ID: "ADA"}) }))
			if n := w.count(t, "SELECT count(*) FROM kms_attachments"); n != 0 {
				t.Errorf("DeleteAll left %d files of the record that the database deletes", n)
			}
		})
	}
}

// twoKeys is a record whose files are under two data keys.
type twoKeys struct {
	ID    int64     `db:"id"`
	One   field.Key `db:"one_key"`
	Other field.Key `db:"other_key" kms:"name=other"`
}

// Managers of two key columns of one table share a rekey, if each knows what is the
// other's. Without the other it does not begin.
func TestManagersOfTwoKeyColumns(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]database{"SQLite": sqlite, "Postgres": postgres, "MariaDB": mariadb} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, d, nil)
			w.exec(t, "CREATE TABLE pairs (id bigint PRIMARY KEY, one_key text, other_key text)")
			w.exec(t, "INSERT INTO pairs (id) VALUES (1)")
			var model *field.Model[twoKeys]
			manager := func(key, name string, elsewhere ...string) *attach.Manager[twoKeys] {
				config := w.config
				config.One, config.Many, config.KeyColumn, config.Elsewhere = nil, []string{name}, key, elsewhere
				m, err := attach.New(t.Context(), w.db, w.d.dialect, model, config)
				must(t, err)
				return m
			}
			use := func(version int) (one, other *attach.Manager[twoKeys]) {
				var err error
				model, err = field.NewModel[twoKeys](box(t, w.keys.Provider(), version), field.Config{Table: "pairs", Files: true, Complete: true})
				must(t, err)
				return manager("one_key", "scans", "letters"), manager("other_key", "letters", "scans")
			}
			one, other := use(1)
			read := func() *twoKeys {
				c := &twoKeys{ID: 1}
				must(t, w.db.QueryRow("SELECT one_key, other_key FROM pairs").Scan(&c.One, &c.Other))
				return c
			}
			var list []*attach.Attachment
			for n, m := range []*attach.Manager[twoKeys]{one, other} {
				p, err := m.Upload(t.Context(), read(), []string{"scans", "letters"}[n], strings.NewReader("content"), attach.Options{})
				must(t, err)
				must(t, w.transaction(t, func(tx *sql.Tx) error {
					a, err := p.Commit(t.Context(), tx)
					list = append(list, a)
					return err
				}))
			}
			one, other = use(2)
			if _, err := sqlstore.New(t.Context(), w.db, w.d.dialect, model, sqlstore.Options{Dependents: []field.Dependents{one}}); !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("a store without the other manager = %v, want ErrConfig", err)
			}
			err := w.transaction(t, func(tx *sql.Tx) error { return one.Rekey(t.Context(), tx, read()) })
			if !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("Rekey without the other manager = %v, want ErrConfig", err)
			}
			for range 2 {
				s, err := sqlstore.New(t.Context(), w.db, w.d.dialect, model, sqlstore.Options{Dependents: []field.Dependents{one, other}})
				must(t, err)
				must(t, s.CreateTables(t.Context()))
				r, err := rotation.New(model.Adapter().Box(), s, rotation.Options{Kind: rotation.Rekey, WritersAreOurs: true, Workers: 1, Shards: 1})
				must(t, err)
				if result, err := r.Run(t.Context()); err != nil || result.Written != 1 || result.Failed != 0 {
					t.Errorf("rekey = %+v, %v, want the record written", result, err)
				}
				for n, m := range []*attach.Manager[twoKeys]{one, other} {
					f, err := m.Open(t.Context(), list[n])
					if err != nil {
						t.Fatal(err)
					}
					if content, err := io.ReadAll(f); err != nil || string(content) != "content" {
						t.Errorf("%s = %q, %v", list[n].Name, content, err)
					}
					must(t, f.Close())
				}
				one, other = use(3)
			}
			must(t, w.transaction(t, func(tx *sql.Tx) error { return one.Rekey(t.Context(), tx, read(), other) }))
		})
	}
}
