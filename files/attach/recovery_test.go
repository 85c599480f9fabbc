package attach_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// vault is a recovery provider with several versions.
type vault struct {
	service *kmstest.Service
	store   string
}

func newVault(t testing.TB) *vault {
	t.Helper()
	provider, err := local.Create(filepath.Join(t.TempDir(), "recovery.txt"))
	must(t, err)
	return &vault{kmstest.NewService(provider), "shop"}
}

// at is the recovery at a current version.
func (v *vault) at(t testing.TB, version int) *attach.Recovery {
	return &attach.Recovery{Box: box(t, v.service.Provider(), version), Store: v.store}
}

func (v *vault) into(t testing.TB, bucket attach.Bucket) func(*attach.Config) {
	return func(c *attach.Config) {
		c.Recovery, c.Grace = v.at(t, 1), time.Millisecond
		if bucket != nil {
			c.Buckets = map[string]attach.Bucket{"main": bucket}
		}
	}
}

// afterLoss is a new database, with bare records under new keys, and the old bucket.
func (w *world) afterLoss(t testing.TB, v *vault, records int) *world {
	t.Helper()
	next := newWorld(t, w.d, v.into(t, w.config.Buckets["main"]))
	next.memory = w.memory
	for id := range records {
		next.exec(t, "INSERT INTO customers (id, name) VALUES (?, ?)", id+1, "Ada")
	}
	return next
}

func (w *world) restore(t testing.TB) attach.Restored {
	t.Helper()
	result, err := w.manager.Restore(t.Context(), attach.RestoreOptions{NewKeys: true})
	must(t, err)
	return result
}

// contents reads all files of the database by their IDs.
func (w *world) contents(t testing.TB) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, id := range idsOf(t.(*testing.T), w) {
		a, err := w.manager.Find(t.Context(), id)
		must(t, err)
		content, err := w.content(t, a)
		must(t, err)
		all[id] = fmt.Sprint(a.RecordID, a.Name, a.Variant, a.Parent, a.FileName, a.ContentType, a.Created, len(content)) + string(content)
	}
	return all
}

// After a random life of many files the database is lost. The bucket alone gives back
// every file, in the rows that it had.
func TestRecoverPostgresMariaDBSQLite(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]database{"SQLite": sqlite, "Postgres": postgres, "MariaDB": mariadb, "MariaDBLenient": mariadb.with(lenient)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t)
			var bucket attach.Bucket // in memory
			if name == "SQLite" {
				bucket = openDir(t, t.TempDir())
			}
			w := newWorld(t, d, v.into(t, bucket))
			const records = 5
			for id := range int64(records) {
				w.insert(t, id+1)
			}
			done := w.live(t, rand.New(rand.NewPCG(16, uint64(len(name)))), records, 150)
			w.sweep(t)
			before := w.contents(t)
			t.Logf("%d files after %v", len(before), done)
			for _, op := range []string{"attach", "replace", "derive", "reencrypt", "delete", "rekey", "rolled back"} {
				if done[op] < 3 {
					t.Errorf("%s was done %d times", op, done[op])
				}
			}
			if again := w.restore(t); again.Files+again.Superseded+again.NoRecord+again.Unattached > 0 || again.Present != int64(len(before)) {
				t.Errorf("Restore in a complete database: %+v, want %d present", again, len(before))
			}

			next := w.afterLoss(t, v, records)
			if got := next.restore(t); got != (attach.Restored{Files: int64(len(before))}) {
				t.Errorf("Restore = %+v, want %d files", got, len(before))
			}
			if after := next.contents(t); !maps.Equal(after, before) {
				t.Errorf("%d files after the loss, %d before, or not the same", len(after), len(before))
			}
			if again := next.restore(t); again != (attach.Restored{Present: int64(len(before))}) {
				t.Errorf("Restore again = %+v, want %d present", again, len(before))
			}
			// The rows live on like others.
			next.rotate(t, rotation.Rekey, 2)
			next.live(t, rand.New(rand.NewPCG(17, 1)), records, 30)
			next.sweep(t)
			third := next.afterLoss(t, v, records)
			files := next.contents(t)
			if got := third.restore(t); got.Files != int64(len(files)) || !maps.Equal(third.contents(t), files) {
				t.Errorf("after a second loss: %+v, want %d files", got, len(files))
			}
		})
	}
}

