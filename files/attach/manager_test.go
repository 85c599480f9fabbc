package attach_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/mysqlish"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/race"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

type customer struct {
	ID    int64            `db:"id"`
	Name  string           `db:"name"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// keyText returns the key column, which drivers return as text or as bytes.
func (c *customer) keyText(t testing.TB) string {
	t.Helper()
	column, err := c.Key.Value()
	must(t, err)
	return fmt.Sprintf("%s", column)
}

// database is a kind of database to test with.
type database struct {
	driver  string
	dialect field.Dialect
	dsn     func(t testing.TB) string
}

var (
	postgres  = database{"pgx", field.Postgres, dbserver.Postgres}
	mariadb   = database{"mysql", field.MySQL, dbserver.MariaDB}
	mysql     = database{"mysql", field.MySQL, dbserver.MySQL}
	mysqlLike = database{mysqlish.Driver(), field.MySQL, dbserver.MariaDB}
	sqlite    = database{"sqlite", field.SQLite, func(t testing.TB) string {
		return sqliteDSN(filepath.Join(t.TempDir(), "test.sqlite3"))
	}}
)

// with is the database with a variable set in each session.
func (d database) with(setting string) database {
	dsn := d.dsn
	d.dsn = func(t testing.TB) string { return dsn(t) + "&" + setting }
	return d
}

// Sessions that are unlike others.
const (
	lenient = "sql_mode=''"                // cuts what is too long, unless a statement asks for more
	ofSeven = "auto_increment_increment=7" // of a cluster: ids of neighbours are not neighbours
)

func sqliteDSN(path string) string {
	return "file:" + path + "?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)"
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a database with records, a bucket and a manager.
type world struct {
	d       database
	db      *sql.DB
	keys    *kmstest.Service
	memory  *attach.Memory
	model   *field.Model[customer]
	manager *attach.Manager[customer]
	config  attach.Config
}

func newWorld(t testing.TB, d database, change func(*attach.Config)) *world {
	t.Helper()
	provider, err := local.Create(filepath.Join(t.TempDir(), "keys.txt"))
	must(t, err)
	return newWorldAt(t, d, d.dsn(t), provider, new(attach.Memory), change)
}

func box(t testing.TB, p kmsencrypted.Provider, current int) *kmsencrypted.Box {
	t.Helper()
	b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: p}, 2: {Provider: p}, 3: {Provider: p}}}.Box()
	must(t, err)
	return b
}

func newWorldAt(t testing.TB, d database, dsn string, provider kmsencrypted.Provider, bucket attach.Bucket, change func(*attach.Config)) *world {
	t.Helper()
	db, err := sql.Open(d.driver, dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	w := &world{d: d, db: db, keys: kmstest.NewService(provider), config: attach.Config{
		One: []string{"license"}, Many: []string{"scans"}, Buckets: map[string]attach.Bucket{"main": bucket},
	}}
	w.memory, _ = bucket.(*attach.Memory)
	if change != nil {
		change(&w.config)
	}
	w.use(t, 1)
	columns, err := w.model.DDL(d.dialect)
	must(t, err)
	_, err = db.Exec("CREATE TABLE IF NOT EXISTS customers (id bigint PRIMARY KEY, name varchar(50) NOT NULL, " + strings.Join(columns, ", ") + ")")
	must(t, err)
	w.manager, err = attach.New(t.Context(), db, d.dialect, w.model, w.config)
	must(t, err)
	must(t, w.manager.CreateTables(t.Context()))
	return w
}

// use makes a version the current one.
func (w *world) use(t testing.TB, version int) {
	t.Helper()
	var err error
	w.model, err = field.NewModel[customer](box(t, w.keys.Provider(), version), field.Config{Table: "customers", Files: true, Complete: true})
	must(t, err)
	if w.manager != nil {
		w.manager, err = attach.New(t.Context(), w.db, w.d.dialect, w.model, w.config)
		must(t, err)
	}
}

// insert adds a customer with an email, so that it has a data key.
func (w *world) insert(t testing.TB, id int64) *customer {
	t.Helper()
	c := &customer{ID: id, Name: "Ada", Email: field.New("ada@example.org")}
	must(t, w.model.SealNew(t.Context(), c))
	w.exec(t, "INSERT INTO customers (id, name, encrypted_kms_key, email_ciphertext) VALUES (?, ?, ?, ?)", c.ID, c.Name, c.Key, c.Email)
	w.model.Adapter().Saved(c)
	return w.read(t, id)
}

func (w *world) sql(query string) string {
	for n := 1; w.d.dialect == field.Postgres && strings.Contains(query, "?"); n++ {
		query = strings.Replace(query, "?", fmt.Sprint("$", n), 1)
	}
	return query
}

func (w *world) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	_, err := w.db.Exec(w.sql(query), args...)
	must(t, err)
}

func (w *world) count(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	must(t, w.db.QueryRow(w.sql(query), args...).Scan(&n))
	return n
}

// read reads a customer without opening it.
func (w *world) read(t testing.TB, id int64) *customer {
	t.Helper()
	var c customer
	must(t, w.db.QueryRow(w.sql("SELECT id, name, encrypted_kms_key, email_ciphertext FROM customers WHERE id = ?"), id).Scan(&c.ID, &c.Name, &c.Key, &c.Email))
	return &c
}

func (w *world) transaction(t testing.TB, do func(tx *sql.Tx) error) error {
	t.Helper()
	tx, err := w.db.BeginTx(t.Context(), nil)
	must(t, err)
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (w *world) commit(t testing.TB, p *attach.Pending[customer]) (a *attach.Attachment, err error) {
	t.Helper()
	err = w.transaction(t, func(tx *sql.Tx) error {
		a, err = p.Commit(t.Context(), tx)
		return err
	})
	return a, err
}

// attach uploads and commits.
func (w *world) attach(t testing.TB, c *customer, name string, content []byte) *attach.Attachment {
	t.Helper()
	p, err := w.manager.Upload(t.Context(), c, name, bytes.NewReader(content), attach.Options{Name: name + ".bin"})
	must(t, err)
	a, err := w.commit(t, p)
	must(t, err)
	return a
}

func (w *world) content(t testing.TB, a *attach.Attachment) ([]byte, error) {
	t.Helper()
	f, err := w.manager.Open(t.Context(), a)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func (w *world) holds(t testing.TB, a *attach.Attachment, want []byte) {
	t.Helper()
	if got, err := w.content(t, a); err != nil || !bytes.Equal(got, want) {
		t.Errorf("file %s = %d bytes, %v, want %d", a.ID, len(got), err, len(want))
	}
}

// rotate moves all customers to a version.
func (w *world) rotate(t testing.TB, kind rotation.Kind, to int) rotation.Result {
	t.Helper()
	w.use(t, to)
	return w.run(t, kind)
}

// run rotates the records to the current version.
func (w *world) run(t testing.TB, kind rotation.Kind) rotation.Result {
	t.Helper()
	s, err := sqlstore.New(t.Context(), w.db, w.d.dialect, w.model, sqlstore.Options{Dependents: []field.Dependents{w.manager}})
	must(t, err)
	must(t, s.CreateTables(t.Context()))
	r, err := rotation.New(w.model.Adapter().Box(), s, rotation.Options{Kind: kind, WritersAreOurs: true, Workers: 2, Shards: 4})
	must(t, err)
	result, err := r.Run(t.Context())
	must(t, err)
	return result
}

func random(seed uint64, n int) []byte {
	out := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	r.Read(out)
	return out
}

// everywhere runs a test on each kind of database, with the race detector on the three that
// do not only differ in their settings.
func everywhere(t *testing.T, test func(t *testing.T, d database)) {
	for i, c := range []struct {
		name string
		d    database
	}{
		{"SQLite", sqlite}, {"Postgres", postgres}, {"MariaDB", mariadb}, {"MySQL", mysql}, {"MySQLish", mysqlLike},
		{"MariaDBLenient", mariadb.with(lenient)}, {"MySQLLenientCluster", mysql.with(lenient).with(ofSeven)}, {"MySQLishLenientCluster", mysqlLike.with(lenient).with(ofSeven)},
	} {
		if race.Detector && i > 2 {
			break
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			test(t, c.d)
		})
	}
}

var sizes = []int{0, 1, 511, 512, 513, files.ChunkSize - 1, files.ChunkSize, files.ChunkSize + 1, 3*files.ChunkSize - 1, 100_000, 1<<20 + 5}

// A file's whole life on each kind of database.
func TestLifePostgresMariaDBMySQLSQLite(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		w := newWorld(t, d, func(c *attach.Config) { c.Grace = time.Millisecond })
		c := w.insert(t, 7)
		w.keys.Forget()
		for i, n := range sizes {
			content := random(uint64(i), n)
			w.holds(t, w.attach(t, c, "scans", content), content)
		}
		if unwraps, wraps := w.keys.Count(kmsencrypted.OpUnwrap), w.keys.Count(kmsencrypted.OpWrap); unwraps != 1+len(sizes) || wraps > 0 {
			t.Errorf("%d unwraps and %d wraps, want one for the record and one for each Open", unwraps, wraps)
		}
		list, err := w.manager.List(t.Context(), c, "scans")
		if err != nil || len(list) != len(sizes) {
			t.Fatalf("List() = %d, %v", len(list), err)
		}

		license := random(1, 50_000)
		a := w.attach(t, c, "license", license)
		p, err := w.manager.Upload(t.Context(), c, "license", strings.NewReader("second"), attach.Options{})
		must(t, err)
		if _, err := w.commit(t, p); !errors.Is(err, kmsencrypted.ErrConflict) {
			t.Errorf("Commit of a second file where there is one = %v, want ErrConflict", err)
		}
		must(t, p.Discard(t.Context()))

		thumb, err := w.manager.Derive(t.Context(), c, a, "thumb", attach.Options{Name: "thumb.txt"}, func(dst io.Writer, src *attach.File) error {
			_, err := io.Copy(dst, io.LimitReader(src, 1000))
			return err
		})
		must(t, err)
		derived, err := w.commit(t, thumb)
		must(t, err)
		w.holds(t, derived, license[:1000])

		again, err := w.manager.Reencrypt(t.Context(), a, nil)
		must(t, err)
		if again.ID != a.ID || again.File == a.File || again.Object == a.Object || again.FileName != a.FileName {
			t.Errorf("Reencrypt: %+v of %+v", again, a)
		}
		w.holds(t, a, license) // by the row as it is now
		w.holds(t, derived, license[:1000])

		replacement := random(2, 70_000)
		p, err = w.manager.Replace(t.Context(), c, again, bytes.NewReader(replacement), attach.Options{Name: "new.bin"})
		must(t, err)
		a, err = w.commit(t, p)
		must(t, err)
		w.holds(t, a, replacement)
		if _, err := w.manager.Derived(t.Context(), a, "thumb"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what was derived from the file before = %v, want fs.ErrNotExist", err)
		}
		must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, list[0]) }))
		if _, err := w.content(t, list[0]); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open of a deleted file = %v, want fs.ErrNotExist", err)
		}
		w.sweep(t)
		w.clean(t, len(sizes)) // one scan less, the license more

		must(t, w.transaction(t, func(tx *sql.Tx) error {
			if err := w.manager.DeleteAll(t.Context(), tx, c); err != nil {
				return err
			}
			_, err := tx.Exec(w.sql("DELETE FROM customers WHERE id = ?"), c.ID)
			return err
		}))
		w.sweep(t)
		w.clean(t, 0)
	})
}

// What does not fit into a column is refused, and what was there stays.
func TestNothingIsCutPostgresMariaDBMySQLSQLite(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		narrow := map[field.Dialect]string{
			field.Postgres: "ALTER TABLE kms_attachments ALTER file_name TYPE varchar(12)",
			field.MySQL:    "ALTER TABLE kms_attachments MODIFY file_name varchar(12) CHARACTER SET latin1 NOT NULL",
		}[d.dialect]
		if narrow == "" {
			t.Skip("SQLite knows no lengths")
		}
		w := newWorld(t, d, func(c *attach.Config) { c.Grace = time.Millisecond })
		w.exec(t, narrow)
		c := w.insert(t, 7)
		content := random(1, 5000)
		a := w.attach(t, c, "license", content)
		names := []string{"longer than twelve.bin"}
		if d.dialect == field.MySQL {
			names = append(names, "日本")
		}
		for _, name := range names {
			p, err := w.manager.Upload(t.Context(), c, "scans", bytes.NewReader(content), attach.Options{Name: name})
			must(t, err)
			if _, err := w.commit(t, p); err == nil {
				t.Errorf("Commit of a file named %q: no error", name)
			}
			p, err = w.manager.Replace(t.Context(), c, a, strings.NewReader("another"), attach.Options{Name: name})
			must(t, err)
			if _, err := w.commit(t, p); err == nil {
				t.Errorf("Commit of a replacement named %q: no error", name)
			}
		}
		w.holds(t, a, content)
		if n := w.count(t, "SELECT count(*) FROM kms_attachments"); n != 1 {
			t.Errorf("%d attachments, want one", n)
		}
	})
}

// sweep sweeps when all times are over.
func (w *world) sweep(t testing.TB) {
	t.Helper()
	time.Sleep(5 * time.Millisecond)
	for range 2 { // what is given up by the first goes by the second
		_, err := w.manager.Sweep(t.Context())
		must(t, err)
		time.Sleep(5 * time.Millisecond)
	}
}

// clean checks that there are so many files, an object for each, and nothing else.
func (w *world) clean(t testing.TB, files int) {
	t.Helper()
	rows, left := w.count(t, "SELECT count(*) FROM kms_attachments"), w.count(t, "SELECT count(*) FROM kms_attachment_objects")
	if rows != files || left != 0 || len(w.memory.Names()) != files {
		t.Errorf("%d rows, %d listed objects, %d objects, want %d files and nothing else", rows, left, len(w.memory.Names()), files)
	}
}

// A record that is inserted in the same transaction, and one without a data key.
func TestNewRecords(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		w := newWorld(t, d, nil)
		c := &customer{Name: "Ada", Email: field.New("ada@example.org")}
		p, err := w.manager.Upload(t.Context(), c, "license", strings.NewReader("content"), attach.Options{})
		must(t, err)
		if _, err := w.commit(t, p); !errors.Is(err, kmsencrypted.ErrNoID) {
			t.Errorf("Commit before the record has an id = %v, want ErrNoID", err)
		}
		c.ID = 1
		if _, err := w.commit(t, p); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("Commit before the record is there = %v, want sql.ErrNoRows", err)
		}
		var a *attach.Attachment
		must(t, w.transaction(t, func(tx *sql.Tx) error {
			must(t, w.model.SealNew(t.Context(), c))
			_, err := tx.Exec(w.sql("INSERT INTO customers (id, name, encrypted_kms_key, email_ciphertext) VALUES (?, ?, ?, ?)"), c.ID, c.Name, c.Key, c.Email)
			must(t, err)
			a, err = p.Commit(t.Context(), tx)
			return err
		}))
		w.holds(t, a, []byte("content"))

		w.exec(t, "INSERT INTO customers (id, name) VALUES (2, 'Bob')")
		bob := w.read(t, 2)
		w.holds(t, w.attach(t, bob, "scans", []byte("one")), []byte("one"))
		w.holds(t, w.attach(t, bob, "scans", []byte("two")), []byte("two"))
		bob.Email.Set("bob@example.org")
		must(t, w.model.Seal(t.Context(), bob))
		if has, stored := bob.keyText(t), w.read(t, 2).keyText(t); has != stored {
			t.Errorf("the record has the data key %s, the database %s", has, stored)
		}
	})
}

// Rekey wraps the file keys again and changes no object. Rewrap changes neither.
func TestRotation(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		w := newWorld(t, d, nil)
		contents := make(map[string][]byte)
		var all []*attach.Attachment
		for i := range 20 {
			c := w.insert(t, int64(i+1))
			for n := range 3 {
				content := random(uint64(i*3+n), 3000*n)
				a := w.attach(t, c, "scans", content)
				all, contents[a.ID] = append(all, a), content
			}
		}
		objects := w.memory.Names()
		wrapped := func() (list []string) {
			for _, a := range all {
				now, err := w.manager.Find(t.Context(), a.ID)
				must(t, err)
				list = append(list, now.WrappedKey)
			}
			return list
		}
		before := wrapped()
		check := func(what string) {
			t.Helper()
			for _, a := range all {
				w.holds(t, a, contents[a.ID])
			}
			if !slices.Equal(w.memory.Names(), objects) {
				t.Errorf("%s: other objects than before", what)
			}
		}
		if got := w.rotate(t, rotation.Rewrap, 2); got.Written != 20 {
			t.Errorf("rewrap: %+v", got)
		}
		check("rewrap")
		if !slices.Equal(wrapped(), before) {
			t.Error("a rewrap changed file keys")
		}
		if got := w.rotate(t, rotation.Rekey, 3); got.Written != 20 {
			t.Errorf("rekey: %+v", got)
		}
		check("rekey")
		for i, key := range wrapped() {
			if key == before[i] {
				t.Errorf("file key %d is wrapped under the old data key", i)
			}
		}
	})
}

// An upload that overlaps a rekey is wrapped under the data key that is current
// when it is committed.
func TestUploadBesideRekey(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		w := newWorld(t, d, nil)
		c := w.insert(t, 1)
		p, err := w.manager.Upload(t.Context(), c, "license", strings.NewReader("content"), attach.Options{})
		must(t, err)
		w.rotate(t, rotation.Rekey, 3)
		p2, err := w.manager.Upload(t.Context(), c, "scans", strings.NewReader("with the old record"), attach.Options{})
		must(t, err)
		for _, p := range []*attach.Pending[customer]{p, p2} {
			a, err := w.commit(t, p)
			must(t, err)
			if _, err := w.content(t, a); err != nil {
				t.Error(err)
			}
		}
	})
}

// A file whose key is damaged keeps its record where it is, and no other.
func TestRekeyWithDamagedFileKey(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		w := newWorld(t, d, nil)
		var a [3]*attach.Attachment
		for i := range a {
			a[i] = w.attach(t, w.insert(t, int64(i+1)), "license", []byte("content"))
		}
		w.exec(t, "UPDATE kms_attachments SET wrapped_key = ? WHERE id = ?", a[0].WrappedKey, a[1].ID)
		result := w.rotate(t, rotation.Rekey, 3)
		if version, _ := w.read(t, 2).Key.Version(); result.Written != 2 || result.Failed == 0 || version != 1 {
			t.Errorf("rekey = %+v, want 2 written, and the record with the damaged file key at version 1, not %d", result, version)
		}
		w.exec(t, "UPDATE kms_attachments SET wrapped_key = ? WHERE id = ?", a[1].WrappedKey, a[1].ID)
		for _, a := range a {
			w.holds(t, a, []byte("content"))
		}
	})
}

// A process that may not decrypt attaches files all the same, and the next
// rotation puts their keys under the records' data keys.
func TestEncryptOnly(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d database) {
		for _, how := range []string{"rekey", "rewrap", "WrapKeys"} {
			w := newWorld(t, d, nil)
			c := w.insert(t, 1)
			w.keys.Set(kmstest.Revoke(1).On(kmsencrypted.OpUnwrap))
			a := w.attach(t, c, "license", []byte("content"))
			if files.IsWrappedKey(a.WrappedKey) || !strings.HasPrefix(a.WrappedKey, "fb3:") || !strings.Contains(a.WrappedKey, ":v1:") {
				t.Fatalf("wrapped key = %.10s…, want the key service's", a.WrappedKey)
			}
			if _, err := w.content(t, a); !errors.Is(err, kmsencrypted.ErrDenied) {
				t.Errorf("Open without permission to decrypt = %v, want ErrDenied", err)
			}
			w.keys.Set()
			w.holds(t, a, []byte("content"))
			if counts, err := w.manager.Count(t.Context()); err != nil || counts[1] != 1 {
				t.Errorf("Count() = %v, %v", counts, err)
			}
			prefix := "fk2:"
			switch how {
			case "rekey":
				w.rotate(t, rotation.Rekey, 3)
			case "rewrap":
				w.rotate(t, rotation.Rewrap, 2)
				prefix = "fb3:"
				if now, err := w.manager.Count(t.Context()); err != nil || now[2] != 1 {
					t.Errorf("Count() after a rewrap = %v, %v, want one at version 2", now, err)
				}
			default:
				last := int64(0)
				must(t, w.manager.WrapKeys(t.Context(), func(done, total int64) { last = done*10 + total }))
				if last != 11 {
					t.Errorf("progress ended with %d", last)
				}
			}
			now, err := w.manager.Find(t.Context(), a.ID)
			must(t, err)
			if !strings.HasPrefix(now.WrappedKey, prefix) {
				t.Errorf("%s: wrapped key = %.10s…, want %s", how, now.WrappedKey, prefix)
			}
			w.holds(t, a, []byte("content"))
		}
	})
}
