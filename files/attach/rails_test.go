package attach_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	filebox "github.com/kmsencrypted/kmsencrypted/files/lockbox"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

type document struct {
	ID    int64     `db:"id"`
	Title string    `db:"title"`
	Key   field.Key `db:"encrypted_kms_key"`
}

// railsWorld is a copy of what a Rails application attached.
type railsWorld struct {
	db        *sql.DB
	path      string // of the objects
	bucket    attach.Bucket
	master    lockbox.MasterKey
	manifest  vectors.RailsStorage
	documents *field.Model[document]
	rails     *attach.Rails[document]
}

func title(d *document) []byte { return []byte(d.Title) }

func newRailsWorld(t testing.TB) *railsWorld {
	t.Helper()
	var manifest vectors.RailsStorage
	vectors.LoadRails(t, "storage.json", &manifest)
	return railsWorldAt(t, vectors.RailsDatabase(t, "storage.sqlite3"), vectors.RailsObjects(t), nil)
}

// railsWorldAt opens one that was copied before. With steps its process is killed.
func railsWorldAt(t testing.TB, database, objects string, s *steps) *railsWorld {
	t.Helper()
	w := &railsWorld{path: objects}
	vectors.LoadRails(t, "storage.json", &w.manifest)
	var err error
	w.db, err = sql.Open("sqlite", sqliteDSN(database))
	must(t, err)
	w.bucket = openDir(t, w.path)
	if s != nil {
		driver := w.db.Driver()
		w.db.Close()
		w.db, w.bucket = sql.OpenDB(steppingConnector{s, driver, sqliteDSN(database)}), steppingBucket{w.bucket, s}
	}
	t.Cleanup(func() { w.db.Close() })
	w.master, err = lockbox.ParseMasterKey(w.manifest.LockboxMasterKey)
	must(t, err)
	w.use(t, 1)
	must(t, w.rails.CreateTables(t.Context()))
	return w
}

// use makes a version the current one.
func (w *railsWorld) use(t testing.TB, current int) {
	t.Helper()
	ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
	b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: ruby, 2: ruby, 3: {Provider: testkey.New()}}}.Box()
	must(t, err)
	w.documents, err = field.NewModel[document](b, field.Config{Table: "documents", Name: "Document", Files: true})
	must(t, err)
	w.rails, err = attach.NewRails(t.Context(), w.db, field.SQLite, w.documents, attach.RailsConfig[document]{
		MasterKey: w.master,
		Buckets:   map[string]attach.Bucket{"local": w.bucket},
		Grace:     time.Millisecond,
		Attachments: map[string]attach.RailsAttachment[document]{
			"license": {},
			"photo":   {RecordKey: true},
			"photos":  {RecordKey: true, Many: true},
			"draft":   {RecordKey: true, Lockbox: filebox.Options{Padding: 64}, AssociatedData: title},
			"scans":   {Many: true, Lockbox: filebox.Options{Algorithm: lockbox.XSalsa20}},
			"plain":   {Plain: true},
		},
	})
	must(t, err)
}

func (w *railsWorld) read(t testing.TB, id int64) *document {
	t.Helper()
	d := new(document)
	must(t, w.db.QueryRow("SELECT id, title, encrypted_kms_key FROM documents WHERE id = ?", id).Scan(&d.ID, &d.Title, &d.Key))
	return d
}