// live does random things with files, and says how often.
func (w *world) live(t *testing.T, r *rand.Rand, records, steps int) map[string]int {
	done := make(map[string]int)
	var list []*attach.Attachment
	for range steps {
		c := w.read(t, r.Int64N(int64(records))+1)
		content := random(r.Uint64(), r.IntN(40_000))
		var a *attach.Attachment
		if len(list) > 0 {
			n := r.IntN(len(list))
			a = list[n]
			var err error
			if a, err = w.manager.Find(t.Context(), a.ID); errors.Is(err, fs.ErrNotExist) {
				list = slices.Delete(list, n, n+1)
				continue
			}
			var id int64
			fmt.Sscan(a.RecordID[0], &id)
			c = w.read(t, id)
		}
		op := []string{"attach", "attach", "attach", "replace", "derive", "reencrypt", "delete", "rekey", "rolled back"}[r.IntN(9)]
		if a == nil {
			op = "attach"
		}
		switch op {
		case "attach":
			list = append(list, w.attach(t, c, "scans", content))
		case "replace":
			time.Sleep(2 * time.Millisecond) // the clock that decides which is later
			p, err := w.manager.Replace(t.Context(), c, a, bytes.NewReader(content), attach.Options{Name: "new.txt"})
			must(t, err)
			_, err = w.commit(t, p)
			must(t, err)
		case "derive":
			if a.Variant != "" {
				continue
			}
			p, err := w.manager.Derive(t.Context(), c, a, fmt.Sprint("v", r.Uint32()), attach.Options{}, func(dst io.Writer, src *attach.File) error {
				_, err := io.Copy(dst, io.LimitReader(src, 100))
				return err
			})
			must(t, err)
			d, err := w.commit(t, p)
			must(t, err)
			list = append(list, d)
		case "reencrypt":
			_, err := w.manager.Reencrypt(t.Context(), a, nil)
			must(t, err)
		case "delete":
			must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, a) }))
		case "rekey":
			must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Rekey(t.Context(), tx, c) }))
		case "rolled back":
			p, err := w.manager.Replace(t.Context(), c, a, bytes.NewReader(content), attach.Options{})
			must(t, err)
			undone := errors.New("undone")
			err = w.transaction(t, func(tx *sql.Tx) error { _, err := p.Commit(t.Context(), tx); return errors.Join(err, undone) })
			if !errors.Is(err, undone) || errors.Is(err, kmsencrypted.ErrConflict) {
				t.Fatal(err)
			}
			must(t, p.Discard(t.Context()))
		}
		done[op]++
	}
	return done
}

// A recovery needs nothing but the bucket to read the files.
func TestRecoverWithoutADatabase(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	w := newWorld(t, sqlite, v.into(t, nil))
	want := random(1, 50_000)
	a := w.attach(t, w.insert(t, 1), "license", want)
	n := 0
	for f, err := range v.at(t, 2).Files(t.Context(), "main", w.memory) {
		must(t, err)
		n++
		file, err := f.Open(t.Context())
		must(t, err)
		got, err := io.ReadAll(file)
		must(t, errors.Join(err, file.Close(), f.Close()))
		if !bytes.Equal(got, want) || f.Attachment.ID != a.ID || file.Name() != "license.bin" || f.Attachment.RecordID[0] != "1" || f.Attachment.WrappedKey != "" {
			t.Errorf("%d bytes of %+v", len(got), f.Attachment)
		}
		if _, err := f.Open(t.Context()); !errors.Is(err, kmsencrypted.ErrWiped) {
			t.Errorf("Open after Close = %v, want ErrWiped", err)
		}
	}
	if n != 1 {
		t.Errorf("%d files, want 1", n)
	}
	for what, r := range map[string]*attach.Recovery{"another store": {Box: v.at(t, 1).Box, Store: "other"}, "another key": newVault(t).at(t, 1)} {
		for f, err := range r.Files(t.Context(), "main", w.memory) {
			if f != nil || !errors.Is(err, kmsencrypted.ErrDecrypt) {
				t.Errorf("under %s: %v, want ErrDecrypt", what, err)
			}
		}
	}
}

