package e2e

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob/s3blob"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/attach/buckettest"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/rubyprocess"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type s3ecDocument struct {
	ID  int64     `db:"id"`
	Key field.Key `db:"encrypted_kms_key"`
}

// s3ecRails is the files of a Rails application in three services of one bucket.
type s3ecRails struct {
	*s3ecWorld
	path  string
	db    *sql.DB
	rails *attach.Rails[s3ecDocument]
}

func newS3ECRails(t *testing.T, endpoint string) *s3ecRails {
	t.Helper()
	w := &s3ecRails{s3ecWorld: newS3ECWorld(t, endpoint), path: vectors.RailsDatabase(t, "storage.sqlite3")}
	var err error
	w.db, err = sql.Open("sqlite", "file:"+w.path+"?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)")
	must(t, err)
	t.Cleanup(func() { w.db.Close() })
	_, err = w.db.Exec("DELETE FROM active_storage_attachments; DELETE FROM active_storage_blobs; INSERT INTO documents (id, title) VALUES (1000, 'files')")
	must(t, err)
	model, err := field.NewModel[s3ecDocument](kmstest.Box(t), field.Config{Table: "documents", Name: "Document", Files: true})
	must(t, err)
	plain, err := s3blob.OpenBucket(t.Context(), w.s3, s3Name, nil)
	must(t, err)
	t.Cleanup(func() { plain.Close() })
	w.rails, err = attach.NewRails(t.Context(), w.db, field.SQLite, model, attach.RailsConfig[s3ecDocument]{
		Buckets: map[string]attach.Bucket{
			"amazon":             gocloud.Attachments(plain),
			"amazon_encrypted":   attach.S3EC(w.client(t, s3ec.Options{Keys: []s3ec.Key{w.keys["kms"]}}), nil),
			"amazon_instruction": attach.S3EC(w.client(t, s3ec.Options{Keys: []s3ec.Key{w.keys["kms"]}, Instruction: true}), nil),
		},
		Bucket: "amazon",
		Grace:  time.Millisecond,
		Attachments: map[string]attach.RailsAttachment[s3ecDocument]{
			"photo":   {Plain: true},
			"license": {Plain: true, Bucket: "amazon_encrypted"},
			"scans":   {Plain: true, Bucket: "amazon_instruction", Many: true},
		},
	})
	must(t, err)
	must(t, w.rails.CreateTables(t.Context()))
	return w
}

var theDocument = &s3ecDocument{ID: 1000}

func (w *s3ecRails) attach(t *testing.T, name, file string, content []byte) *attach.Blob {
	t.Helper()
	p, err := w.rails.Upload(t.Context(), theDocument, name, bytes.NewReader(content), attach.Options{Name: file})
	must(t, err)
	tx, err := w.db.Begin()
	must(t, err)
	defer tx.Rollback()
	b, err := p.Commit(t.Context(), tx)
	must(t, err)
	must(t, tx.Commit())
	return b
}

func (w *s3ecRails) opens(t *testing.T, b *attach.Blob, want []byte) {
	t.Helper()
	f, err := w.rails.Open(t.Context(), theDocument, b)
	if err != nil {
		t.Errorf("%s %s: %v", b.Name, b.FileName, err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s %s: %d bytes, %v", b.Name, b.FileName, len(got), err)
	}
	part := make([]byte, len(want)/4)
	if _, err := f.ReadAt(part, int64(len(want)/2)); err != nil || !bytes.Equal(part, want[len(want)/2:][:len(part)]) {
		t.Errorf("%s %s in part: %v", b.Name, b.FileName, err)
	}
}

// stored returns the names of the objects of blobs in the bucket, which also holds the
// mark of the plain store.
func (w *s3ecRails) stored(t *testing.T) (names []string) {
	t.Helper()
	list, err := w.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(s3Name)})
	must(t, err)
	for _, o := range list.Contents {
		if *o.Key != "kms-store" {
			names = append(names, *o.Key)
		}
	}
	return names
}

func (w *s3ecRails) delete(t *testing.T, b *attach.Blob) {
	t.Helper()
	tx, err := w.db.Begin()
	must(t, err)
	defer tx.Rollback()
	must(t, w.rails.Delete(t.Context(), tx, b))
	must(t, tx.Commit())
}

