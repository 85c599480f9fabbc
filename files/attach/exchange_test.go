package attach_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// Somebody who writes to the database and the stores exchanges columns of rows, key
// columns of records and whole objects at random. What opens is what was attached at
// that place: to this record, under this name, from this file. Whatever wraps keys
// again makes nothing else of it.
func TestExchangedAtRandom(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]kmsencrypted.ContextFunc{"default context": nil, "context of a tenant": tenant} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const seed = 16
			w := newExchangeWorld(t, of, rand.New(rand.NewPCG(seed, uint64(len(name)))))
			w.check(t, "before")
			if w.refused > 0 {
				t.Fatalf("%d files do not open", w.refused)
			}
			w.keep(t)
			for range 10 {
				done := fmt.Sprintf("seed %d: %s", seed, w.attack(t))
				w.check(t, done)
				w.check(t, done+w.wrapAgain(t))
				w.restore(t)
			}
			if w.opened < 500 || w.refused < 50 {
				t.Errorf("%d opened, %d refused: the test tries too little", w.opened, w.refused)
			}
		})
	}
}

// exchangeWorld has files of records of two tables in two buckets.
type exchangeWorld struct {
	random          *rand.Rand
	db              *sql.DB
	service         *kmstest.Service
	tables          []exchangeTable
	ids             []string
	buckets         []*attach.Memory
	objects         []map[string][]byte // of each bucket, as they were
	opened, refused int
}

// exchangeTable is a manager of any type of record.
type exchangeTable struct {
	name      string
	put       func(t *testing.T, id int64, name, content string) *attach.Attachment
	derive    func(t *testing.T, id int64, a *attach.Attachment, variant, content string) *attach.Attachment
	find      func(t *testing.T, id string) (*attach.Attachment, error)
	open      func(t *testing.T, a *attach.Attachment) (*attach.File, error)
	wrapKeys  func(t *testing.T) error
	rekey     func(t *testing.T, tx *sql.Tx, id int64) error
	reencrypt func(t *testing.T, a *attach.Attachment) error
}

// partner is a record of another table, with the same primary keys.
type partner struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

func newExchangeWorld(t *testing.T, of kmsencrypted.ContextFunc, random *rand.Rand) *exchangeWorld {
	t.Helper()
	provider, err := local.Create(filepath.Join(t.TempDir(), "keys.txt"))
	must(t, err)
	w := &exchangeWorld{random: random, service: kmstest.NewService(provider), buckets: []*attach.Memory{new(attach.Memory), new(attach.Memory)}}
	w.db, err = sql.Open("sqlite", strings.Replace(sqliteDSN(filepath.Join(t.TempDir(), "test.sqlite3")), "normal", "off", 1))
	must(t, err)
	t.Cleanup(func() { w.db.Close() })
	config := attach.Config{
		One: []string{"license", "photo"}, Many: []string{"scans"}, Bucket: "one", BucketOf: map[string]string{"scans": "two"},
		Buckets: map[string]attach.Bucket{"one": w.buckets[0], "two": w.buckets[1]},
	}
	b := box(t, w.service.Provider(), 1)
	for _, table := range []string{"customers", "partners"} {
		_, err := w.db.Exec("CREATE TABLE " + table + " (id integer PRIMARY KEY, name text, encrypted_kms_key text, email_ciphertext text); INSERT INTO " + table + " (id, name) VALUES (1, 'Ada'), (2, 'Bob')")
		must(t, err)
	}
	read := func(t *testing.T, table string, id int64, key *field.Key) {
		must(t, w.db.QueryRow("SELECT encrypted_kms_key FROM "+table+" WHERE id = ?", id).Scan(key))
	}
	w.tables = []exchangeTable{
		newExchangeTable(t, w.db, "customers", b, of, config, func(t *testing.T, id int64) *customer {
			c := &customer{ID: id, Name: "Ada"}
			read(t, "customers", id, &c.Key)
			return c
		}),
		newExchangeTable(t, w.db, "partners", b, of, config, func(t *testing.T, id int64) *partner {
			p := &partner{ID: id}
			read(t, "partners", id, &p.Key)
			return p
		}),
	}
	for _, table := range w.tables {
		for id := range int64(2) {
			for n, name := range []string{"license", "photo", "scans", "scans"} {
				w.fill(t, table, id+1, name, n)
			}
		}
	}
	return w
}