// Which of several files comes back, and which does not.
func TestRestoreChooses(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	w := newWorld(t, sqlite, v.into(t, nil))
	w.config.Grace = time.Hour // nothing is swept
	w.use(t, 1)
	c, other := w.insert(t, 1), w.insert(t, 2)
	first := w.attach(t, c, "license", []byte("first"))
	p, err := w.manager.Derive(t.Context(), c, first, "small", attach.Options{}, func(dst io.Writer, _ *attach.File) error {
		_, err := io.WriteString(dst, "of first")
		return err
	})
	must(t, err)
	_, err = w.commit(t, p)
	must(t, err)
	time.Sleep(2 * time.Millisecond)
	p, err = w.manager.Replace(t.Context(), c, first, strings.NewReader("second"), attach.Options{})
	must(t, err)
	second, err := w.commit(t, p)
	must(t, err)
	time.Sleep(2 * time.Millisecond)
	must(t, w.transaction(t, func(tx *sql.Tx) error { return w.manager.Delete(t.Context(), tx, second) }))
	third := w.attach(t, c, "license", []byte("third")) // another ID under a name of One
	gone := w.attach(t, other, "scans", []byte("of a record that does not come back"))
	_, err = w.manager.Upload(t.Context(), c, "scans", strings.NewReader("never committed"), attach.Options{})
	must(t, err)

	next := w.afterLoss(t, v, 1)
	var outcomes []string
	got, err := next.manager.Restore(t.Context(), attach.RestoreOptions{NewKeys: true, Each: func(f *attach.Recoverable, outcome string, err error) {
		outcomes = append(outcomes, outcome)
		must(t, err)
	}})
	must(t, err)
	// The one that was never committed comes back, as documented. How many are written
	// before the latest is found depends on the order.
	if got.NoRecord != 1 || got.Files < 2 || got.Files+got.Superseded != 5 || len(outcomes) != 6 {
		t.Errorf("Restore = %+v, %v", got, outcomes)
	}
	next.holds(t, third, []byte("third"))
	if ids := idsOf(t, next); len(ids) != 2 || slices.Contains(ids, gone.ID) || slices.Contains(ids, second.ID) {
		t.Errorf("restored %v", ids)
	}
	if got := w.restore(t); got.Files != 0 || got.Present != 2 || got.Unattached != 4 {
		t.Errorf("Restore in the complete database = %+v, want 2 present and 4 unattached", got)
	}
	if names := next.memory.Names(); len(names) != 12 {
		t.Errorf("%d objects are left, want all 12", len(names))
	}
	// The record comes back later.
	next.exec(t, "INSERT INTO customers (id, name) VALUES (2, 'Grace')")
	next.restore(t)
	next.holds(t, gone, []byte("of a record that does not come back"))
}

