package attach

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// The table kms_attachment_objects lists every object that may have to be deleted:
//
//	pending  being uploaded, or uploaded and not attached yet, until a time that the
//	         uploader keeps extending (the lease)
//	doomed   referenced by no row; deleted after a time (the grace period)
//
// An object is listed before its first byte is written. The transaction that
// attaches it removes it, the transaction that detaches it lists it again. So every
// object is either referenced by a row or listed, and no referenced object is
// deleted.
const (
	pending = "pending"
	doomed  = "doomed"
)

// intents accesses that table, and the buckets that hold the objects.
type intents struct {
	dialect      field.Dialect
	db           *sql.DB
	buckets      map[string]Bucket
	lease, grace time.Duration
	references   string // selects those of a list of objects that a row names
}

// store writes a new object. It lists the object first, and gives it up if anything
// fails. done counts the bytes written.
func (i intents) store(ctx context.Context, bucket, object string, done *atomic.Int64, write func(ctx context.Context, w io.Writer) error) (err error) {
	if err := i.identify(ctx, bucket); err != nil {
		return err
	}
	if err := i.begin(ctx, bucket, object); err != nil {
		return fmt.Errorf("attach: list an object: %w", err)
	}
	err = errInterrupted // if write panics
	defer func() {
		if err != nil {
			i.discard(ctx, bucket, object)
		}
	}()
	held, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go i.keep(held, cancel, bucket, object, done)
	once := &onlyOnce{write: write}
	err = once.judge(i.buckets[bucket].Put(held, object, func(w io.Writer) error { return once.call(held, w) }))
	if cause := context.Cause(held); err != nil && errors.Is(cause, ErrAbandoned) {
		return cause
	}
	if err != nil {
		return err
	}
	// If this process was stopped for longer than the lease, the sweeper may already
	// be looking for the object, so it must not stay.
	return i.extend(ctx, i.db, bucket, object)
}

// onlyOnce lets a bucket call write once. A source cannot be read again: the object of a
// second call would be empty, and the store would say that all is well.
type onlyOnce struct {
	write func(ctx context.Context, w io.Writer) error
	calls int
	err   error // of the first call
}

var errWrites = errors.New("attach: the bucket's Put must call write once, and return its error")

func (o *onlyOnce) call(ctx context.Context, w io.Writer) error {
	if o.calls++; o.calls > 1 {
		return errWrites
	}
	o.err = errInterrupted // if write panics
	o.err = o.write(ctx, w)
	return o.err
}

// judge returns the error of Put, or one if Put says that all is well and it is not.
func (o *onlyOnce) judge(err error) error {
	if err == nil && (o.calls != 1 || o.err != nil) {
		return errors.Join(errWrites, o.err)
	}
	return err
}

// discardPending is discard for an object that may have been attached meanwhile, and
// deleted again: then the grace period holds.
func (i intents) discardPending(ctx context.Context, bucket, object string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if pending, err := i.giveUp(ctx, bucket, object); err != nil || !pending {
		return err
	}
	return i.deleteNow(ctx, bucket, object)
}

// discard deletes an object that was never attached: now if that works, otherwise the
// next sweep does. It does so also if a sweeper has given the object up, because that one
// may have looked for it before it was there.
func (i intents) discard(ctx context.Context, bucket, object string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if _, err := i.giveUp(ctx, bucket, object); err != nil {
		return err
	}
	return i.deleteNow(ctx, bucket, object)
}

// deleteNow deletes a doomed object. In another store than the one that has it nothing is
// found and nothing wrong: the object stays on the list.
func (i intents) deleteNow(ctx context.Context, bucket, object string) error {
	if err := i.identify(ctx, bucket); err != nil {
		return err
	}
	_, err := i.deleteObjects(ctx, bucket, []string{object})
	return err
}

// begin lists an object before it is written.
func (i intents) begin(ctx context.Context, bucket, object string) error {
	_, err := i.exec(ctx, i.db, "INSERT INTO kms_attachment_objects (bucket, object, state, until) VALUES (?, ?, '"+pending+"', {now} + ?)",
		bucket, object, i.lease.Milliseconds())
	return err
}

// extend extends the lease. It returns [ErrAbandoned] if the object is not pending
// any more.
func (i intents) extend(ctx context.Context, tx Tx, bucket, object string) error {
	// The row changes even if the clock stands still, because MariaDB counts changed
	// rows.
	held, err := i.exec(ctx, tx, "UPDATE kms_attachment_objects SET until = CASE WHEN until >= {now} + ? THEN until + 1 ELSE {now} + ? END WHERE bucket = ? AND object = ? AND state = '"+pending+"'",
		i.lease.Milliseconds(), i.lease.Milliseconds(), bucket, object)
	if err == nil && !held {
		err = ErrAbandoned
	}
	return err
}

// settle removes an object from the list because a row refers to it now.
func (i intents) settle(ctx context.Context, tx Tx, bucket, object string) error {
	held, err := i.exec(ctx, tx, "DELETE FROM kms_attachment_objects WHERE bucket = ? AND object = ? AND state = '"+pending+"'", bucket, object)
	if err == nil && !held {
		err = ErrAbandoned
	}
	return err
}

// doom lists an object that no row refers to any more.
func (i intents) doom(ctx context.Context, tx Tx, bucket, object string) error {
	_, err := i.exec(ctx, tx, "INSERT INTO kms_attachment_objects (bucket, object, state, until) VALUES (?, ?, '"+doomed+"', {now} + ?)",
		bucket, object, i.grace.Milliseconds())
	return err
}

// giveUp dooms an unattached object at once, and reports whether it was one.
func (i intents) giveUp(ctx context.Context, bucket, object string) (bool, error) {
	return i.exec(ctx, i.db, "UPDATE kms_attachment_objects SET state = '"+doomed+"', until = {now} - 1 WHERE bucket = ? AND object = ? AND state = '"+pending+"'", bucket, object)
}

// keep extends the lease of an upload while done grows. When the lease is lost, it
// cancels the upload.
func (i intents) keep(ctx context.Context, cancel context.CancelCauseFunc, bucket, object string, done *atomic.Int64) {
	beat := time.NewTicker(max(i.lease/3, time.Millisecond))
	defer beat.Stop()
	for before := int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		now := done.Load()
		if now == before {
			continue // the client stalls
		}
		before = now
		// An error of the database says nothing about the lease.
		if err := i.extend(ctx, i.db, bucket, object); err == ErrAbandoned {
			cancel(err)
			return
		}
	}
}
