package attach

import (
	"context"
	"errors"
	"fmt"
)

// Swept is what a sweep did.
type Swept struct {
	GivenUp int64 // uploads whose lease is over; their objects go after the grace
	Deleted int64 // objects
}

// Sweep deletes the objects that nothing refers to: those of uploads that were
// given up, and of files that were deleted, replaced or re-encrypted, each after
// [Config.Grace]. Call it now and then, in any number of processes: it may be
// killed at any point. It deals with the objects of all tables in the buckets of
// this manager. An object that cannot be deleted does not hold up the others and
// is met again by the next sweep; the error tells of all.
func (m *Manager[R]) Sweep(ctx context.Context) (Swept, error) { return m.sweep(ctx) }

func (i intents) sweep(ctx context.Context) (s Swept, err error) {
	// The decision is durable before anything is deleted: a Commit that comes later
	// finds its object listed otherwise.
	result, err := i.db.ExecContext(ctx, i.sql("UPDATE kms_attachment_objects SET state = '"+doomed+"', until = {now} + ? WHERE state = '"+pending+"' AND until < {now}"), i.grace.Milliseconds())
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

// doomedAfter lists some objects whose time has come, in the order of their names.
func (i intents) doomedAfter(ctx context.Context, bucket, after string) (list []string, err error) {
	rows, err := i.db.QueryContext(ctx, i.sql("SELECT object FROM kms_attachment_objects WHERE state = '"+doomed+"' AND until <= {now} AND bucket = ? AND object > ? ORDER BY object LIMIT 100"), bucket, after)
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

// deleteObject deletes a doomed object and then takes it from the list. One that a
// row refers to all the same, as after a backup was restored, is only taken from
// the list.
func (i intents) deleteObject(ctx context.Context, bucket, object string) error {
	var rows int
	err := i.db.QueryRowContext(ctx, i.sql(i.references), bucket, object).Scan(&rows)
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