// Somebody who writes to the bucket cannot make a file come back as another.
func TestRestoreTampered(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	w := newWorld(t, sqlite, v.into(t, nil))
	a, b := w.attach(t, w.insert(t, 1), "license", random(1, 20_000)), w.attach(t, w.insert(t, 2), "license", random(2, 20_000))
	objects := make(map[string][]byte)
	for _, name := range w.memory.Names() {
		w.memory.Change(name, func(object []byte) []byte { objects[name] = bytes.Clone(object); return object })
	}
	put := func(name string, object []byte) func(*attach.Memory) {
		return func(m *attach.Memory) {
			must(t, m.Delete(t.Context(), name))
			must(t, m.Put(t.Context(), name, func(w io.Writer) error { _, err := w.Write(object); return err }))
		}
	}
	side := attach.SidecarSuffix
	for what, c := range map[string]struct {
		change func(*attach.Memory)
		want   error
		files  int64
	}{
		"sidecar of another object": {put(a.Object+side, objects[b.Object+side]), kmsencrypted.ErrBinding, 1},
		"both under another name": {func(m *attach.Memory) {
			put("x"+a.Object, objects[a.Object])(m)
			put("x"+a.Object+side, objects[a.Object+side])(m)
		}, kmsencrypted.ErrBinding, 2},
		"object of another file": {put(a.Object, objects[b.Object]), kmsencrypted.ErrDecrypt, 1},
		"cut object":             {put(a.Object, objects[a.Object][:16_488]), kmsencrypted.ErrMalformed, 1},
		"no object":              {func(m *attach.Memory) { m.Delete(t.Context(), a.Object) }, fs.ErrNotExist, 1},
		"plaintext":              {put(a.Object+side, []byte("license")), kmsencrypted.ErrNotCiphertext, 1},
		"empty":                  {put(a.Object+side, nil), kmsencrypted.ErrNotCiphertext, 1},
		"huge":                   {put(a.Object+side, make([]byte, 1<<20)), kmsencrypted.ErrTooLarge, 1},
		"changed": {func(m *attach.Memory) {
			m.Change(a.Object+side, func(s []byte) []byte { s[len(s)-20] ^= 1; return s })
		}, nil, 1},
	} {
		m := new(attach.Memory)
		for name, object := range objects {
			put(name, bytes.Clone(object))(m)
		}
		c.change(m)
		next := newWorld(t, sqlite, v.into(t, m))
		next.insert(t, 1)
		next.insert(t, 2)
		got, err := next.manager.Restore(t.Context(), attach.RestoreOptions{NewKeys: true})
		if c.want != nil && !errors.Is(err, c.want) || err == nil || got.Files != c.files || got.Failed != 1 {
			t.Errorf("%s: %+v, %v, want %v", what, got, err, c.want)
		}
		for id, content := range next.contents(t) {
			if !strings.HasSuffix(content, string(random(map[string]uint64{a.ID: 1, b.ID: 2}[id], 20_000))) {
				t.Errorf("%s: %s is another file", what, id)
			}
		}
	}
}

// Without the recovery provider nothing is attached, and nothing left behind.
func TestRecoveryOutage(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	w := newWorld(t, sqlite, v.into(t, nil))
	c := w.insert(t, 1)
	v.service.Set(kmstest.Unavailable(1))
	if _, err := w.manager.Upload(t.Context(), c, "license", strings.NewReader("x"), attach.Options{}); !errors.Is(err, kmsencrypted.ErrUnavailable) {
		t.Errorf("Upload = %v, want ErrUnavailable", err)
	}
	if left := w.memory.Names(); len(left) > 0 || w.count(t, "SELECT count(*) FROM kms_attachment_objects") > 0 {
		t.Errorf("left behind: %v", left)
	}
	// A record without a primary key gets its wrap in Commit, also in a second one.
	v.service.Set()
	fresh := &customer{Name: "Ada"}
	p, err := w.manager.Upload(t.Context(), fresh, "license", strings.NewReader("x"), attach.Options{})
	must(t, err)
	insert := func(id int64) error {
		return w.transaction(t, func(tx *sql.Tx) error {
			if _, err := tx.Exec("INSERT INTO customers (id, name) VALUES (?, 'Ada')", id); err != nil {
				return err
			}
			fresh.ID = id
			if _, err := p.Commit(t.Context(), tx); err != nil {
				return err
			}
			if id == 8 {
				return errors.New("rolled back")
			}
			return nil
		})
	}
	v.service.Set(kmstest.Unavailable(1))
	if err := insert(7); !errors.Is(err, kmsencrypted.ErrUnavailable) {
		t.Errorf("Commit = %v, want ErrUnavailable", err)
	}
	v.service.Set()
	if err := insert(8); err == nil {
		t.Fatal("not rolled back")
	}
	must(t, insert(9))
	next := newWorld(t, sqlite, v.into(t, w.memory))
	next.exec(t, "INSERT INTO customers (id, name) VALUES (8, 'A'), (9, 'B')")
	if got := next.restore(t); got != (attach.Restored{Files: 1}) {
		t.Errorf("Restore = %+v, want one file", got)
	}
	if a, err := next.manager.Get(t.Context(), next.read(t, 9), "license"); err != nil || a.FileName != "file" {
		t.Errorf("of record 9: %+v, %v", a, err)
	}
}

