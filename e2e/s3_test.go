package e2e

import (
	"bytes"
	"database/sql"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// s3Server is an S3 server in this process that counts its responses.
type s3Server struct {
	client *s3.Client

	serving  sync.RWMutex // held for reading by each request
	mu       sync.Mutex
	requests []s3Request
}

// s3Request is one that was answered.
type s3Request struct {
	method, path string
	status       int
	bytes        int64 // of the answer
}

const s3Name = "files"

func startS3(t *testing.T) (*s3Server, *blob.Bucket) {
	t.Helper()
	fake := gofakes3.New(s3mem.New()).Server()
	s := new(s3Server)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serving.RLock()
		defer s.serving.RUnlock()
		counted := &countingWriter{ResponseWriter: w, status: http.StatusOK}
		fake.ServeHTTP(counted, r)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, s3Request{r.Method, strings.TrimPrefix(r.URL.Path, "/"+s3Name+"/"), counted.status, counted.bytes})
	}))
	t.Cleanup(server.Close)
	s.client = s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
	_, err := s.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(s3Name)})
	must(t, err)
	bucket, err := s3blob.OpenBucket(t.Context(), s.client, s3Name, nil)
	must(t, err)
	t.Cleanup(func() { bucket.Close() })
	return s, bucket
}

type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *countingWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// during returns the requests that f makes for a key, or for keys that begin with it.
func (s *s3Server) during(key string, f func()) (found []s3Request) {
	before := len(s.answered())
	f()
	for _, r := range s.answered()[before:] {
		if strings.HasPrefix(r.path, key) {
			found = append(found, r)
		}
	}
	return found
}

// answered waits for the requests that are being served: a client has the whole of
// an answer before it is counted.
func (s *s3Server) answered() []s3Request {
	s.serving.Lock()
	defer s.serving.Unlock()
	return slices.Clone(s.requests)
}

// s3Box reads versions 1 and 2 and writes current.
func s3Box(t *testing.T, provider kmsencrypted.Provider, current int) *kmsencrypted.Box {
	t.Helper()
	b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: provider}, 2: {Provider: provider}}}.Box()
	must(t, err)
	return b
}