func (w *railsWorld) content(t testing.TB, d *document, b *attach.Blob) ([]byte, error) {
	t.Helper()
	f, err := w.rails.Open(t.Context(), d, b)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// all opens every attachment of the manifest, and returns how many.
func (w *railsWorld) all(t testing.TB, what string) {
	t.Helper()
	for _, f := range w.manifest.Files {
		d := w.read(t, f.RecordID)
		list, err := w.rails.List(t.Context(), d, f.Name)
		must(t, err)
		found := false
		for _, b := range list {
			content, err := w.content(t, d, b)
			if err != nil {
				t.Errorf("%s: %s of document %d: %v", what, f.Name, f.RecordID, err)
			}
			sum := sha256.Sum256(content)
			if hex.EncodeToString(sum[:]) == f.SHA256 && int64(len(content)) == f.Size {
				found = found || b.FileName == f.Filename
			}
		}
		if !found {
			t.Errorf("%s: %s of document %d (%s) is not among the %d files", what, f.Name, f.RecordID, f.Filename, len(list))
		}
	}
}

// Everything that a Rails application attached reads back.
func TestRailsAttachments(t *testing.T) {
	t.Parallel()
	w := newRailsWorld(t)
	w.all(t, "as Rails wrote it")
	vectors.Ran(t, "storage.json", len(w.manifest.Files))
	// Ranges, of a file of more than one segment.
	for _, f := range w.manifest.Files {
		if f.Size < 100_000 {
			continue
		}
		d := w.read(t, f.RecordID)
		b, err := w.rails.Get(t.Context(), d, f.Name)
		must(t, err)
		file, err := w.rails.Open(t.Context(), d, b)
		must(t, err)
		defer file.Close()
		whole, err := io.ReadAll(file)
		must(t, err)
		p := make([]byte, 1000)
		for _, at := range []int64{0, 65_000, 262_000, file.Size() - 1000} {
			if _, err := file.ReadAt(p, at); err != nil || !bytes.Equal(p, whole[at:at+1000]) {
				t.Errorf("%s: 1000 bytes at %d: %v", f.Name, at, err)
			}
		}
	}
}

// What Go attaches has the rows that Rails makes, and objects that Lockbox opens.
func TestRailsAttach(t *testing.T) {
	t.Parallel()
	w := newRailsWorld(t)
	theirs := w.row(t, "1=1 ORDER BY a.id LIMIT 1")
	w.exec(t, "INSERT INTO documents (id, title, encrypted_kms_key) SELECT 100, 'new ü', NULL")
	d := w.read(t, 100)
	if _, err := w.rails.Upload(t.Context(), d, "photo", strings.NewReader("x"), attach.Options{}); !errors.Is(err, kmsencrypted.ErrNoDataKey) {
		t.Errorf("Upload under the data key of a record without one = %v, want ErrNoDataKey", err)
	}
	must(t, w.documents.Adapter().AddKey(t.Context(), "encrypted_kms_key", d))
	w.exec(t, "UPDATE documents SET encrypted_kms_key = ? WHERE id = 100", d.Key)
	w.documents.Adapter().Saved(d)
	for _, name := range []string{"license", "photo", "draft", "scans", "scans", "plain"} {
		for _, n := range []int{0, 8, 300_000} {
			if n > 0 && name != "scans" { // has one
				must(t, w.transaction(t, func(tx *sql.Tx) error {
					b, err := w.rails.Get(t.Context(), d, name)
					must(t, err)
					return w.rails.Delete(t.Context(), tx, b)
				}))
			}
			content := random(uint64(n), n)
			b := w.attach(t, d, name, content)
			if got, err := w.content(t, d, b); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s of %d bytes = %d bytes, %v", name, n, len(got), err)
			}
			stored := w.object(t, b.Key)
			sum := md5.Sum(stored)
			if b.ObjectSize != int64(len(stored)) || b.Checksum != base64.StdEncoding.EncodeToString(sum[:]) {
				t.Errorf("%s: size or checksum is not the object's", name)
			}
			if got := w.lockboxOpen(t, d, name, stored); !bytes.Equal(got, content) {
				t.Errorf("%s of %d bytes: Lockbox opens %d bytes", name, n, len(got))
			}
			ours := w.row(t, "b.id = ?", b.ID)
			if name == "license" {
				for column, want := range theirs {
					if got := ours[column]; reflect.TypeOf(got) != reflect.TypeOf(want) {
						t.Errorf("column %s is %T %v, Rails writes %T %v", column, got, got, want, want)
					}
				}
				for _, same := range []string{"metadata", "service_name", "record_type"} {
					if !sameJSON(ours[same], theirs[same]) {
						t.Errorf("%s = %v, Rails writes %v", same, ours[same], theirs[same])
					}
				}
				if key := ours["key"].(string); !regexp.MustCompile(`^[0-9a-z]{28}$`).MatchString(key) {
					t.Errorf("key %q", key)
				}
			}
			if name == "plain" && strings.Contains(ours["metadata"].(string), "encrypted") {
				t.Errorf("metadata of a plain file = %v", ours["metadata"])
			}
		}
	}
	time.Sleep(5 * time.Millisecond)
	_, err := w.rails.Sweep(t.Context())
	must(t, err)
	var blobs int
	must(t, w.db.QueryRow("SELECT count(*) FROM active_storage_blobs").Scan(&blobs))
	if objects := filesIn(t, w.path); len(objects) != blobs {
		t.Errorf("%d objects for %d blobs", len(objects), blobs)
	}
	w.all(t, "beside Go's")
}