// A server needs no permission to decrypt recovery wraps, and files from before the
// recovery was configured, or of another version, get theirs.
func TestWrapRecovery(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	w := newWorld(t, sqlite, nil)
	c := w.insert(t, 1)
	for n := range 3 {
		w.attach(t, c, "scans", random(uint64(n), 1000))
	}
	v.service.Set(kmstest.Revoke(0).On(kmsencrypted.OpUnwrap))
	count := func(what string, version, calls int) {
		t.Helper()
		w.config.Recovery = v.at(t, version)
		w.use(t, 1)
		v.service.Forget()
		var done int64
		must(t, w.manager.WrapRecovery(t.Context(), func(n int64) { done = n }))
		if got := v.service.Count(kmsencrypted.OpWrap); got != calls || done == 0 {
			t.Errorf("%s: %d wraps, want %d", what, got, calls)
		}
		if wraps := w.count(t, "SELECT count(*) FROM kms_attachments WHERE recovery LIKE ?", fmt.Sprintf("fr2:%%:v%d:%%", version)); int64(wraps) != done {
			t.Errorf("%s: %d of %d rows at version %d", what, wraps, done, version)
		}
		if names := w.memory.Names(); int64(len(names)) != 2*done {
			t.Errorf("%s: objects %v", what, names)
		}
	}
	count("first time", 1, 3)
	count("again", 1, 0)
	count("another version", 2, 3)
	var sidecars []string
	for _, name := range w.memory.Names() {
		if strings.HasSuffix(name, attach.SidecarSuffix) {
			sidecars = append(sidecars, name)
		}
	}
	must(t, w.memory.Delete(t.Context(), sidecars[0]))
	w.memory.Change(sidecars[1], func([]byte) []byte { return []byte("x") })
	count("two sidecars lost", 2, 0)

	// A process that knows nothing of recovery replaces a file.
	list, err := w.manager.List(t.Context(), c, "scans")
	must(t, err)
	w.config.Recovery, w.config.Grace = nil, time.Millisecond
	w.use(t, 1)
	p, err := w.manager.Replace(t.Context(), c, list[0], strings.NewReader("of an older release"), attach.Options{})
	must(t, err)
	_, err = w.commit(t, p)
	must(t, err)
	w.sweep(t)
	count("after an older release", 2, 1)

	v.service.Set()
	w.config.Recovery = v.at(t, 2)
	if got := w.afterLoss(t, v, 1).restore(t); got != (attach.Restored{Files: 3}) {
		t.Errorf("Restore = %+v, want 3 files", got)
	}
}

// branch is a provider whose keys can be erased.
type branch struct{ kmsencrypted.Provider }

func (branch) Erasable() bool { return true }

// A recovery wrap would outlive an erased key.
func TestNoRecoveryUnderErasableKeys(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	w := newWorld(t, sqlite, v.into(t, nil))
	new1 := func(version kmsencrypted.Version) (*attach.Manager[customer], error) {
		b, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}, 2: version}}.Box()
		must(t, err)
		model, err := field.NewModel[customer](b, field.Config{Table: "customers", Files: true})
		must(t, err)
		return attach.New(t.Context(), w.db, field.SQLite, model, w.config)
	}
	if _, err := new1(kmsencrypted.Version{Provider: branch{kmstest.Memory()}}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("New = %v, want ErrConfig", err)
	}
	erasable, kept := branch{kmstest.Memory()}, kmstest.Memory()
	manager, err := new1(kmsencrypted.Version{ProviderFor: func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
		if s.Record.(*customer).Name == "Erasable" {
			return &erasable, nil
		}
		return kept, nil
	}})
	must(t, err)
	w.exec(t, "INSERT INTO customers (id, name) VALUES (1, 'Erasable'), (2, 'Kept')")
	for id, want := range map[int64]error{1: kmsencrypted.ErrConfig, 2: nil} {
		c := w.read(t, id)
		if _, err := manager.Upload(t.Context(), c, "license", strings.NewReader("x"), attach.Options{}); !errors.Is(err, want) {
			t.Errorf("Upload for record %d = %v, want %v", id, err, want)
		}
	}
	for _, r := range []attach.Recovery{{}, {Store: "shop"}, {Box: v.at(t, 1).Box}} {
		w.config.Recovery = &r
		if _, err := attach.New(t.Context(), w.db, field.SQLite, w.model, w.config); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("New with %+v = %v, want ErrConfig", r, err)
		}
	}
}