// numbered is a file in which no two chunks are equal.
func numbered(n int) []byte {
	out, x := make([]byte, n), uint32(n)+1
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

// stored lists the keys of the store.
func stored(t *testing.T, b *blob.Bucket) (keys []string) {
	t.Helper()
	list := b.List(nil)
	for {
		o, err := list.Next(t.Context())
		if err == io.EOF {
			return keys
		}
		must(t, err)
		keys = append(keys, o.Key)
	}
}

// An encrypted bucket over S3: written, read in parts, copied, rewrapped, deleted.
func TestEncryptedBucketS3(t *testing.T) {
	t.Parallel()
	server, inner := startS3(t)
	provider, err := local.Create(t.TempDir() + "/keys.txt")
	must(t, err)
	bucket := gocloud.New(inner, "test", s3Box(t, provider, 1), gocloud.Options{})
	b := bucket.Blob()
	const name, sealed = "contracts/7.pdf", files.ChunkSize + 16
	// Beyond the 5 MiB of one part, so that it goes up in several.
	content := append([]byte("PLAINTEXT of the contract "), numbered(12<<20+12345)...)
	must(t, b.WriteAll(t.Context(), name, content, &blob.WriterOptions{ContentType: "application/pdf", Metadata: map[string]string{"who": "Ada"}}))

	raw, err := inner.ReadAll(t.Context(), name)
	must(t, err)
	size, err := files.SealedSize(int64(len(content)))
	must(t, err)
	if int64(len(raw)) != size || bytes.Contains(raw, content[:20]) {
		t.Errorf("the store has %d bytes, want %d, none of them readable", len(raw), size)
	}
	a, err := b.Attributes(t.Context(), name)
	must(t, err)
	if a.Size != int64(len(content)) || a.ContentType != "application/pdf" || a.Metadata["who"] != "Ada" {
		t.Errorf("attributes = %+v", a)
	}

	t.Run("ranges", func(t *testing.T) {
		for _, c := range []struct{ off, n, chunks int }{
			{5*files.ChunkSize + 7, 4096, 1},
			{5*files.ChunkSize - 1, 2, 2},
			{99*files.ChunkSize + 100, 64 << 10, 5},
			{0, 10, 1},
			{len(content) - 5, 5, 1},
		} {
			got := server.during(name, func() {
				r, err := b.NewRangeReader(t.Context(), name, int64(c.off), int64(c.n), nil)
				must(t, err)
				defer r.Close()
				if p, err := io.ReadAll(r); err != nil || !bytes.Equal(p, content[c.off:][:c.n]) {
					t.Errorf("range %d+%d = %d bytes, %v", c.off, c.n, len(p), err)
				}
			})
			var fetched int64
			for _, r := range got {
				fetched += r.bytes
			}
			// Opening takes the beginning, the last chunk and the sidecar.
			opening := int64(88 + sealed + sealed + 2048)
			if c.off == 0 {
				opening = 64<<10 + sealed + 2048 // of which the range is a part
			}
			t.Logf("counted: range %d+%d takes %d bytes of %d in %d requests", c.off, c.n, fetched, len(raw), len(got))
			if fetched < int64(c.n) || fetched > opening+int64(c.chunks)*sealed || len(got) > 4 {
				t.Errorf("range %d+%d fetched %d bytes in %d requests, want %d chunks besides opening", c.off, c.n, fetched, len(got), c.chunks)
			}
		}
	})

	if got, err := b.ReadAll(t.Context(), name); err != nil || !bytes.Equal(got, content) {
		t.Errorf("ReadAll = %d bytes, %v", len(got), err)
	}
	if err := b.Upload(t.Context(), name, strings.NewReader("other"), &blob.WriterOptions{ContentType: "text/plain", IfNotExist: true}); gcerrors.Code(err) != gcerrors.FailedPrecondition {
		t.Errorf("a write over it with IfNotExist = %v, want FailedPrecondition", err)
	}

	must(t, b.Copy(t.Context(), "copy.pdf", name, nil))
	if keys := stored(t, inner); len(keys) != 4 {
		t.Errorf("after a copy, and a write that was refused, the store has %q, want two objects and their sidecars", keys)
	}

	// A rewrap rewrites sidecars and nothing else.
	rotated := gocloud.New(inner, "test", s3Box(t, provider, 2), gocloud.Options{})
	requests := server.during("", func() {
		result, err := rotated.Rewrap(t.Context(), gocloud.RewrapOptions{})
		if err != nil || result.Rewrapped != 2 || result.Failed != 0 {
			t.Errorf("Rewrap = %+v, %v", result, err)
		}
	})
	for _, r := range requests {
		if r.path == name || r.path == "copy.pdf" {
			t.Errorf("the rewrap asked for an object: %+v", r)
		}
	}
	if result, err := rotated.Rewrap(t.Context(), gocloud.RewrapOptions{DryRun: true}); err != nil || len(result.Found) != 1 || result.Found[2] != 2 {
		t.Errorf("after the rewrap there is %+v, %v", result, err)
	}
	if now, err := inner.ReadAll(t.Context(), name); err != nil || !bytes.Equal(now, raw) {
		t.Errorf("the rewrap changed the object: %v", err)
	}

	must(t, b.Delete(t.Context(), name))
	if got, err := rotated.Blob().ReadAll(t.Context(), "copy.pdf"); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the copy without the original = %d bytes, %v", len(got), err)
	}
	must(t, b.Delete(t.Context(), "copy.pdf"))
	if left := stored(t, inner); len(left) > 0 {
		t.Errorf("deleting left %q", left)
	}
}