func sameJSON(a, b any) bool {
	var x, y map[string]any
	if json.Unmarshal([]byte(fmt.Sprint(a)), &x) != nil || json.Unmarshal([]byte(fmt.Sprint(b)), &y) != nil {
		return a == b
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

func (w *railsWorld) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	_, err := w.db.Exec(query, args...)
	must(t, err)
}

func (w *railsWorld) transaction(t testing.TB, do func(tx *sql.Tx) error) error {
	t.Helper()
	tx, err := w.db.Begin()
	must(t, err)
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (w *railsWorld) attach(t testing.TB, d *document, name string, content []byte) (b *attach.Blob) {
	t.Helper()
	p, err := w.rails.Upload(t.Context(), d, name, bytes.NewReader(content), attach.Options{Name: "a.bin", Size: int64(len(content))})
	must(t, err)
	must(t, w.transaction(t, func(tx *sql.Tx) error {
		b, err = p.Commit(t.Context(), tx)
		return err
	}))
	return b
}

// row is an attachment with its blob, as stored in the database.
func (w *railsWorld) row(t testing.TB, condition string, args ...any) map[string]any {
	t.Helper()
	rows, err := w.db.Query("SELECT a.name, a.record_type, a.record_id, a.created_at AS attached_at, b.* FROM active_storage_attachments a JOIN active_storage_blobs b ON b.id = a.blob_id WHERE "+condition, args...)
	must(t, err)
	defer rows.Close()
	names, err := rows.Columns()
	must(t, err)
	if !rows.Next() {
		t.Fatal("no row")
	}
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	must(t, rows.Scan(into...))
	row := make(map[string]any)
	for i, name := range names {
		row[name] = values[i]
	}
	return row
}

func (w *railsWorld) object(t testing.TB, key string) []byte {
	t.Helper()
	stored, err := os.ReadFile(filepath.Join(w.path, key[:2], key[2:4], key))
	must(t, err)
	return stored
}

// lockboxOpen opens an object with what a Rails process has: the master key or the
// data key in the record's key column.
func (w *railsWorld) lockboxOpen(t testing.TB, d *document, name string, stored []byte) []byte {
	t.Helper()
	var key []byte
	var err error
	o, ad := lockbox.Options{}, []byte(nil)
	switch name {
	case "plain":
		return stored
	case "license", "scans":
		key, err = w.master.AttributeKey("documents", name)
		if name == "scans" {
			o.Algorithm = lockbox.XSalsa20
		}
	default:
		keys, kerr := w.documents.Adapter().DataKeys(t.Context(), "encrypted_kms_key", w.read(t, d.ID))
		must(t, kerr)
		key, err = keys[0].Raw()
		if name == "draft" {
			o.Padding, ad = 64, title(d)
		}
	}
	must(t, err)
	box, err := lockbox.New(key, o)
	must(t, err)
	plaintext, err := box.Open(nil, stored, ad)
	if err != nil {
		t.Errorf("%s: Lockbox: %v", name, err)
	}
	return plaintext
}

func (w *railsWorld) rekey(t testing.TB, to int) {
	t.Helper()
	w.use(t, to)
	s, err := sqlstore.New(t.Context(), w.db, field.SQLite, w.documents, sqlstore.Options{Dependents: []field.Dependents{w.rails}})
	must(t, err)
	must(t, s.CreateTables(t.Context()))
	r, err := rotation.New(w.documents.Adapter().Box(), s, rotation.Options{Kind: rotation.Rekey, WritersAreOurs: true, Workers: 1, Shards: 1, Lease: 100 * time.Millisecond})
	must(t, err)
	result, err := r.Run(t.Context())
	must(t, err)
	if result.Failed > 0 {
		t.Errorf("rekey: %+v", result)
	}
}

// A rekey adopts the files under the data keys and touches no object; Reencrypt
// gives them back to Rails.
func TestRailsRekey(t *testing.T) {
	t.Parallel()
	w := newRailsWorld(t)
	before := w.objects(t)
	for _, to := range []int{2, 3, 2} { // the second and third move what was adopted before
		w.rekey(t, to)
		w.all(t, fmt.Sprint("rekeyed to version ", to))
	}
	for name, object := range w.objects(t) {
		if !bytes.Equal(before[name], object) {
			t.Errorf("object %s was touched", name)
		}
	}
	adopted, err := w.rails.Adopted(t.Context(), 0, 1000)
	must(t, err)
	want := 0
	for _, f := range w.manifest.Files {
		if f.Name == "photo" || f.Name == "draft" {
			want++
		}
	}
	if len(adopted) != want {
		t.Errorf("%d files adopted, want %d", len(adopted), want)
	}
	for _, b := range adopted {
		var id int64
		fmt.Sscan(b.RecordID, &id)
		d := w.read(t, id)
		size := int64(0)
		moved, err := w.rails.Reencrypt(t.Context(), d, b, func(done, total int64) { size = done })
		must(t, err)
		if moved.Adopted() || moved.Key == b.Key || moved.ID != b.ID {
			t.Errorf("Reencrypt: %+v of %+v", moved, b)
		}
		got, err := w.content(t, d, moved)
		if plaintext := w.lockboxOpen(t, d, b.Name, w.object(t, moved.Key)); err != nil || !bytes.Equal(got, plaintext) || size != int64(len(got)) {
			t.Errorf("%s of document %d after Reencrypt: %d bytes, %v, progress %d; Lockbox %d", b.Name, id, len(got), err, size, len(plaintext))
		}
	}
	if adopted, err := w.rails.Adopted(t.Context(), 0, 1000); err != nil || len(adopted) > 0 {
		t.Errorf("%d files are adopted still, %v", len(adopted), err)
	}
	time.Sleep(5 * time.Millisecond)
	swept, err := w.rails.Sweep(t.Context())
	must(t, err)
	if int(swept.Deleted) != want || len(w.objects(t)) != len(before) {
		t.Errorf("Sweep = %+v, %d objects, want %d", swept, len(w.objects(t)), len(before))
	}
	w.all(t, "re-encrypted")
}

func (w *railsWorld) objects(t testing.TB) map[string][]byte {
	t.Helper()
	objects := make(map[string][]byte)
	for _, name := range filesIn(t, w.path) {
		objects[name] = w.object(t, name)
	}
	return objects
}

// What lay under the old data key too cannot be passed off as an adopted file, and
// no adopted file as another.
func TestRailsTampering(t *testing.T) {
	t.Parallel()
	w := newRailsWorld(t)
	d := w.read(t, 1)
	photo, err := w.rails.Get(t.Context(), d, "photo")
	must(t, err)
	original := w.object(t, photo.Key)
	replace := func(object []byte) {
		path := filepath.Join(w.path, photo.Key[:2], photo.Key[2:4], photo.Key)
		must(t, os.Chmod(path, 0o600))
		must(t, os.WriteFile(path, object, 0o600))
		w.exec(t, "UPDATE active_storage_blobs SET byte_size = ? WHERE id = ?", len(object), photo.ID)
	}
	keys, err := w.documents.Adapter().DataKeys(t.Context(), "encrypted_kms_key", d)
	must(t, err)
	raw, err := keys[0].Raw()
	must(t, err)
	box, err := lockbox.New(raw, lockbox.Options{})
	must(t, err)
	column, err := box.Seal(nil, []byte("a column's plaintext"), nil)
	must(t, err)
	refused := func(what string) {
		t.Helper()
		now, err := w.rails.Get(t.Context(), d, "photo")
		must(t, err)
		if got, err := w.content(t, w.read(t, 1), now); len(got) > 0 || !errors.Is(err, kmsencrypted.ErrDecrypt) && !errors.Is(err, kmsencrypted.ErrMalformed) {
			t.Errorf("%s: %d bytes, %v, want a typed error", what, len(got), err)
		}
	}
	for at := range len(original) {
		replace(flipped(original, at))
		refused("flipped")
		replace(original[:at])
		refused("cut")
	}
	replace(original)
	w.rekey(t, 2)
	replace(column)
	refused("a column's ciphertext")
	sum := md5.Sum(column)
	w.exec(t, "UPDATE active_storage_blobs SET checksum = ? WHERE id = ?", base64.StdEncoding.EncodeToString(sum[:]), photo.ID)
	refused("a column's ciphertext with its checksum")
	replace(original)
	w.exec(t, "UPDATE active_storage_blobs SET checksum = ? WHERE id = ?", photo.Checksum, photo.ID)
	now, err := w.rails.Get(t.Context(), d, "photo")
	must(t, err)
	if _, err := w.content(t, w.read(t, 1), now); err != nil {
		t.Error(err)
	}
	w.exec(t, "UPDATE active_storage_attachments SET name = 'draft', id = 1000 WHERE id = ?", photo.AttachmentID)
	moved, err := w.rails.List(t.Context(), d, "draft")
	must(t, err)
	if got, err := w.content(t, w.read(t, 1), moved[len(moved)-1]); err == nil || len(got) > 0 {
		t.Errorf("an adopted file under another name: %d bytes, %v", len(got), err)
	}
	if _, err := w.rails.Open(context.Background(), w.read(t, 2), now); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Open with another record = %v, want ErrConfig", err)
	}
}

// An attachment with migrating: true opens plain files of before, until Reencrypt has
// encrypted them; one with a key of its own or a pair of keys is read and written.
func TestRailsAttachmentKeys(t *testing.T) {
	t.Parallel()
	w := newRailsWorld(t)
	own, err := filebox.New(bytes.Repeat([]byte{0xab}, 32), filebox.Options{})
	must(t, err)
	encryption, decryption, err := lockbox.GenerateHybridKeys()
	must(t, err)
	hybrid, err := filebox.NewHybrid(encryption, decryption, filebox.Options{})
	must(t, err)
	attachments := map[string]attach.RailsAttachment[document]{
		"plain": {Migrating: true}, "own": {Codec: own}, "hyb": {Codec: hybrid, Many: true},
	}
	config := attach.RailsConfig[document]{MasterKey: w.master, Buckets: map[string]attach.Bucket{"local": w.bucket}, Grace: time.Millisecond, Attachments: attachments}
	w.rails, err = attach.NewRails(t.Context(), w.db, field.SQLite, w.documents, config)
	must(t, err)
	plain := 0
	for _, f := range w.manifest.Files {
		if f.Name != "plain" {
			continue
		}
		d := w.read(t, f.RecordID)
		list, err := w.rails.List(t.Context(), d, "plain")
		must(t, err)
		before, err := w.content(t, d, list[0])
		must(t, err)
		moved, err := w.rails.Reencrypt(t.Context(), d, list[0], nil)
		must(t, err)
		key, err := w.master.AttributeKey("documents", "plain")
		must(t, err)
		box, err := lockbox.New(key, lockbox.Options{})
		must(t, err)
		if got, err := box.Open(nil, w.object(t, moved.Key), nil); err != nil || !bytes.Equal(got, before) {
			t.Errorf("the object of a migrated file = %d bytes, %v, want %d", len(got), err, len(before))
		}
		list, err = w.rails.List(t.Context(), d, "plain")
		must(t, err)
		if got, err := w.content(t, d, list[0]); err != nil || !bytes.Equal(got, before) || !list[0].Encrypted {
			t.Errorf("a migrated file = %d bytes, %v, encrypted %t", len(got), err, list[0].Encrypted)
		}
		plain++
	}
	if plain == 0 {
		t.Skip("the folder has no plain file")
	}
	d := w.read(t, w.manifest.Files[0].RecordID)
	for name, codec := range map[string]*filebox.Codec{"own": own, "hyb": hybrid} {
		b := w.attach(t, d, name, []byte("content of "+name))
		if got, err := w.content(t, d, b); err != nil || string(got) != "content of "+name {
			t.Errorf("%s = %q, %v", name, got, err)
		}
		r, err := codec.NewReaderAt(t.Context(), bytes.NewReader(w.object(t, b.Key)), int64(len(w.object(t, b.Key))), nil)
		must(t, err)
		got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if r.Close(); err != nil || string(got) != "content of "+name {
			t.Errorf("the object of %s = %q, %v", name, got, err)
		}
	}
	p, err := w.rails.Upload(t.Context(), d, "own", strings.NewReader("another"), attach.Options{})
	must(t, err)
	err = w.transaction(t, func(tx *sql.Tx) error { _, err := p.Commit(t.Context(), tx); return err })
	if !errors.Is(err, kmsencrypted.ErrConflict) || !strings.Contains(err.Error(), "has a file there already") {
		t.Errorf("a second file of a has_one = %v, want ErrConflict that says so", err)
	}
	must(t, p.Discard(t.Context()))
	config.Attachments = map[string]attach.RailsAttachment[document]{"own": {Codec: own, RecordKey: true}}
	if _, err := attach.NewRails(t.Context(), w.db, field.SQLite, w.documents, config); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("a Codec under the record's data key = %v, want ErrConfig", err)
	}
}