// tenantFile is a record whose tenant has a key of its own.
type tenantFile struct {
	ID     int64     `db:"id"`
	Tenant string    `db:"tenant" kms:"context"`
	Key    field.Key `db:"encrypted_kms_key"`
}

// Files of several tenants come back under their tenants' own keys.
func TestRecoverTenants(t *testing.T) {
	t.Parallel()
	v, memory := newVault(t), new(attach.Memory)
	services := map[string]*kmstest.Service{"acme": kmstest.NewService(kmstest.Memory()), "other": kmstest.NewService(kmstest.Memory())}
	open := func(name string) (*attach.Manager[tenantFile], *sql.DB) {
		providers := make(map[string]kmsencrypted.Provider)
		for tenant, s := range services {
			providers[tenant] = s.Provider()
		}
		b, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {
			Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
				return kmsencrypted.Context{"tenant": s.Record.(*tenantFile).Tenant}, nil
			},
			ProviderFor: func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
				return providers[s.Record.(*tenantFile).Tenant], nil
			},
		}}}.Box()
		must(t, err)
		model, err := field.NewModel[tenantFile](b, field.Config{Table: "documents", Files: true})
		must(t, err)
		db, err := sql.Open("sqlite", sqliteDSN(filepath.Join(t.TempDir(), name)))
		must(t, err)
		t.Cleanup(func() { db.Close() })
		_, err = db.Exec("CREATE TABLE documents (id integer PRIMARY KEY, tenant text, encrypted_kms_key text); INSERT INTO documents VALUES (1, 'acme', NULL), (2, 'other', NULL)")
		must(t, err)
		m, err := attach.New(t.Context(), db, field.SQLite, model, attach.Config{Many: []string{"scans"}, Buckets: map[string]attach.Bucket{"main": memory}, Recovery: v.at(t, 1)})
		must(t, err)
		must(t, m.CreateTables(t.Context()))
		return m, db
	}
	read := func(db *sql.DB, id int64) *tenantFile {
		f := tenantFile{ID: id}
		must(t, db.QueryRow("SELECT tenant, encrypted_kms_key FROM documents WHERE id = ?", id).Scan(&f.Tenant, &f.Key))
		return &f
	}
	m, db := open("before")
	for id := range int64(2) {
		for n := range 5 {
			p, err := m.Upload(t.Context(), read(db, id+1), "scans", strings.NewReader(fmt.Sprint("file ", n, " of record ", id+1)), attach.Options{})
			must(t, err)
			tx, err := db.Begin()
			must(t, err)
			_, err = p.Commit(t.Context(), tx)
			must(t, errors.Join(err, tx.Commit()))
		}
	}
	m, db = open("after")
	if got, err := m.Restore(t.Context(), attach.RestoreOptions{NewKeys: true}); err != nil || got.Files != 10 {
		t.Fatalf("Restore = %+v, %v, want 10 files", got, err)
	}
	services["other"].Set(kmstest.Unavailable(1))
	for id, want := range map[int64]error{1: nil, 2: kmsencrypted.ErrUnavailable} {
		list, err := m.List(t.Context(), read(db, id), "scans")
		if err != nil || len(list) != 5 {
			t.Fatalf("%d files of record %d, %v", len(list), id, err)
		}
		for _, a := range list {
			f, err := m.Open(t.Context(), a)
			if !errors.Is(err, want) {
				t.Errorf("Open of a file of record %d = %v, want %v", id, err, want)
			}
			if err == nil {
				content, err := io.ReadAll(f)
				must(t, errors.Join(err, f.Close()))
				if !strings.HasSuffix(string(content), fmt.Sprint("of record ", id)) {
					t.Errorf("record %d has %q", id, content)
				}
			}
		}
	}
}

// A manager without recovery works with tables of an older release.
func TestNoRecoveryColumn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, nil)
	w.exec(t, "ALTER TABLE kms_attachments DROP COLUMN recovery")
	a := w.attach(t, w.insert(t, 1), "license", []byte("x"))
	w.holds(t, a, []byte("x"))
	must(t, w.manager.CreateTables(context.Background()))
	if n := w.count(t, "SELECT count(*) FROM kms_attachments WHERE recovery IS NULL"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}