// s3Customer is a record with attached files.
type s3Customer struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// Files that are attached to records, with their objects in S3: uploaded,
// committed, read in parts, and rotated with their records, of which S3 hears nothing.
func TestAttachmentsS3(t *testing.T) {
	t.Parallel()
	server, inner := startS3(t)
	provider, err := local.Create(t.TempDir() + "/keys.txt")
	must(t, err)
	db, err := sql.Open("sqlite", "file:"+t.TempDir()+"/test.sqlite3?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)")
	must(t, err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE customers (id integer PRIMARY KEY, encrypted_kms_key text, email_ciphertext text)")
	must(t, err)
	use := func(version int) (*field.Model[s3Customer], *attach.Manager[s3Customer]) {
		model, err := field.NewModel[s3Customer](s3Box(t, provider, version), field.Config{Table: "customers", Files: true, Complete: true})
		must(t, err)
		manager, err := attach.New(t.Context(), db, field.SQLite, model, attach.Config{
			Many: []string{"scans"}, Buckets: map[string]attach.Bucket{"s3": gocloud.Attachments(inner)},
		})
		must(t, err)
		must(t, manager.CreateTables(t.Context()))
		return model, manager
	}
	model, manager := use(1)
	c := &s3Customer{ID: 7, Email: field.New("ada@example.org")}
	must(t, model.SealNew(t.Context(), c))
	_, err = db.Exec("INSERT INTO customers VALUES (?, ?, ?)", c.ID, c.Key, c.Email)
	must(t, err)
	model.Adapter().Saved(c)

	contents := [][]byte{numbered(9 << 20), numbered(100)}
	var attached []*attach.Attachment
	for _, content := range contents {
		p, err := manager.Upload(t.Context(), c, "scans", bytes.NewReader(content), attach.Options{Name: "scan.bin"})
		must(t, err)
		tx, err := db.BeginTx(t.Context(), nil)
		must(t, err)
		a, err := p.Commit(t.Context(), tx)
		must(t, err)
		must(t, tx.Commit())
		attached = append(attached, a)
	}
	before := stored(t, inner)
	if len(before) != 3 || !slices.Contains(before, "kms-store") {
		t.Errorf("the store has %q, want two objects and its mark", before)
	}
	read := func(manager *attach.Manager[s3Customer]) {
		t.Helper()
		list, err := manager.List(t.Context(), c, "scans")
		must(t, err)
		for i := range attached {
			at := slices.IndexFunc(list, func(a *attach.Attachment) bool { return a.ID == attached[i].ID })
			if at < 0 {
				t.Fatalf("attachment %d is gone", i)
			}
			f, err := manager.Open(t.Context(), list[at])
			must(t, err)
			defer f.Close()
			if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, contents[i]) {
				t.Errorf("attachment %d = %d bytes, %v", i, len(got), err)
			}
		}
	}
	read(manager)

	got := server.during(attached[0].Object, func() {
		f, err := manager.Open(t.Context(), attached[0])
		must(t, err)
		defer f.Close()
		p := make([]byte, 2)
		if _, err := f.ReadAt(p, 300*files.ChunkSize-1); err != nil || !bytes.Equal(p, contents[0][300*files.ChunkSize-1:][:2]) {
			t.Errorf("2 bytes over a border = %v, %v", p, err)
		}
	})
	var fetched int64
	for _, r := range got {
		fetched += r.bytes
	}
	// The first chunk and the last at opening, then two.
	if fetched == 0 || fetched > 4*(files.ChunkSize+16)+2048 {
		t.Errorf("2 bytes over a border fetched %d bytes in %d requests, want two chunks besides opening", fetched, len(got))
	}

	model, manager = use(2)
	requests := server.during("", func() {
		s, err := sqlstore.New(t.Context(), db, field.SQLite, model, sqlstore.Options{Dependents: []field.Dependents{manager}})
		must(t, err)
		must(t, s.CreateTables(t.Context()))
		r, err := rotation.New(model.Adapter().Box(), s, rotation.Options{Kind: rotation.Rekey, WritersAreOurs: true})
		must(t, err)
		if result, err := r.Run(t.Context()); err != nil || result.Written != 1 || result.Failed != 0 {
			t.Errorf("rekey = %+v, %v", result, err)
		}
	})
	if len(requests) > 0 {
		t.Errorf("the rekey made requests to S3: %+v", requests)
	}
	read(manager)
	if after := stored(t, inner); !slices.Equal(after, before) {
		t.Errorf("the store had %q and has %q", before, after)
	}
}

