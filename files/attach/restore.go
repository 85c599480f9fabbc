package attach

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// Restored counts the files that [Manager.Restore] found, by what became of each.
type Restored struct {
	Files   int64 // got a row
	Present int64 // had one already
	// NoRecord counts the files whose record does not exist. Restore the records first,
	// with the same primary keys, and call Restore again.
	NoRecord int64
	// Superseded counts the files that a later one of the same ID, or of the same name
	// in [Config.One], replaced, and files derived from them. Their objects stay where
	// they are.
	Superseded int64
	// OtherKey counts the files whose record has another data key than the one for which
	// the recovery wrap was made, or whose recovery wrap does not say: it may be another
	// record, to which somebody gave the primary key of a deleted one. See
	// [RestoreOptions.NewKeys].
	OtherKey int64
	// Unattached counts the files that the database knows not to be attached: uploads
	// under way or given up, and deleted files.
	Unattached int64
	// NoSidecar counts the objects in the buckets that have no sidecar, no row and no place
	// in the list of objects: files from before [Config.Recovery] was set, whose keys are
	// lost with the database, and what others put there.
	NoSidecar int64
	Failed    int64
}

// RestoreOptions are optional.
type RestoreOptions struct {
	// NewKeys also restores the files that [Restored.OtherKey] counts. Set it if the
	// records were made anew, or if they were rekeyed since [Manager.WrapRecovery] ran for
	// the last time, and only if no primary key of a deleted record was given to another.
	NewKeys bool
	// Each, if not nil, is called for each file of the table when it is decided, with
	// the outcome: "restored", "present", "no record", "other key", "superseded",
	// "unattached", "no sidecar" or "failed". err is not nil if it failed; f is nil if its
	// sidecar does not open. Without a sidecar f has the bucket and the object only.
	Each func(f *Recoverable, outcome string, err error)
}

// Restore makes the rows of files from their sidecars, after the database was lost or an
// older backup of it was restored. It looks into all buckets of the manager, which must
// be [Lister]s. It restores the files of records that exist, each in a transaction of its
// own that locks the record, and wraps the file key under the record's data key. A record
// gets a file only if it has the data key for which the recovery wrap was made, or any or
// none under [RestoreOptions.NewKeys]: else the file of a deleted record would come back
// for the next one with its primary key. A row is written only if the object opens under
// the file key.
// Restore changes no object. It may be interrupted and called again, and does nothing in
// a database that is complete.
//
// The sidecars do not say which files were deleted, or uploaded and never committed.
// Such a file comes back if it was not swept before the database was lost: one of the
// last [Config.Grace] and [Config.Lease].
//
// A file that fails does not stop the others; the returned error joins all errors. A bucket
// that is another store than the one that the database knows by its name is [ErrStore], and
// nothing is restored. The process needs permission to decrypt under [Config.Recovery].
func (m *Manager[R]) Restore(ctx context.Context, o RestoreOptions) (Restored, error) {
	if err := m.usable(); err != nil {
		return Restored{}, err
	}
	if m.config.Recovery == nil {
		return Restored{}, configError("no Config.Recovery")
	}
	for name := range m.config.Buckets {
		if err := m.missing(ctx, name, fs.ErrNotExist); errors.Is(err, ErrStore) {
			return Restored{}, fmt.Errorf("attach: bucket %s: %w", name, ErrStore)
		}
	}
	r := restoring[R]{m: m, options: o}
	// Originals first: a derived file is bound to the file that it was derived from.
	var derived []place
	for f, err := range m.recoverable(ctx) {
		if f != nil && f.Attachment.Parent != "" {
			derived = append(derived, place{f.Attachment.Bucket, f.Attachment.Object})
			f.wipe()
			continue
		}
		r.one(ctx, f, err)
	}
	for _, p := range derived {
		f, err := m.config.Recovery.find(ctx, p.bucket, m.config.Buckets[p.bucket], p.object+SidecarSuffix)
		r.one(ctx, f, err)
	}
	for name, bucket := range m.config.Buckets {
		if err := r.withoutSidecar(ctx, name, bucket); err != nil {
			r.failures = append(r.failures, fmt.Errorf("attach: objects of bucket %s: %w", name, err))
		}
	}
	return r.result, errors.Join(append(r.failures, ctx.Err())...)
}

