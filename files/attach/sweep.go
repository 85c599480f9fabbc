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
// killed at any point. It deals with all tables in the database and all buckets of
// this manager. An object that cannot be deleted does not hold up the others and
// is met again by the next sweep; the error tells of all.
func (m *Manager[R]) Sweep(ctx context.Context) (s Swept, err error) {
	// The decision is durable before anything is deleted: a Commit that comes later
	// finds its object listed otherwise.
	result, err := m.db.ExecContext(ctx, m.sql("UPDATE kms_attachment_objects SET state = '"+doomed+"', until = {now} + ? WHERE state = '"+pending+"' AND until < {now}"), m.grace.Milliseconds())
	if err != nil {
		return s, fmt.Errorf("attach: sweep: %w", err)
	}
	if s.GivenUp, err = result.RowsAffected(); err != nil {
		return s, fmt.Errorf("attach: sweep: %w", err)
	}
	var failures []error
	bucket, object := "", ""
	for {
		list, err := m.doomedAfter(ctx, bucket, object)
		if err != nil {
			return s, errors.Join(append(failures, fmt.Errorf("attach: sweep: %w", err))...)
		}
		if len(list) == 0 {
			return s, errors.Join(failures...)
		}
		for _, o := range list {
			bucket, object = o[0], o[1]
			if err := m.deleteObject(ctx, bucket, object); err != nil {
				failures = append(failures, err)
				continue
			}
			s.Deleted++
		}
	}
}

// doomedAfter lists some objects whose time has come, in the order of their names.
func (m *Manager[R]) doomedAfter(ctx context.Context, bucket, object string) (list [][2]string, err error) {
	rows, err := m.db.QueryContext(ctx, m.sql(`SELECT bucket, object FROM kms_attachment_objects
		WHERE state = '`+doomed+`' AND until <= {now} AND (bucket > ? OR bucket = ? AND object > ?) ORDER BY bucket, object LIMIT 100`), bucket, bucket, object)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var o [2]string
		if err := rows.Scan(&o[0], &o[1]); err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, rows.Err()
}

// deleteObject deletes a doomed object and then takes it from the list. One that a
// row refers to all the same, as after a backup was restored, is only taken from
// the list.
func (m *Manager[R]) deleteObject(ctx context.Context, bucket, object string) error {
	var rows int
	err := m.db.QueryRowContext(ctx, m.sql("SELECT count(*) FROM kms_attachments WHERE bucket = ? AND object = ?"), bucket, object).Scan(&rows)
	if err == nil && rows == 0 {
		err = m.deleteFrom(ctx, bucket, object)
	}
	if err == nil {
		_, err = m.exec(ctx, m.db, "DELETE FROM kms_attachment_objects WHERE bucket = ? AND object = ? AND state = '"+doomed+"'", bucket, object)
	}
	if err != nil {
		return fmt.Errorf("attach: delete object %s of bucket %s: %w", object, bucket, err)
	}
	return nil
}

func (m *Manager[R]) deleteFrom(ctx context.Context, bucket, object string) (err error) {
	b := m.config.Buckets[bucket]
	if b == nil {
		return configError("no bucket %q", bucket)
	}
	for range tries { // deleting twice does no harm
		if err = b.Delete(ctx, object); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}
