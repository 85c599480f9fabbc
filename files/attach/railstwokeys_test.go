package attach_test

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/rubyprocess"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// phoneDocument has has_kms_key and has_kms_key name: :phone, and a file under each:
// encrypts_attached :photo, key: :kms_key and encrypts_attached :bill, key: :kms_key_phone.
type phoneDocument struct {
	ID    int64     `db:"id"`
	Key   field.Key `db:"encrypted_kms_key"`
	Phone field.Key `db:"encrypted_kms_key_phone" kms:"name=phone"`
}

type phoneWorld struct {
	*railsWorld
	model        *field.Model[phoneDocument]
	photo, phone *attach.Rails[phoneDocument]
}

// newPhoneWorld has document 100 with both keys.
func newPhoneWorld(t *testing.T) *phoneWorld {
	t.Helper()
	w := &phoneWorld{railsWorld: newRailsWorld(t)}
	w.exec(t, "ALTER TABLE documents ADD COLUMN encrypted_kms_key_phone text")
	w.exec(t, "INSERT INTO documents (id, title) VALUES (100, 'with a phone')")
	w.use(t, 1)
	d := &phoneDocument{ID: 100}
	must(t, errors.Join(d.Key.Scan(nil), d.Phone.Scan(nil)))
	must(t, w.model.Adapter().AddKey(t.Context(), "encrypted_kms_key", d))
	must(t, w.model.Adapter().AddKey(t.Context(), "encrypted_kms_key_phone", d))
	w.exec(t, "UPDATE documents SET encrypted_kms_key = ?, encrypted_kms_key_phone = ? WHERE id = 100", d.Key, d.Phone)
	return w
}

// use makes a version the current one.
func (w *phoneWorld) use(t *testing.T, current int) {
	t.Helper()
	ruby := kmsencrypted.Version{Provider: testkey.New(), Format: kmsencrypted.Ruby}
	b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: ruby, 2: ruby, 3: {Provider: testkey.New()}}}.Box()
	must(t, err)
	w.model, err = field.NewModel[phoneDocument](b, field.Config{Table: "documents", Name: "Document", Files: true, Complete: true})
	must(t, err)
	w.photo, w.phone = w.manager(t, "encrypted_kms_key", "photo", "bill"), w.manager(t, "encrypted_kms_key_phone", "bill", "photo")
}

// manager has one attachment under a key column.
func (w *phoneWorld) manager(t *testing.T, column, name string, elsewhere ...string) *attach.Rails[phoneDocument] {
	t.Helper()
	r, err := attach.NewRails(t.Context(), w.db, field.SQLite, w.model, attach.RailsConfig[phoneDocument]{
		KeyColumn: column, Elsewhere: elsewhere, MasterKey: w.master,
		Buckets: map[string]attach.Bucket{"local": w.bucket}, Grace: time.Millisecond,
		Attachments: map[string]attach.RailsAttachment[phoneDocument]{name: {RecordKey: true}},
	})
	must(t, err)
	return r
}

func (w *phoneWorld) read(t *testing.T) *phoneDocument {
	t.Helper()
	d := new(phoneDocument)
	must(t, w.db.QueryRow("SELECT id, encrypted_kms_key, encrypted_kms_key_phone FROM documents WHERE id = 100").Scan(&d.ID, &d.Key, &d.Phone))
	return d
}

func (w *phoneWorld) attach(t *testing.T, r *attach.Rails[phoneDocument], name string, content []byte) {
	t.Helper()
	p, err := r.Upload(t.Context(), w.read(t), name, bytes.NewReader(content), attach.Options{Name: "a.bin"})
	must(t, err)
	must(t, w.transaction(t, func(tx *sql.Tx) error {
		_, err := p.Commit(t.Context(), tx)
		return err
	}))
}