// withoutSidecar counts the objects of a bucket that nothing explains.
func (r *restoring[R]) withoutSidecar(ctx context.Context, name string, bucket Bucket) error {
	lister, ok := bucket.(Lister)
	if !ok {
		return nil // said already
	}
	alone := make(map[string]bool) // objects without a sidecar yet, and true for sidecars without an object
	for object, err := range lister.List(ctx) {
		if err != nil {
			return err
		}
		of, sidecar := objectOf(object)
		if !sidecar {
			of = object
		}
		if other, seen := alone[of]; seen && other != sidecar {
			delete(alone, of)
		} else {
			alone[of] = sidecar
		}
	}
	maps.DeleteFunc(alone, func(_ string, sidecar bool) bool { return sidecar })
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(alone)), bulk) {
		// The list first: Commit moves an object from the list to a row.
		listed, err := r.m.chosen(ctx, "SELECT object FROM kms_attachment_objects WHERE bucket = ? AND object IN ", name, chunk)
		if err != nil {
			return err
		}
		named, err := r.m.referenced(ctx, name, chunk)
		if err != nil {
			return err
		}
		for _, object := range chunk {
			if !listed[object] && !named[object] {
				r.count(&Recoverable{Attachment: Attachment{Bucket: name, Object: object}}, noSidecar, nil)
			}
		}
	}
	return nil
}

// place is where an object is.
type place struct{ bucket, object string }

// recoverable returns the files of the table in all buckets.
func (m *Manager[R]) recoverable(ctx context.Context) iter.Seq2[*Recoverable, error] {
	return func(yield func(*Recoverable, error) bool) {
		for name, bucket := range m.config.Buckets {
			for f, err := range m.config.Recovery.Files(ctx, name, bucket) {
				if err == nil && (f.Attachment.Table != m.model.BoundTable() || m.isElsewhere(&f.Attachment)) {
					f.wipe()
					continue
				}
				if !yield(f, err) {
					return
				}
			}
		}
	}
}

// restoring is a call of Restore.
type restoring[R any] struct {
	m        *Manager[R]
	options  RestoreOptions
	result   Restored
	failures []error
}

// one restores a file, which err says could not be opened, and counts it.
func (r *restoring[R]) one(ctx context.Context, f *Recoverable, err error) {
	outcome := failed
	if err == nil {
		defer f.wipe()
		if outcome, err = r.m.restore(ctx, f, r.options.NewKeys); err != nil {
			outcome, err = failed, f.Attachment.failed("restore", err)
		}
	}
	r.count(f, outcome, err)
}

func (r *restoring[R]) count(f *Recoverable, outcome string, err error) {
	if err != nil {
		r.failures = append(r.failures, err)
	}
	*map[string]*int64{
		restored: &r.result.Files, present: &r.result.Present, noRecord: &r.result.NoRecord,
		otherKey: &r.result.OtherKey, superseded: &r.result.Superseded, unattached: &r.result.Unattached, noSidecar: &r.result.NoSidecar, failed: &r.result.Failed,
	}[outcome]++
	if r.options.Each != nil {
		r.options.Each(f, outcome, err)
	}
}

// The outcomes.
const (
	restored   = "restored"
	present    = "present"
	noRecord   = "no record"
	otherKey   = "other key"
	superseded = "superseded"
	unattached = "unattached"
	noSidecar  = "no sidecar"
	failed     = "failed"
)

// restore makes the row of a file.
func (m *Manager[R]) restore(ctx context.Context, f *Recoverable, newKeys bool) (outcome string, err error) {
	err = m.transaction(ctx, func(tx Tx) error {
		outcome, err = m.restoreIn(ctx, tx, f, newKeys)
		return err
	})
	return outcome, err
}

func (m *Manager[R]) restoreIn(ctx context.Context, tx Tx, f *Recoverable, newKeys bool) (outcome string, err error) {
	a := f.card.a
	// Write first, without changing anything: SQLite takes its lock on a write. The list
	// comes before the row, because Commit removes an object from the list.
	if _, err := m.exec(ctx, tx, "UPDATE kms_attachment_objects SET until = until WHERE bucket = ? AND object = ?", a.Bucket, a.Object); err != nil {
		return "", err
	}
	if listed, err := m.listed(ctx, tx, &a); err != nil || listed {
		return unattached, err
	}
	now, err := m.load(ctx, tx, a.RecordID, m.dialect.Lock())
	if errors.Is(err, sql.ErrNoRows) {
		return noRecord, nil
	}
	if err != nil {
		return "", err
	}
	rivals, err := m.rivals(ctx, tx, &a)
	if err != nil {
		return "", err
	}
	for _, rival := range rivals {
		if rival.Bucket == a.Bucket && rival.Object == a.Object {
			return present, nil
		}
		if later, err := m.replaced(ctx, rival, f); err != nil || !later {
			return superseded, err
		}
	}
	if !newKeys {
		if owns, err := m.owns(ctx, now, kmsencrypted.DataKey{}, f.card.record); err != nil || !owns {
			return otherKey, err
		}
	}
	if err := m.readParents(ctx, tx, "{lock}", &a); err != nil {
		return "", err
	}
	if a.Parent != "" && (a.parent.IsZero() || a.parentCreated != f.card.a.parentCreated) {
		return superseded, nil // derived from a file that was replaced or is not there
	}
	if err := errors.Join(m.forget(ctx, tx, rivals), m.unlist(ctx, tx, &a)); err != nil {
		return "", err
	}
	return restored, m.insertRestored(ctx, tx, now, f, &a)
}

