package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "gocloud.dev/blob/fileblob" // of disk.yml
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/direct"
	"github.com/kmsencrypted/kmsencrypted/files/storage"
	"github.com/kmsencrypted/kmsencrypted/files/thumbnail"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

// Account is a row of the table accounts, which has one for each tenant. Files are attached
// to it under two names:
//
//	files   come through the application. The service of the tenant encrypts them, or none does.
//	sealed  are encrypted under the data key of the account, in the browser if it can.
type Account struct {
	ID   int64     `db:"id"`
	Name string    `db:"name"`
	Key  field.Key `db:"encrypted_kms_key"`
}

// app is the application on one folder.
type app struct {
	db        *sql.DB
	services  *storage.Services
	serviceOf map[string]string // for new files of each tenant
	files     *attach.Rails[Account]
	sealed    *attach.Manager[Account]
	uploads   *direct.Uploads[Account]
	store     string // where browsers send sealed parts, or "" if the application seals them
}

// open makes the folder if it is not there. services is the text of the configuration.
func open(ctx context.Context, dir string, services []byte) (_ *app, err error) {
	a := &app{serviceOf: map[string]string{"acme": "plain", "globex": "encrypted"}}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := a.openDatabase(ctx, filepath.Join(dir, "app.sqlite3")); err != nil {
		return nil, err
	}
	key, err := local.OpenOrCreate(filepath.Join(dir, "key.txt"), func() (inUse bool, err error) { // AWS KMS, Google Cloud KMS or Vault in earnest
		err = a.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM active_storage_blobs) OR EXISTS (SELECT 1 FROM accounts WHERE encrypted_kms_key IS NOT NULL)").Scan(&inUse)
		return inUse, err
	})
	if err != nil {
		return nil, err
	}
	box, err := kmsencrypted.NewBox(key)
	if err != nil {
		return nil, err
	}
	if a.services, err = storage.Open(ctx, services, storage.Options{Strict: true, Box: box, LookupEnv: variables(dir)}); err != nil {
		return nil, err
	}
	return a, a.openAttachments(ctx, box)
}

// tables are those of the application and of Active Storage. The library makes its own.
const tables = `
CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, encrypted_kms_key TEXT);
CREATE TABLE IF NOT EXISTS active_storage_blobs (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, filename TEXT NOT NULL, content_type TEXT,
	metadata TEXT, service_name TEXT NOT NULL, byte_size BIGINT NOT NULL, checksum TEXT, created_at DATETIME NOT NULL);
CREATE TABLE IF NOT EXISTS active_storage_attachments (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, record_type TEXT NOT NULL,
	record_id BIGINT NOT NULL, blob_id BIGINT NOT NULL REFERENCES active_storage_blobs, created_at DATETIME NOT NULL);
`

func (a *app) openDatabase(ctx context.Context, path string) (err error) {
	if a.db, err = sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_txlock=immediate"); err != nil {
		return err
	}
	if _, err := a.db.ExecContext(ctx, tables); err != nil {
		return err
	}
	for tenant := range a.serviceOf {
		if _, err := a.db.ExecContext(ctx, "INSERT INTO accounts (name) VALUES (?) ON CONFLICT DO NOTHING", tenant); err != nil {
			return err
		}
	}
	return nil
}

// variables are those of disk.yml, before those of the environment.
func variables(dir string) func(string) (string, bool) {
	path := filepath.ToSlash(dir)
	if !strings.HasPrefix(path, "/") { // C:/…
		path = "/" + path
	}
	own := map[string]string{"STORAGE_DIR": dir, "STORAGE_URL": (&url.URL{Scheme: "file", Path: path}).String()}
	return func(name string) (string, bool) {
		if value, ok := own[name]; ok {
			return value, true
		}
		return os.LookupEnv(name)
	}
}

// grace is for downloads under way. In earnest it is longer than the age of a backup that
// may be restored.
const grace = time.Minute

