package main

import (
	"database/sql"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

type visitor struct {
	ID  string    `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

// The files of a bucket are decrypted with nothing but the bucket and the recovery key,
// whatever folders the bucket was copied into and whatever names the records have.
func TestRecoverFiles(t *testing.T) {
	t.Parallel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	bucket, err := attach.OpenDir(filepath.Join(dir, "bucket"))
	must(err)
	defer bucket.Close()
	key, err := local.Create(filepath.Join(dir, "recovery.key"))
	must(err)
	box, err := kmsencrypted.NewBox(key)
	must(err)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "app.sqlite3"))
	must(err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE visitors (id text PRIMARY KEY, encrypted_kms_key text)")
	must(err)
	model, err := field.NewModel[visitor](kmstest.Box(t), field.Config{Table: "visitors", Files: true})
	must(err)
	m, err := attach.New(t.Context(), db, field.SQLite, model, attach.Config{One: []string{"photo"}, Buckets: map[string]attach.Bucket{"main": bucket},
		Recovery: &attach.Recovery{Box: box, Store: "museum"}})
	must(err)
	must(m.CreateTables(t.Context()))
	records := []string{"7", "..", "../../x", "a b/c", strings.Repeat("ü", 200), strings.Repeat("ü", 201)}
	for _, id := range records {
		_, err := db.Exec("INSERT INTO visitors (id) VALUES (?)", id)
		must(err)
		p, err := m.Upload(t.Context(), &visitor{ID: id}, "photo", strings.NewReader("photo of "+id), attach.Options{Name: strings.Repeat("ü", 200) + ".jpeg"})
		must(err)
		tx, err := db.Begin()
		must(err)
		_, err = p.Commit(t.Context(), tx)
		must(err)
		must(tx.Commit())
	}
	must(db.Close())

	recovers := func(want int, from, to string) string {
		t.Helper()
		var out, errs strings.Builder
		code := run(t.Context(), []string{"recover-files", "--key", "local:" + filepath.Join(dir, "recovery.key"), "--store", "museum", "--bucket", "main", from, to}, nil, &out, &errs)
		if code != want {
			t.Errorf("exit code %d, want %d: %s", code, want, &errs)
		}
		return out.String()
	}
	read := func(folder string) (all []string) {
		t.Helper()
		must(filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			if !utf8.ValidString(path) || !strings.HasSuffix(path, "ü.jpeg") {
				t.Errorf("%q does not have the extension, or is cut in a character", path)
			}
			content, err := os.ReadFile(path)
			all = append(all, string(content))
			return err
		}))
		return all
	}
	to := filepath.Join(dir, "plain")
	if out := recovers(0, filepath.Join(dir, "bucket"), to); out != "6 files written, 0 failed\n" {
		t.Errorf("printed %q", out)
	}
	got := read(filepath.Join(to, "visitors"))
	for _, id := range records {
		if !slices.Contains(got, "photo of "+id) {
			t.Errorf("no photo of %q in %q", id, got)
		}
	}
	// A copy without folders, of which one object is cut.
	flat := filepath.Join(dir, "flat")
	must(os.Mkdir(flat, 0o700))
	cut := false
	must(filepath.WalkDir(filepath.Join(dir, "bucket"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil && !cut && len(entry.Name()) == 28 {
			content, cut = content[:len(content)-1], true
		}
		return os.WriteFile(filepath.Join(flat, entry.Name()), content, 0o600)
	}))
	if out := recovers(2, flat, to+"2"); out != "5 files written, 1 failed\n" || len(read(to+"2")) != 5 {
		t.Errorf("printed %q, wrote %q", out, read(to+"2"))
	}
	recovers(1, flat, to)
	recovers(1, filepath.Join(dir, "nowhere"), to+"3")
}
