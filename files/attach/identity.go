package attach

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// Identified is a [Bucket] that knows which store it is. [Dir] and the buckets of
// package files/gocloud are. The table kms_attachment_stores remembers the store of
// each name at its first use. Afterwards another store under that name is
// [kmsencrypted.ErrConfig], before a file is uploaded or an object deleted. So two
// programs that call different stores by one name cannot take objects off the list
// that they do not have.
type Identified interface {
	// Identity returns a text of at most 190 letters and digits that no other store
	// has. It stays the same, also when the store is copied or opened by another
	// process.
	Identity(ctx context.Context) (string, error)
}

// identify returns [kmsencrypted.ErrConfig] if a bucket is another store than the one
// that this database knows by its name.
func (i intents) identify(ctx context.Context, bucket string) error {
	store, ok := i.buckets[bucket].(Identified)
	if !ok {
		return nil
	}
	is, err := store.Identity(ctx)
	if err != nil {
		return fmt.Errorf("attach: identity of bucket %s: %w", bucket, err)
	}
	var known string
	read := func() error {
		return i.db.QueryRowContext(ctx, i.dialect.SQL("SELECT identity FROM kms_attachment_stores WHERE bucket = ?"), bucket).Scan(&known)
	}
	err = read()
	if errors.Is(err, sql.ErrNoRows) {
		_, inserted := i.exec(ctx, i.db, "INSERT INTO kms_attachment_stores (bucket, identity) VALUES (?, ?)", bucket, is)
		if err = read(); err != nil { // another process may have been faster
			err = errors.Join(inserted, err)
		}
	}
	if err != nil {
		return fmt.Errorf("attach: identity of bucket %s: %w", bucket, err)
	}
	if known != is {
		return configError("bucket %q is another store than the one that table kms_attachment_stores has for this name; if you moved it without its mark, delete that row", bucket)
	}
	return nil
}

// markName is the name of the file in a folder that holds its identity.
const markName = ".kms-store"

// Identity implements [Identified]. It is in the file ".kms-store" of the folder: copy
// it with the folder.
func (d *Dir) Identity(ctx context.Context) (string, error) {
	if err := d.usable(); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	mark, err := d.root.ReadFile(markName)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.mark(); err != nil {
			return "", err
		}
		mark, err = d.root.ReadFile(markName)
	}
	if err == nil && len(mark) == 0 {
		err = fmt.Errorf("attach: %s: %w", markName, kmsencrypted.ErrMalformed)
	}
	return strings.TrimSpace(string(mark)), err
}

// mark writes the file in one step, unless another process is faster.
func (d *Dir) mark() (err error) {
	part := markName + "." + strings.ToLower(rand.Text())
	file, err := d.root.OpenFile(part, createNew, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, strings.ToLower(rand.Text()))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		if err = d.root.Link(part, markName); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	return errors.Join(err, d.root.Remove(part), d.sync("."))
}