func (a *app) openAttachments(ctx context.Context, box *kmsencrypted.Box) error {
	model, err := field.NewModel[Account](box, field.Config{Table: "accounts", Files: true})
	if err != nil {
		return err
	}
	buckets := a.services.Buckets()
	sealed := map[string]attach.Bucket{"sealed": buckets["sealed"]}
	delete(buckets, "sealed") // objects of a bucket belong to one manager
	a.files, err = attach.NewRails(ctx, a.db, field.SQLite, model, attach.RailsConfig[Account]{
		Attachments: map[string]attach.RailsAttachment[Account]{"files": {Many: true, Plain: true}},
		Buckets:     buckets, Bucket: "plain", Grace: grace,
		Resolve: func(ctx context.Context, _ string) (string, error) { return a.serviceOf[files.Tenant(ctx)], nil },
	})
	if err != nil {
		return err
	}
	if a.sealed, err = attach.New(ctx, a.db, field.SQLite, model, attach.Config{Many: []string{"sealed"}, Buckets: sealed, Grace: grace}); err != nil {
		return err
	}
	if err := a.sealed.CreateTables(ctx); err != nil {
		return err
	}
	if a.store, err = origin(ctx, sealed["sealed"]); err != nil {
		return err
	}
	secret := make([]byte, 32) // uploads end with the process
	rand.Read(secret)
	a.uploads, err = direct.New(a.sealed, a.mayUpload, a.attachSealed, direct.Options{Secrets: [][]byte{secret}, Logger: slog.Default()})
	return err
}

// origin returns the address of the store to which browsers send parts, or "" if they may not.
func origin(ctx context.Context, bucket attach.Bucket) (string, error) {
	signer, ok := bucket.(attach.PartSigner)
	if !ok {
		return "", nil
	}
	address, _, err := signer.SignPart(ctx, "none", "none", attach.Part{Number: 1, Size: 1}, time.Minute) // asks nobody
	if err != nil {
		return "", err
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	return u.Scheme + "://" + u.Host, nil
}

func (a *app) Close() error {
	var errs []error
	if a.services != nil {
		errs = append(errs, a.services.Close())
	}
	if a.db != nil {
		errs = append(errs, a.db.Close())
	}
	return errors.Join(errs...)
}

// account returns that of the tenant in the context.
func (a *app) account(ctx context.Context) (*Account, error) {
	c := new(Account)
	err := a.db.QueryRowContext(ctx, "SELECT id, name, encrypted_kms_key FROM accounts WHERE name = ?", files.Tenant(ctx)).Scan(&c.ID, &c.Name, &c.Key)
	return c, err
}

// add streams a file into the service of the tenant.
func (a *app) add(ctx context.Context, c *Account, file io.Reader, o attach.Options) error {
	pending, err := a.files.Upload(ctx, c, "files", file, o)
	if err != nil {
		return err
	}
	err = a.transaction(ctx, func(tx *sql.Tx) error {
		_, err := pending.Commit(ctx, tx)
		return err
	})
	if err != nil {
		return errors.Join(err, pending.Discard(ctx))
	}
	return nil
}

// attachSealed attaches a file that was uploaded in parts, and makes its preview.
func (a *app) attachSealed(ctx context.Context, g direct.Grant[Account], p *attach.Pending[Account]) (file *attach.Attachment, err error) {
	err = a.transaction(ctx, func(tx *sql.Tx) (err error) {
		file, err = p.Commit(ctx, tx)
		return err
	})
	if err == nil && strings.HasPrefix(file.ContentType, "image/") {
		if err := a.preview(ctx, g.Row, file); err != nil { // not a picture that can be read
			slog.WarnContext(ctx, "no preview", "file", file.ID, "error", err)
		}
	}
	return file, err
}

// preview makes a small picture, which is encrypted too, and goes with its original.
func (a *app) preview(ctx context.Context, c *Account, file *attach.Attachment) error {
	small, err := a.sealed.Derive(ctx, c, file, "small", attach.Options{Name: file.FileName}, thumbnail.Of(thumbnail.Options{Width: 480, Height: 360}))
	if err != nil {
		return err
	}
	err = a.transaction(ctx, func(tx *sql.Tx) error {
		_, err := small.Commit(ctx, tx)
		return err
	})
	if err != nil {
		return errors.Join(err, small.Discard(ctx))
	}
	return nil
}

func (a *app) transaction(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}
