package attach

import (
	"context"
	"errors"
	"fmt"
)

// Swept counts what a sweep did.
type Swept struct {
	GivenUp int64 // uploads whose lease ended; their objects are deleted after the grace period
	Deleted int64 // objects deleted
}

// Sweep deletes the objects that nothing refers to: those of abandoned uploads and
// of files that were deleted, replaced or re-encrypted, each after [Config.Grace].
// Call it now and then, from any number of processes. It may be killed at any
// point. It handles the objects of all tables in the buckets of this manager. An
// object that cannot be deleted does not stop the others, and the next sweep tries
// it again; the returned error joins all errors.
func (m *Manager[R]) Sweep(ctx context.Context) (Swept, error) {
	if err := m.usable(); err != nil {
		return Swept{}, err
	}
	return m.sweep(ctx)
}

func (i intents) sweep(ctx context.Context) (s Swept, err error) {
	// Make the decision durable before deleting anything: a later Commit then finds
	// its object doomed.
	result, err := i.db.ExecContext(ctx, i.dialect.SQL("UPDATE kms_attachment_objects SET state = '"+doomed+"', until = {now} + ? WHERE state = '"+pending+"' AND until < {now}"), i.grace.Milliseconds())
	if err != nil {
		return s, fmt.Errorf("attach: sweep: %w", err)
	}
	if s.GivenUp, err = result.RowsAffected(); err != nil {
		return s, fmt.Errorf("attach: sweep: %w", err)
	}
	var failures []error
	for bucket := range i.buckets {
		deleted, err := i.sweepBucket(ctx, bucket)
		s.Deleted += deleted
		failures = append(failures, err)
	}
	return s, errors.Join(failures...)
}

func (i intents) sweepBucket(ctx context.Context, bucket string) (deleted int64, err error) {
	var failures []error
	for after := ""; ; {
		list, err := i.doomedAfter(ctx, bucket, after)
		if err != nil {
			return deleted, errors.Join(append(failures, fmt.Errorf("attach: sweep: %w", err))...)
		}
		if len(list) == 0 {
			return deleted, errors.Join(failures...)
		}
		for _, object := range list {
			after = object
			if err := i.deleteObject(ctx, bucket, object); err != nil {
				failures = append(failures, err)
				continue
			}
			deleted++
		}
	}
}

// doomedAfter returns some objects whose grace period is over, ordered by name.
func (i intents) doomedAfter(ctx context.Context, bucket, after string) (list []string, err error) {
	rows, err := i.db.QueryContext(ctx, i.dialect.SQL("SELECT object FROM kms_attachment_objects WHERE state = '"+doomed+"' AND until <= {now} AND bucket = ? AND object > ? ORDER BY object LIMIT 100"), bucket, after)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var object string
		if err := rows.Scan(&object); err != nil {
			return nil, err
		}
		list = append(list, object)
	}
	return list, rows.Err()
}

// deleteObject deletes a doomed object and then removes it from the list. An object
// that a row refers to after all, as after a backup was restored, is only removed
// from the list.
func (i intents) deleteObject(ctx context.Context, bucket, object string) error {
	var rows int
	err := i.db.QueryRowContext(ctx, i.dialect.SQL(i.references), bucket, object).Scan(&rows)
	if err == nil && rows == 0 {
		err = i.deleteFrom(ctx, bucket, object)
	}
	if err == nil {
		_, err = i.exec(ctx, i.db, "DELETE FROM kms_attachment_objects WHERE bucket = ? AND object = ? AND state = '"+doomed+"'", bucket, object)
	}
	if err != nil {
		return fmt.Errorf("attach: delete object %s of bucket %s: %w", object, bucket, err)
	}
	return nil
}

func (i intents) deleteFrom(ctx context.Context, bucket, object string) (err error) {
	for range tries { // deleting twice does no harm
		if err = i.buckets[bucket].Delete(ctx, object); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}
