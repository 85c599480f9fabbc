package attach

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// Identified is a [Bucket] that knows which store it is. [Dir], [S3EC] and the buckets of
// package files/gocloud are. The table kms_attachment_stores remembers the store of
// each name at its first use. Afterwards another store under that name is
// [kmsencrypted.ErrConfig], before a file is uploaded or an object deleted. So two
// programs that call different stores by one name cannot take objects off the list
// that they do not have. An object that is not found in another store is [ErrStore].
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
	known, err := i.knownStore(ctx, bucket)
	if errors.Is(err, sql.ErrNoRows) {
		_, inserted := i.exec(ctx, i.db, "INSERT INTO kms_attachment_stores (bucket, identity) VALUES (?, ?)", bucket, is)
		if known, err = i.knownStore(ctx, bucket); err != nil { // another process may have been faster
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

// missing returns the error for an object that a bucket does not have: err, or [ErrStore] if
// the bucket is not the store that this database knows by its name.
func (i intents) missing(ctx context.Context, bucket string, err error) error {
	store, ok := i.buckets[bucket].(Identified)
	if !ok || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known, unknown := i.knownStore(ctx, bucket)
	if unknown != nil {
		return err // never used under this name, or tables of an older release
	}
	if is, failed := store.Identity(ctx); is != known {
		return fmt.Errorf("%w: %v", ErrStore, errors.Join(err, failed))
	}
	return err
}

// knownStore returns the identity that the database has for a bucket.
func (i intents) knownStore(ctx context.Context, bucket string) (identity string, err error) {
	err = i.db.QueryRowContext(ctx, i.dialect.SQL("SELECT identity FROM kms_attachment_stores WHERE bucket = ?"), bucket).Scan(&identity)
	return identity, err
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
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(mark) == 0 {
		if err := d.mark(); err != nil {
			return "", err
		}
		mark, err = d.root.ReadFile(markName)
	}
	// Of several lines, the first one is the identity: see appendMark.
	line, _, _ := strings.Cut(string(mark), "\n")
	if line = strings.TrimSpace(line); err == nil && line == "" {
		err = fmt.Errorf("attach: %s: %w", markName, kmsencrypted.ErrMalformed)
	}
	return line, err
}

// mark writes the file in one step, unless another process is faster.
func (d *Dir) mark() (err error) {
	part := markName + "." + strings.ToLower(rand.Text())
	if err := d.appendMark(part); err != nil {
		return errors.Join(err, removed(d.root.Remove(part)))
	}
	if err = d.root.Link(part, markName); err != nil {
		// Either there is a mark by now, perhaps an empty one of a machine that crashed, or
		// the file system has no links.
		err = d.appendMark(markName)
	}
	return errors.Join(err, d.root.Remove(part), d.sync("."))
}

// appendMark appends a line with a new identity to a file that is empty or does not exist.
// If several processes do so at once, the first line counts, and it never changes.
func (d *Dir) appendMark(name string) error {
	file, err := d.root.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if info, stat := file.Stat(); stat != nil || info.Size() == 0 {
		_, err = io.WriteString(file, strings.ToLower(rand.Text())+"\n")
	}
	return errors.Join(err, file.Sync(), file.Close())
}
