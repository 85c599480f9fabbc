package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/serve"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// Document is a row of the table documents. Its file is attached under the name
// "file".
type Document struct {
	ID   int64            `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Note field.Of[string] `db:"note_ciphertext"`
}

// app is the application on one folder.
type app struct {
	db    *sql.DB
	model *field.Model[Document]
	files *attach.Manager[Document]
	disk  *attach.Dir
	links *serve.Links
}

// open makes the folder if it is not there. Both versions are listed from the
// start, so that the application reads what a rotation has moved to the second.
func open(ctx context.Context, dir string, current int) (_ *app, err error) {
	a := new(app)
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	objects := filepath.Join(dir, "objects")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return nil, err
	}
	if a.db, err = openDatabase(ctx, filepath.Join(dir, "app.sqlite3")); err != nil {
		return nil, err
	}
	versions := make(map[int]kmsencrypted.Version)
	for n := 1; n <= 2; n++ {
		key, err := a.openKey(ctx, filepath.Join(dir, fmt.Sprintf("key%d.txt", n)), n)
		if err != nil {
			return nil, err
		}
		versions[n] = kmsencrypted.Version{Provider: key}
	}
	box, err := kmsencrypted.Config{Current: current, Versions: versions}.Box()
	if err != nil {
		return nil, err
	}
	if a.model, err = field.NewModel[Document](box, field.Config{Table: "documents", Files: true}); err != nil {
		return nil, err
	}
	if a.disk, err = attach.OpenDir(objects); err != nil {
		return nil, err
	}
	a.files, err = attach.New(ctx, a.db, field.SQLite, a.model, attach.Config{
		One: []string{"file"}, Buckets: map[string]attach.Bucket{"disk": a.disk}, Grace: time.Minute,
	})
	if err != nil {
		return nil, err
	}
	if err := a.files.CreateTables(ctx); err != nil {
		return nil, err
	}
	secret := make([]byte, 32) // links end with the process
	rand.Read(secret)
	a.links, err = serve.NewLinks(secret)
	return a, err
}

func openDatabase(ctx context.Context, path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	_, err = db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS documents (id INTEGER PRIMARY KEY, encrypted_kms_key TEXT, note_ciphertext TEXT)`)
	return db, err
}

// openKey makes the key of a version, unless records of that version exist: then a
// key file that is missing is an error.
func (a *app) openKey(ctx context.Context, path string, version int) (*local.Provider, error) {
	return local.OpenOrCreate(path, func() (inUse bool, err error) {
		err = a.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM documents WHERE encrypted_kms_key LIKE ?)`, fmt.Sprintf("v%d:%%", version)).Scan(&inUse)
		return inUse, err
	})
}

func (a *app) Close() error {
	var errs []error
	if a.disk != nil {
		errs = append(errs, a.disk.Close())
	}
	if a.db != nil {
		errs = append(errs, a.db.Close())
	}
	return errors.Join(errs...)
}

// operations is the command line for whoever runs the application.
func (a *app) operations(out, progress io.Writer) rotatecli.Program {
	return rotatecli.Program{
		Name: "files", Stdout: out, Stderr: progress,
		Open: func(context.Context) (*rotatecli.Database, error) {
			documents := rotatecli.With(a.model, sqlstore.Options{Dependents: []field.Dependents{a.files}})
			return &rotatecli.Database{DB: a.db, Dialect: field.SQLite, Models: []field.AnyModel{documents}}, nil
		},
	}
}

// item is a document with its file.
type item struct {
	Document
	File *attach.Attachment
}

// list returns all documents, the newest first, with their notes open.
func (a *app) list(ctx context.Context) ([]item, error) {
	rows, err := a.db.QueryContext(ctx, `SELECT id, encrypted_kms_key, note_ciphertext FROM documents`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []item
	for rows.Next() {
		var i item
		if err := rows.Scan(&i.ID, &i.Key, &i.Note); err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	documents := make([]*Document, len(items))
	for i := range items {
		documents[i] = &items[i].Document
		if items[i].File, err = a.files.Get(ctx, documents[i], "file"); err != nil {
			return nil, err
		}
	}
	if err := a.model.Open(ctx, documents...); err != nil {
		return nil, err
	}
	slices.SortFunc(items, func(a, b item) int { return b.File.Created.Compare(a.File.Created) })
	return items, nil
}

// add streams a file into a new document. Whatever fails, there is either both or
// nothing.
func (a *app) add(ctx context.Context, note string, file io.Reader, o attach.Options) error {
	d := &Document{ID: mathrand.Int64N(1 << 53), Note: field.New(note)}
	pending, err := a.files.Upload(ctx, d, "file", file, o)
	if err != nil {
		return err
	}
	err = a.transaction(ctx, func(tx *sql.Tx) error {
		if err := a.model.SealNew(ctx, d); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO documents (id, encrypted_kms_key, note_ciphertext) VALUES (?, ?, ?)`, d.ID, d.Key, d.Note)
		if err != nil {
			return err
		}
		_, err = pending.Commit(ctx, tx)
		return err
	})
	if err != nil {
		return errors.Join(err, pending.Discard(ctx))
	}
	return nil
}

// remove deletes a document and its file.
func (a *app) remove(ctx context.Context, id int64) error {
	return a.transaction(ctx, func(tx *sql.Tx) error {
		if err := a.files.DeleteAll(ctx, tx, &Document{ID: id}); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM documents WHERE id = ?`, id)
		return err
	})
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