func (w *phoneWorld) content(t *testing.T, r *attach.Rails[phoneDocument], name string) ([]byte, error) {
	t.Helper()
	b, err := r.Get(t.Context(), w.read(t), name)
	must(t, err)
	f, err := r.Open(t.Context(), w.read(t), b)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func (w *phoneWorld) holds(t *testing.T, what string, photo, bill []byte) {
	t.Helper()
	if got, err := w.content(t, w.photo, "photo"); err != nil || !bytes.Equal(got, photo) {
		t.Errorf("%s: the photo has %d bytes, %v", what, len(got), err)
	}
	if got, err := w.content(t, w.phone, "bill"); err != nil || !bytes.Equal(got, bill) {
		t.Errorf("%s: the bill has %d bytes, %v", what, len(got), err)
	}
}

// A record of Rails has two named keys, and a file under each. A rekey takes both along, and
// does not begin without one of the managers.
func TestRailsOfTwoKeyColumns(t *testing.T) {
	t.Parallel()
	w := newPhoneWorld(t)
	photo, bill := random(1, 100_000), random(2, 30_000)
	w.attach(t, w.photo, "photo", photo)
	w.attach(t, w.phone, "bill", bill)
	w.holds(t, "attached", photo, bill)
	if _, err := w.content(t, w.manager(t, "encrypted_kms_key", "bill"), "bill"); !errors.Is(err, kmsencrypted.ErrDecrypt) {
		t.Errorf("the bill under the key of the photo = %v, want ErrDecrypt", err)
	}

	w.use(t, 2)
	rekey := func(managers ...*attach.Rails[phoneDocument]) error {
		others := make([]field.Dependents, len(managers))
		for i, m := range managers {
			others[i] = m
		}
		return w.transaction(t, func(tx *sql.Tx) error { return managers[0].Rekey(t.Context(), tx, w.read(t), others[1:]...) })
	}
	if err := rekey(w.photo); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Rekey without the other manager = %v, want ErrConfig", err)
	}
	if err := rekey(w.manager(t, "encrypted_kms_key", "photo")); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Rekey by a manager that does not know the bill = %v, want ErrConfig", err)
	}
	if _, err := sqlstore.New(t.Context(), w.db, field.SQLite, w.model, sqlstore.Options{Dependents: []field.Dependents{w.phone}}); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("a store without the other manager = %v, want ErrConfig", err)
	}
	w.holds(t, "refused", photo, bill)

	w.use(t, 2)
	must(t, rekey(w.photo, w.phone))
	w.holds(t, "rekeyed to version 2", photo, bill)
	w.use(t, 3)
	w.exec(t, "DELETE FROM documents WHERE id <> 100") // whose files have other names
	s, err := sqlstore.New(t.Context(), w.db, field.SQLite, w.model, sqlstore.Options{Dependents: []field.Dependents{w.photo, w.phone}, Independent: []string{"title"}})
	must(t, err)
	must(t, s.CreateTables(t.Context()))
	r, err := rotation.New(w.model.Adapter().Box(), s, rotation.Options{Kind: rotation.Rekey, WritersAreOurs: true, Workers: 1, Shards: 1})
	must(t, err)
	if result, err := r.Run(t.Context()); err != nil || result.Written != 1 || result.Failed != 0 {
		t.Errorf("rekey = %+v, %v, want the record written", result, err)
	}
	w.holds(t, "rekeyed to version 3", photo, bill)
	for _, m := range []*attach.Rails[phoneDocument]{w.photo, w.phone} {
		adopted, err := m.Adopted(t.Context(), 0, 10)
		must(t, err)
		if len(adopted) != 1 {
			t.Fatalf("%d files adopted, want one", len(adopted))
		}
		_, err = m.Reencrypt(t.Context(), w.read(t), adopted[0], nil)
		must(t, err)
	}
	w.holds(t, "encrypted again", photo, bill)
}

// A Rails application opens what is attached here under each of two named keys, and what it
// attaches is read back.
func TestRubyProcessTwoKeys(t *testing.T) {
	t.Parallel()
	w := newPhoneWorld(t)
	want := map[string]string{}
	for name, r := range map[string]*attach.Rails[phoneDocument]{"photo": w.photo, "bill": w.phone} {
		content := random(uint64(len(name)), 50_000)
		w.attach(t, r, name, content)
		sum := sha256.Sum256(content)
		want[name] = hex.EncodeToString(sum[:])
	}
	var path string
	must(t, w.db.QueryRow("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path))
	gems := []string{"rails", "active_record/railtie", "active_storage/engine", "lockbox", "rbnacl", "sqlite3"}
	out := rubyprocess.Run(t, gems, nil, "testdata/storage.rb", path, w.path, w.manifest.LockboxMasterKey, "100")
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if len(lines) != len(want) {
		t.Fatalf("Rails opened %d attachments of %d:\n%s", len(lines), len(want), out)
	}
	for _, line := range lines {
		var got struct{ Name, SHA256 string }
		must(t, json.Unmarshal(line, &got))
		if got.SHA256 != want[got.Name] {
			t.Errorf("Rails opens %+v, want %s", got, want[got.Name])
		}
	}
	w.holds(t, "of Rails", []byte(strings.Repeat("photo of Rails ", 5000)), []byte(strings.Repeat("bill of Rails ", 5000)))
}