// fill attaches a file with two previews. Their contents say to what they belong. Some
// are attached by a server that may not decrypt.
func (w *exchangeWorld) fill(t *testing.T, table exchangeTable, id int64, name string, n int) {
	t.Helper()
	if n > 0 && w.random.IntN(2) == 0 {
		w.service.Set(kmstest.Revoke(1).On(kmsencrypted.OpUnwrap))
	}
	content := fmt.Sprintf("%s/%d/%s/: %d", table.name, id, name, w.random.Uint32())
	a := table.put(t, id, name, content)
	w.service.Set()
	w.ids = append(w.ids, a.ID)
	for _, variant := range []string{"small", "large"} {
		w.ids = append(w.ids, table.derive(t, id, a, variant, fmt.Sprintf("%s/%d/%s/%s: of %s", table.name, id, name, variant, content)).ID)
	}
}

func newExchangeTable[R any](t *testing.T, db *sql.DB, table string, b *kmsencrypted.Box, of kmsencrypted.ContextFunc, config attach.Config, row func(t *testing.T, id int64) *R) exchangeTable {
	t.Helper()
	model, err := field.NewModel[R](b, field.Config{Table: table, Files: true, Context: of})
	must(t, err)
	m, err := attach.New(t.Context(), db, field.SQLite, model, config)
	must(t, err)
	must(t, m.CreateTables(t.Context()))
	commit := func(t *testing.T, p *attach.Pending[R], err error) *attach.Attachment {
		t.Helper()
		must(t, err)
		tx, err := db.Begin()
		must(t, err)
		defer tx.Rollback()
		a, err := p.Commit(t.Context(), tx)
		must(t, errors.Join(err, tx.Commit()))
		return a
	}
	return exchangeTable{
		name: table,
		put: func(t *testing.T, id int64, name, content string) *attach.Attachment {
			p, err := m.Upload(t.Context(), row(t, id), name, strings.NewReader(content), attach.Options{})
			return commit(t, p, err)
		},
		derive: func(t *testing.T, id int64, a *attach.Attachment, variant, content string) *attach.Attachment {
			p, err := m.Derive(t.Context(), row(t, id), a, variant, attach.Options{}, func(dst io.Writer, _ *attach.File) error {
				_, err := io.WriteString(dst, content)
				return err
			})
			return commit(t, p, err)
		},
		find:     func(t *testing.T, id string) (*attach.Attachment, error) { return m.Find(t.Context(), id) },
		open:     func(t *testing.T, a *attach.Attachment) (*attach.File, error) { return m.Open(t.Context(), a) },
		wrapKeys: func(t *testing.T) error { return m.WrapKeys(t.Context(), nil) },
		rekey:    func(t *testing.T, tx *sql.Tx, id int64) error { return m.Rekey(t.Context(), tx, row(t, id)) },
		reencrypt: func(t *testing.T, a *attach.Attachment) error {
			_, err := m.Reencrypt(t.Context(), a, nil)
			return err
		},
	}
}

// read returns the row of an attachment and the content that it opens as.
func (w *exchangeWorld) read(t *testing.T, id string) (a *attach.Attachment, content string, err error) {
	t.Helper()
	for _, table := range w.tables {
		if a, err = table.find(t, id); err != nil {
			continue
		}
		f, err := table.open(t, a)
		if err != nil {
			return a, "", err
		}
		defer f.Close()
		got, err := io.ReadAll(f)
		return a, string(got), err
	}
	return nil, "", err
}

// check opens every attachment.
func (w *exchangeWorld) check(t *testing.T, done string) {
	t.Helper()
	for _, id := range w.ids {
		a, content, err := w.read(t, id)
		if err != nil {
			w.refused++
			continue
		}
		w.opened++
		place := fmt.Sprintf("%s/%s/%s/%s: ", a.Table, a.RecordID[0], a.Name, a.Variant)
		if !strings.HasPrefix(content, place) {
			t.Errorf("%s: %q opens as %q", done, place, content)
		}
		if a.Parent == "" {
			continue
		}
		if _, parent, err := w.read(t, a.Parent); err == nil && content != place+"of "+parent {
			t.Errorf("%s: %q of %q opens as %q", done, place, parent, content)
		}
	}
}

// exchangedColumns are those of a row that are set to what another row has.
var exchangedColumns = []string{"id", "record_table", "record_id", "name", "variant", "parent_id", "bucket", "object", "format", "file_id", "wrapped_key", "size", "object_size"}

