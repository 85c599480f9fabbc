package attach

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
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
// it again; the returned error joins all errors. A bucket that is another store than
// the one that the database knows by its name is [kmsencrypted.ErrConfig], and nothing
// of it is deleted: see [Identified].
func (m *Manager[R]) Sweep(ctx context.Context) (Swept, error) {
	if err := m.usable(); err != nil {
		return Swept{}, err
	}
	return m.sweep(ctx)
}

func (i intents) sweep(ctx context.Context) (s Swept, err error) {
	// Make the decision durable before deleting anything: a later Commit then finds
	// its object doomed.
	err = i.again(ctx, func() error {
		result, err := i.db.ExecContext(ctx, i.dialect.SQL("UPDATE kms_attachment_objects SET state = '"+doomed+"', until = {now} + ? WHERE state = '"+pending+"' AND until < {now}"), i.grace.Milliseconds())
		if err == nil {
			s.GivenUp, err = result.RowsAffected()
		}
		return err
	})
	if err != nil {
		return s, fmt.Errorf("attach: sweep: %w", err)
	}
	inParts, err := i.sweepParts(ctx)
	if s.GivenUp += inParts; err != nil {
		return s, fmt.Errorf("attach: sweep: %w", err)
	}
	var failures []error
	for bucket := range i.buckets {
		err := i.identify(ctx, bucket)
		if err == nil {
			failures = append(failures, i.abortParts(ctx, bucket))
			var deleted int64
			deleted, err = i.sweepBucket(ctx, bucket)
			s.Deleted += deleted
		}
		failures = append(failures, err)
	}
	return s, errors.Join(failures...)
}

func (i intents) sweepBucket(ctx context.Context, bucket string) (deleted int64, err error) {
	var failures []error
	for after := ""; ; {
		list, err := i.listedAfter(ctx, bucket, doomed, after)
		if err != nil {
			return deleted, errors.Join(append(failures, fmt.Errorf("attach: sweep: %w", err))...)
		}
		if len(list) == 0 {
			return deleted, errors.Join(failures...)
		}
		after = list[len(list)-1]
		n, err := i.deleteObjects(ctx, bucket, list)
		deleted += n
		if err != nil {
			failures = append(failures, err)
		}
	}
}

// listedAfter returns some objects in a state whose time is over, ordered by name.
func (i intents) listedAfter(ctx context.Context, bucket, state, after string) (list []string, err error) {
	rows, err := i.db.QueryContext(ctx, i.dialect.SQL("SELECT object FROM kms_attachment_objects WHERE state = ? AND until <= {now} AND bucket = ? AND object > ? ORDER BY object LIMIT 500"), state, bucket, after)
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

// deleteObjects deletes doomed objects and then removes them from the list. An object
// that a row refers to after all, as after a backup was restored, is only removed
// from the list. It returns the number of objects that are done.
func (i intents) deleteObjects(ctx context.Context, bucket string, list []string) (done int64, err error) {
	referenced, err := i.referenced(ctx, bucket, list)
	if err != nil {
		return 0, fmt.Errorf("attach: objects of bucket %s: %w", bucket, err)
	}
	errs := i.deleteAllFrom(ctx, bucket, list, referenced)
	var gone []any
	var failures []error
	for n, object := range list {
		if errs[n] == nil {
			gone = append(gone, object)
		} else {
			failures = append(failures, fmt.Errorf("attach: delete object %s of bucket %s: %w", object, bucket, errs[n]))
		}
	}
	if len(gone) > 0 {
		err = i.again(ctx, func() error {
			_, err := i.exec(ctx, i.db, "DELETE FROM kms_attachment_objects WHERE bucket = ? AND state = '"+doomed+"' AND object IN "+marks(len(gone)), append([]any{bucket}, gone...)...)
			return err
		})
		if err != nil {
			return 0, errors.Join(append(failures, fmt.Errorf("attach: objects of bucket %s: %w", bucket, err))...)
		}
	}
	return int64(len(gone)), errors.Join(failures...)
}

// referenced returns those objects that a row names.
func (i intents) referenced(ctx context.Context, bucket string, list []string) (map[string]bool, error) {
	return i.chosen(ctx, i.references, bucket, list)
}

// chosen returns those objects that a query finds, which ends with IN.
func (i intents) chosen(ctx context.Context, query, bucket string, list []string) (map[string]bool, error) {
	args := []any{bucket}
	for _, object := range list {
		args = append(args, object)
	}
	rows, err := i.db.QueryContext(ctx, i.dialect.SQL(query+marks(len(list))), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	named := make(map[string]bool)
	for rows.Next() {
		var object string
		if err := rows.Scan(&object); err != nil {
			return nil, err
		}
		named[object] = true
	}
	return named, rows.Err()
}

// deleters is the number of objects that are deleted at once: a store at a distance
// takes a while for each.
const deleters = 8

// deleteAllFrom deletes objects but those that are kept, and returns an error or nil
// for each.
func (i intents) deleteAllFrom(ctx context.Context, bucket string, list []string, kept map[string]bool) []error {
	errs := make([]error, len(list))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(deleters, len(list)) {
		workers.Go(func() {
			for n := next.Add(1) - 1; n < int64(len(list)); n = next.Add(1) - 1 {
				if !kept[list[n]] {
					errs[n] = i.deleteFrom(ctx, bucket, list[n])
				}
			}
		})
	}
	workers.Wait()
	return errs
}

// deleteFrom deletes an object and its sidecar, if it has one.
func (i intents) deleteFrom(ctx context.Context, bucket, object string) (err error) {
	for _, name := range []string{object, object + SidecarSuffix} {
		for range tries { // deleting twice does no harm
			if err = i.buckets[bucket].Delete(ctx, name); err == nil || ctx.Err() != nil {
				break
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// again repeats a statement outside a transaction after a deadlock, in which the
// database wrote nothing of it.
func (i intents) again(ctx context.Context, statement func() error) error {
	const most = 10
	for try := 1; ; try++ {
		err := statement()
		if err == nil || !sqldialect.Transient(err) || try == most || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Duration(try) * 5 * time.Millisecond)
	}
}

// marks returns the list of n placeholders of a condition IN.
func marks(n int) string { return "(?" + strings.Repeat(", ?", n-1) + ")" }