// A live Rails application and this module use the same blobs, in plain and in encrypted
// services side by side.
func TestS3ECRails(t *testing.T) {
	t.Parallel()
	for server, endpoint := range s3Endpoints(t) {
		t.Run(server, func(t *testing.T) {
			w := newS3ECRails(t, endpoint)
			contents := map[string][]byte{"photo.png": numbered(300_000), "license.pdf": numbered(9<<20 + 7), "scan 1": numbered(0), "scan 2": numbered(1000)}
			for _, f := range [][2]string{{"photo", "photo.png"}, {"license", "license.pdf"}, {"scans", "scan 1"}, {"scans", "scan 2"}} {
				content := contents[f[1]]
				b := w.attach(t, f[0], f[1], content)
				sum := md5.Sum(content)
				if b.ObjectSize != int64(len(content)) || b.Checksum != base64.StdEncoding.EncodeToString(sum[:]) || b.Encrypted {
					t.Errorf("row of %s = %+v, want size and checksum of the plaintext", f[1], b)
				}
				w.opens(t, b, content)
			}
			out := rubyprocess.Run(t, []string{"rails", "active_storage/engine", "sqlite3", "aws-sdk-s3", "aws-sdk-kms"}, nil,
				"testdata/rails_s3ec.rb", w.path, endpoint, w.kms.URL, s3Name, "1000")
			seen := 0
			for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); seen++ {
				var line struct {
					Name, Filename, SHA256 string
					Size                   int
				}
				must(t, json.Unmarshal(lines.Bytes(), &line))
				sum := sha256.Sum256(contents[line.Filename])
				if line.SHA256 != hex.EncodeToString(sum[:]) || line.Size != len(contents[line.Filename]) {
					t.Errorf("Rails opened %s as %+v", line.Filename, line)
				}
			}
			if seen != len(contents) {
				t.Errorf("Rails opened %d files, want %d", seen, len(contents))
			}
			// Rails has replaced photo and license, and added a scan.
			theirs := 0
			for _, name := range []string{"photo", "license", "scans"} {
				list, err := w.rails.List(t.Context(), theDocument, name)
				must(t, err)
				for _, b := range list {
					want, ours := contents[b.FileName]
					if !ours {
						theirs++
						want = []byte(strings.Repeat(name+" of Rails ", 50_000))
						if name == "scans" {
							want = []byte("scan of Rails")
						}
					}
					w.opens(t, b, want)
				}
			}
			if theirs != 3 {
				t.Errorf("Rails attached %d files, want 3", theirs)
			}
			t.Logf("counted: Rails opened %d files of this module, which opened %d of Rails, over %s", seen, theirs, server)
		})
	}
}

// A row with another checksum than the file, a service that nobody configured, another
// blob's object: typed errors. What is deleted goes with its instruction object and its
// variants.
func TestS3ECAttachments(t *testing.T) {
	t.Parallel()
	for server, endpoint := range s3Endpoints(t) {
		t.Run(server, func(t *testing.T) {
			w := newS3ECRails(t, endpoint)
			license := w.attach(t, "license", "a.pdf", numbered(400_000))
			other := w.attach(t, "scans", "b.pdf", numbered(400_000))
			for what, change := range map[string]func(*attach.Blob){
				"another checksum": func(b *attach.Blob) { b.Checksum = base64.StdEncoding.EncodeToString(make([]byte, 16)) },
				"another size":     func(b *attach.Blob) { b.ObjectSize++ },
			} {
				changed := *license
				change(&changed)
				if _, err := w.rails.Open(t.Context(), theDocument, &changed); !errors.Is(err, kmsencrypted.ErrDecrypt) {
					t.Errorf("%s: Open = %v, want ErrDecrypt", what, err)
				}
			}
			lost := *license
			lost.Service = "azure"
			if _, err := w.rails.Open(t.Context(), theDocument, &lost); !errors.Is(err, kmsencrypted.ErrConfig) || !strings.Contains(err.Error(), "azure") {
				t.Errorf("Open in an unknown service = %v, want ErrConfig with its name", err)
			}
			// A variant that Rails made: a record, an attachment and a blob in the same service.
			variant := w.attach(t, "scans", "variant.png", numbered(10))
			var record int64
			must(t, w.db.QueryRow("INSERT INTO active_storage_variant_records (blob_id, variation_digest) VALUES (?, 'x') RETURNING id", license.ID).Scan(&record))
			_, err := w.db.Exec("UPDATE active_storage_attachments SET record_type = 'ActiveStorage::VariantRecord', record_id = ?, name = 'image' WHERE id = ?", record, variant.AttachmentID)
			must(t, err)
			if got := len(w.stored(t)); got != 1+2+2 {
				t.Errorf("%d objects for three blobs, two of them with an instruction object", got)
			}
			w.delete(t, license)
			w.delete(t, other)
			time.Sleep(10 * time.Millisecond) // the grace period
			_, err = w.rails.Sweep(t.Context())
			must(t, err)
			if left := w.stored(t); len(left) > 0 {
				t.Errorf("left after deleting everything: %v", left)
			}
			for name, o := range map[string]s3ec.Options{"metadata": {}, "instruction": {Instruction: true}} {
				o.Keys = []s3ec.Key{w.keys["aes"]}
				t.Run(name, func(t *testing.T) { buckettest.Run(t, attach.S3EC(w.client(t, o), nil)) })
			}
		})
	}
}
