package e2e

import (
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

type lostRecord struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

// lostApp is an application whose files are in S3, on a database of its own under keys
// of its own.
type lostApp struct {
	db    *sql.DB
	model *field.Model[lostRecord]
	files *attach.Manager[lostRecord]
}

func newLostApp(t *testing.T, bucket *blob.Bucket, recovery kmsencrypted.Provider, records int) *lostApp {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "app.sqlite3")+"?_pragma=busy_timeout(20000)")
	must(t, err)
	t.Cleanup(func() { db.Close() })
	_, err = db.Exec("CREATE TABLE records (id integer PRIMARY KEY, encrypted_kms_key text)")
	must(t, err)
	for id := range records {
		_, err = db.Exec("INSERT INTO records (id) VALUES (?)", id+1)
		must(t, err)
	}
	a := &lostApp{db: db}
	a.model, err = field.NewModel[lostRecord](kmstest.Box(t), field.Config{Table: "records", Files: true})
	must(t, err)
	a.files, err = attach.New(t.Context(), db, field.SQLite, a.model, attach.Config{Many: []string{"scans"},
		Buckets: map[string]attach.Bucket{"s3": gocloud.Attachments(bucket)}, Grace: time.Millisecond,
		Recovery: &attach.Recovery{Box: s3Box(t, recovery, 1), Store: "shop"}})
	must(t, err)
	must(t, a.files.CreateTables(t.Context()))
	return a
}

// read returns the record with its key column.
func (a *lostApp) read(t *testing.T, id int64) *lostRecord {
	t.Helper()
	r := &lostRecord{ID: id}
	must(t, a.db.QueryRow("SELECT encrypted_kms_key FROM records WHERE id = ?", id).Scan(&r.Key))
	return r
}

func (a *lostApp) transaction(t *testing.T, do func(tx *sql.Tx) error) {
	t.Helper()
	tx, err := a.db.Begin()
	must(t, err)
	defer tx.Rollback()
	must(t, do(tx))
	must(t, tx.Commit())
}

// After the database is lost, the bucket alone gives back the files: as rows in a new
// database, and decrypted into a folder by the command.
func TestRecoverFromS3(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "kmsencrypted")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/kmsencrypted")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for server, endpoint := range s3Endpoints(t) {
		t.Run(server, func(t *testing.T) {
			client := s3.New(s3.Options{
				Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true,
				Credentials: credentials.NewStaticCredentialsProvider("id0000", "secret00", ""),
			})
			_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("lost")})
			must(t, err)
			bucket, err := s3blob.OpenBucket(t.Context(), client, "lost", nil)
			must(t, err)
			defer bucket.Close()
			testRecoverFromS3(t, program, bucket)
		})
	}
}

func testRecoverFromS3(t *testing.T, program string, bucket *blob.Bucket) {
	keyFile := filepath.Join(t.TempDir(), "recovery.txt")
	recovery, err := local.Create(keyFile)
	must(t, err)
	before := newLostApp(t, bucket, recovery, 2)
	var contents, ids []string
	var last *attach.Attachment
	for n, size := range []int{0, 1, 16_384, 100_000, 11 << 20, 20} { // of one request and of several parts
		content := numbered(size)
		p, err := before.files.Upload(t.Context(), before.read(t, int64(n%2)+1), "scans", strings.NewReader(string(content)), attach.Options{Name: fmt.Sprint(n, ".bin")})
		must(t, err)
		before.transaction(t, func(tx *sql.Tx) error { last, err = p.Commit(t.Context(), tx); return err })
		contents, ids = append(contents, string(content)), append(ids, last.ID)
	}
	before.transaction(t, func(tx *sql.Tx) error { return before.files.Delete(t.Context(), tx, last) })
	contents, ids = contents[:len(contents)-1], ids[:len(ids)-1]
	time.Sleep(5 * time.Millisecond)
	if swept, err := before.files.Sweep(t.Context()); err != nil || swept.Deleted != 1 {
		t.Errorf("Sweep = %+v, %v, want one object deleted", swept, err)
	}
	must(t, before.db.Close())
	keys := stored(t, bucket)
	for _, id := range []string{last.Object, last.Object + attach.SidecarSuffix} {
		if slices.Contains(keys, id) {
			t.Errorf("%s is left after the sweep", id)
		}
	}
	if len(keys) != 2*len(ids)+1 { // and the mark of the store
		t.Errorf("the bucket has %q, want %d objects with sidecars", keys, len(ids))
	}

	after := newLostApp(t, bucket, recovery, 2)
	if got, err := after.files.Restore(t.Context(), attach.RestoreOptions{NewKeys: true}); err != nil || got != (attach.Restored{Files: 5}) {
		t.Errorf("Restore = %+v, %v, want 5 files", got, err)
	}
	for n, id := range ids {
		a, err := after.files.Find(t.Context(), id)
		must(t, err)
		f, err := after.files.Open(t.Context(), a)
		must(t, err)
		got := make([]byte, f.Size())
		_, err = f.ReadAt(got, 0)
		if err := f.Close(); err != nil || string(got) != contents[n] || a.FileName != fmt.Sprint(n, ".bin") {
			t.Errorf("file %d: %d bytes of %s, %v", n, len(got), a.FileName, err)
		}
	}

	// The tools of the store copy the bucket.
	folder, plain := t.TempDir(), filepath.Join(t.TempDir(), "plain")
	for _, key := range keys {
		object, err := bucket.ReadAll(t.Context(), key)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(folder, key), object, 0o600))
	}
	command := exec.CommandContext(t.Context(), program, "recover-files", "--key", "local:"+keyFile, "--store", "shop", "--bucket", "s3", folder, plain)
	if out, err := command.CombinedOutput(); err != nil || string(out) != "5 files written, 0 failed\n" {
		t.Errorf("recover-files: %v, %s", err, out)
	}
	var recovered []string
	must(t, filepath.WalkDir(plain, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		recovered = append(recovered, string(content))
		return err
	}))
	slices.Sort(recovered)
	slices.Sort(contents)
	if !slices.Equal(recovered, contents) {
		t.Errorf("%d files recovered, or not the same, want %d", len(recovered), len(contents))
	}
}