// The database is lost, and the files come back from S3 alone.
func TestRecoverS3(t *testing.T) {
	t.Parallel()
	server, inner := startS3(t)
	recovery, err := kmsencrypted.NewBox(kmstest.Memory())
	must(t, err)
	open := func() (*sql.DB, *attach.Manager[s3Customer]) {
		db, err := sql.Open("sqlite", "file:"+t.TempDir()+"/test.sqlite3?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)")
		must(t, err)
		t.Cleanup(func() { db.Close() })
		_, err = db.Exec("CREATE TABLE customers (id integer PRIMARY KEY, encrypted_kms_key text, email_ciphertext text); INSERT INTO customers (id) VALUES (7)")
		must(t, err)
		model, err := field.NewModel[s3Customer](kmstest.Box(t), field.Config{Table: "customers", Files: true})
		must(t, err)
		manager, err := attach.New(t.Context(), db, field.SQLite, model, attach.Config{Many: []string{"scans"},
			Buckets: map[string]attach.Bucket{"s3": gocloud.Attachments(inner)}, Recovery: &attach.Recovery{Box: recovery, Store: "shop"}})
		must(t, err)
		must(t, manager.CreateTables(t.Context()))
		return db, manager
	}
	db, manager := open()
	contents := make(map[string][]byte)
	for n := range 120 {
		c := &s3Customer{ID: 7}
		must(t, db.QueryRow("SELECT encrypted_kms_key FROM customers").Scan(&c.Key))
		content := numbered(n * 1000)
		p, err := manager.Upload(t.Context(), c, "scans", bytes.NewReader(content), attach.Options{})
		must(t, err)
		tx, err := db.BeginTx(t.Context(), nil)
		must(t, err)
		a, err := p.Commit(t.Context(), tx)
		must(t, err)
		must(t, tx.Commit())
		contents[a.ID] = content
	}
	_, manager = open()
	before := len(server.answered())
	if got, err := manager.Restore(t.Context(), attach.RestoreOptions{NewKeys: true}); err != nil || got != (attach.Restored{Files: int64(len(contents))}) {
		t.Fatalf("Restore = %+v, %v, want %d files", got, err, len(contents))
	}
	t.Logf("%d requests to the store for %d files", len(server.answered())-before, len(contents))
	for id, content := range contents {
		a, err := manager.Find(t.Context(), id)
		must(t, err)
		f, err := manager.Open(t.Context(), a)
		must(t, err)
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, content) {
			t.Errorf("file %s = %d bytes, %v, want %d", id, len(got), err, len(content))
		}
		must(t, f.Close())
	}
}

// What only the driver knows reaches the store: of every upload of attachments and of an
// encrypted bucket, and of one upload.
func TestBeforeWriteS3(t *testing.T) {
	t.Parallel()
	server, inner := startS3(t)
	team := func(name string) func(func(any) bool) error {
		return func(asFunc func(any) bool) error {
			var in *s3.PutObjectInput
			if !asFunc(&in) {
				return errors.ErrUnsupported
			}
			in.Metadata = map[string]string{"team": name}
			return nil
		}
	}
	always := gocloud.Transfer{BeforeWrite: team("billing")}
	must(t, gocloud.AttachmentsWith(inner, always).Put(t.Context(), "attached", func(w io.Writer) error {
		_, err := w.Write(numbered(6 << 20)) // in two parts
		return err
	}))
	b := gocloud.New(inner, "test", kmstest.Box(t), gocloud.Options{Transfer: always}).Blob()
	must(t, b.WriteAll(t.Context(), "of all", []byte("text"), nil))
	must(t, b.WriteAll(t.Context(), "of one", []byte("text"), &blob.WriterOptions{BeforeWrite: team("support")}))
	for key, want := range map[string]string{"attached": "billing", "of all": "billing", "of one": "support"} {
		head, err := server.client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(s3Name), Key: aws.String(key)})
		must(t, err)
		if got := head.Metadata["team"]; got != want {
			t.Errorf("%s has the metadata team %q, want %q", key, got, want)
		}
	}
	refused := gocloud.Transfer{BeforeWrite: func(func(any) bool) error { return io.ErrNoProgress }}
	err := gocloud.AttachmentsWith(inner, refused).Put(t.Context(), "refused", func(w io.Writer) error {
		_, err := w.Write([]byte("text"))
		return err
	})
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("an upload that BeforeWrite refuses: %v", err)
	}
	if there, err := inner.Exists(t.Context(), "refused"); there || err != nil {
		t.Errorf("it is there: %t, %v", there, err)
	}
}