// listed reports whether an object is one that no row is to refer to. An upload whose lease
// is over may have been committed since the backup of the database was taken.
func (m *Manager[R]) listed(ctx context.Context, tx Tx, a *Attachment) (bool, error) {
	var n int
	err := tx.QueryRowContext(ctx, m.dialect.SQL("SELECT count(*) FROM kms_attachment_objects WHERE bucket = ? AND object = ? AND NOT (state IN ('"+pending+"', '"+inParts+"') AND until < {now})"), a.Bucket, a.Object).Scan(&n)
	return n > 0, err
}

// unlist removes from the list an upload that was committed.
func (m *Manager[R]) unlist(ctx context.Context, tx Tx, a *Attachment) error {
	const remove = "DELETE FROM kms_attachment_objects WHERE bucket = ? AND object = ? AND state = ?"
	if _, err := m.exec(ctx, tx, remove, a.Bucket, a.Object, pending); err != nil {
		return err
	}
	if was, err := m.exec(ctx, tx, remove, a.Bucket, a.Object, inParts); err != nil || !was {
		return err
	}
	return m.forgetParts(ctx, tx, a.Bucket, a.Object)
}

// rivals returns the rows that cannot exist together with that of a.
func (m *Manager[R]) rivals(ctx context.Context, tx Tx, a *Attachment) ([]*Attachment, error) {
	condition, args := "id = ?", []any{a.ID}
	switch {
	case a.Variant != "":
		condition, args = condition+" OR parent_id = ? AND variant = ?", append(args, a.Parent, a.Variant)
	case slices.Contains(m.config.One, a.Name):
		condition, args = condition+" OR record_table = ? AND record_id = ? AND name = ? AND variant = ''", append(args, a.Table, recordID(a.RecordID), a.Name)
	}
	list, err := m.scan(ctx, tx, condition+"{lock}", args...)
	return slices.DeleteFunc(list, func(r *Attachment) bool {
		return r.ID != a.ID && r.Parent == "" && recordID(r.RecordID) != recordID(a.RecordID)
	}), err
}

// replaced reports whether f was written later than the file of a row. A row without a
// recovery wrap of its file stays.
func (m *Manager[R]) replaced(ctx context.Context, row *Attachment, f *Recoverable) (bool, error) {
	if t, err := parseRecovery(row.recovery); err != nil || t.file != row.File {
		return false, nil
	}
	c, err := m.config.Recovery.open(ctx, row.recovery)
	if err != nil {
		return false, err
	}
	c.key.Wipe()
	return c.written < f.card.written, nil
}

// forget removes rows that f replaced, and what was derived from their files. It dooms no
// object: if the wrong file was taken for the later one, nothing is lost.
func (m *Manager[R]) forget(ctx context.Context, tx Tx, rows []*Attachment) error {
	for _, a := range rows {
		for _, condition := range []string{"parent_id = ? AND record_table = ?", "id = ? AND record_table = ?"} {
			if _, err := m.exec(ctx, tx, "DELETE FROM kms_attachments WHERE "+condition, a.ID, a.Table); err != nil {
				return err
			}
		}
	}
	return nil
}

// insertRestored writes the row of a file whose object opens.
func (m *Manager[R]) insertRestored(ctx context.Context, tx Tx, row *R, f *Recoverable, a *Attachment) error {
	file, err := f.open(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the object is gone: %w", err)
	}
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	p := &Pending[R]{manager: m, row: row, a: a, key: f.card.key}
	dataKey, err := p.currentDataKey(ctx, tx, row)
	if err != nil {
		return err
	}
	defer dataKey.Wipe()
	if a.WrappedKey, err = m.wrap(ctx, row, dataKey, f.card.key, a); err != nil {
		return err
	}
	a.recovery = f.text
	return m.insert(ctx, tx, a)
}