// attack does up to three exchanges, and says which.
func (w *exchangeWorld) attack(t *testing.T) string {
	t.Helper()
	var done []string
	for range 1 + w.random.IntN(3) {
		switch w.random.IntN(8) {
		case 0:
			m := w.buckets[w.random.IntN(2)]
			names := m.Names()
			to, other := names[w.random.IntN(len(names))], []byte(nil)
			m.Change(names[w.random.IntN(len(names))], func(o []byte) []byte { other = o; return o })
			m.Change(to, func([]byte) []byte { return other })
			done = append(done, "an object")
		case 1:
			w.try("UPDATE customers SET encrypted_kms_key = (SELECT encrypted_kms_key FROM partners p WHERE p.id = customers.id)")
			done = append(done, "key columns")
		default:
			done = append(done, w.exchangeRows())
		}
	}
	return strings.Join(done, ", ")
}

// try runs a statement, which a constraint may refuse.
func (w *exchangeWorld) try(query string, args ...any) { w.db.Exec(query, args...) }

// exchangeRows gives a row some columns of another one, which gets its own in return
// every second time.
func (w *exchangeWorld) exchangeRows() string {
	a, b := w.ids[w.random.IntN(len(w.ids))], w.ids[w.random.IntN(len(w.ids))]
	few, both := w.random.IntN(4) > 0, w.random.IntN(2) == 0
	var columns []string
	for _, c := range exchangedColumns {
		if few && w.random.IntN(3) == 0 || !few && c != "id" && w.random.IntN(8) > 0 {
			columns = append(columns, c)
		}
	}
	w.try("DROP TABLE IF EXISTS before")
	w.try("CREATE TABLE before AS SELECT * FROM kms_attachments")
	for _, c := range columns {
		if c == "id" {
			w.try("UPDATE kms_attachments SET id = 'x' WHERE id = ?", a)
			w.try("UPDATE kms_attachments SET id = ? WHERE id = ?", a, b)
			w.try("UPDATE kms_attachments SET id = ? WHERE id = 'x'", b)
			continue
		}
		set := "UPDATE kms_attachments SET " + c + " = (SELECT " + c + " FROM before WHERE id = ?) WHERE id = ?"
		if both {
			w.try("UPDATE kms_attachments SET "+c+" = 'x' WHERE id = ?", b) // no two rows name one object
		}
		w.try(set, b, a)
		if both {
			w.try(set, a, b)
		}
	}
	return fmt.Sprint(columns)
}

// wrapAgain does what wraps file keys again, and says what was done.
func (w *exchangeWorld) wrapAgain(t *testing.T) (done string) {
	t.Helper()
	for _, table := range w.tables {
		if table.wrapKeys(t) == nil {
			done += ", WrapKeys"
		}
		tx, err := w.db.Begin()
		must(t, err)
		if table.rekey(t, tx, 1+w.random.Int64N(2)) == nil {
			done += ", Rekey"
			must(t, tx.Commit())
		}
		tx.Rollback()
		if a, err := table.find(t, w.ids[w.random.IntN(len(w.ids))]); err == nil && table.reencrypt(t, a) == nil {
			done += ", Reencrypt"
		}
	}
	return done
}

var exchangeTables = []string{"kms_attachments", "customers", "partners"}

// keep remembers everything for restore.
func (w *exchangeWorld) keep(t *testing.T) {
	t.Helper()
	for _, table := range exchangeTables {
		_, err := w.db.Exec("CREATE TABLE kept_" + table + " AS SELECT * FROM " + table)
		must(t, err)
	}
	for _, m := range w.buckets {
		objects := make(map[string][]byte)
		for _, name := range m.Names() {
			m.Change(name, func(o []byte) []byte { objects[name] = bytes.Clone(o); return o })
		}
		w.objects = append(w.objects, objects)
	}
}

func (w *exchangeWorld) restore(t *testing.T) {
	t.Helper()
	for _, table := range exchangeTables {
		_, err := w.db.Exec("DELETE FROM " + table + "; INSERT INTO " + table + " SELECT * FROM kept_" + table)
		must(t, err)
	}
	for i, m := range w.buckets {
		for name, object := range w.objects[i] {
			m.Change(name, func([]byte) []byte { return bytes.Clone(object) })
		}
	}
}
