package attach

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
)

// An object that is uploaded in parts has states of its own in the table
// kms_attachment_objects, which releases that do not know them leave alone:
//
//	parts     being uploaded, until the end of its lease. No URL of a part is valid longer.
//	aborting  given up. After its time the upload is aborted in the store, and the object
//	          is doomed: it may have been completed without us.
//
// An object whose parts were put together is pending, as every other.
//
// The digest of each sealed part is in kms_attachment_parts before the part is given to
// the store, or to a client that sends it there. So of each part the store has one content only.
const (
	inParts  = "parts"
	aborting = "aborting"
)

// beginParts lists an object before its upload begins in the store. sealedKey is the file
// key, encrypted.
func (i intents) beginParts(ctx context.Context, bucket, object, sealedKey string) error {
	_, err := i.exec(ctx, i.db, "INSERT INTO kms_attachment_objects (bucket, object, state, until, sealed_key) VALUES (?, ?, '"+inParts+"', {now} + ?, ?)",
		bucket, object, i.lease.Milliseconds(), sealedKey)
	if err != nil {
		err = fmt.Errorf("attach: list an object: %w", err)
	}
	return err
}

// began records what the store calls the upload.
func (i intents) began(ctx context.Context, bucket, object, upload string) error {
	held, err := i.exec(ctx, i.db, "UPDATE kms_attachment_objects SET upload_id = ? WHERE bucket = ? AND object = ? AND state = '"+inParts+"'", upload, bucket, object)
	if err == nil && !held {
		err = ErrAbandoned
	}
	return err
}

// partState is the row of an object that is uploaded in parts, or whose parts were put
// together.
type partState struct {
	state, upload, sealedKey string
}

// partState returns [ErrAbandoned] for an object that is not listed so any more.
func (i intents) partState(ctx context.Context, tx Tx, bucket, object string) (s partState, err error) {
	var upload, sealedKey sql.NullString
	err = tx.QueryRowContext(ctx, i.dialect.SQL("SELECT state, upload_id, sealed_key FROM kms_attachment_objects WHERE bucket = ? AND object = ?"), bucket, object).Scan(&s.state, &upload, &sealedKey)
	s.upload, s.sealedKey = upload.String, sealedKey.String
	if errors.Is(err, sql.ErrNoRows) || err == nil && (s.state != inParts && s.state != pending || s.sealedKey == "") {
		err = ErrAbandoned
	}
	return s, err
}

// extendParts extends the lease, and holds the row until the end of tx.
func (i intents) extendParts(ctx context.Context, tx Tx, bucket, object string) error {
	held, err := i.exec(ctx, tx, "UPDATE kms_attachment_objects SET until = CASE WHEN until >= {now} + ? THEN until + 1 ELSE {now} + ? END WHERE bucket = ? AND object = ? AND state = '"+inParts+"'",
		i.lease.Milliseconds(), i.lease.Milliseconds(), bucket, object)
	if err == nil && !held {
		err = ErrAbandoned
	}
	return err
}

// commitPart records the digest of a part, before the part goes out. It returns
// [ErrPartChanged] if there is another one.
func (i intents) commitPart(ctx context.Context, tx Tx, bucket, object string, p Part) (upload string, err error) {
	if err := i.extendParts(ctx, tx, bucket, object); err != nil {
		return "", err
	}
	s, err := i.partState(ctx, tx, bucket, object)
	if err != nil {
		return "", err
	}
	known, err := i.committedPart(ctx, tx, bucket, object, p.Number)
	switch sum := hex.EncodeToString(p.SHA256[:]); {
	case err == nil && known == "":
		_, err = i.exec(ctx, tx, "INSERT INTO kms_attachment_parts (bucket, object, part, sha256) VALUES (?, ?, ?, ?)", bucket, object, p.Number, sum)
	case err == nil && known != sum:
		err = ErrPartChanged
	}
	return s.upload, err
}

// committedPart returns the digest of a part in hex digits, or "".
func (i intents) committedPart(ctx context.Context, tx Tx, bucket, object string, n int) (sum string, err error) {
	err = tx.QueryRowContext(ctx, i.dialect.SQL("SELECT sha256 FROM kms_attachment_parts WHERE bucket = ? AND object = ? AND part = ?"), bucket, object, n).Scan(&sum)
	return sum, ignoreNoRows(err)
}

// committed returns the digests of the parts by number.
func (i intents) committed(ctx context.Context, bucket, object string) (map[int][32]byte, error) {
	rows, err := i.db.QueryContext(ctx, i.dialect.SQL("SELECT part, sha256 FROM kms_attachment_parts WHERE bucket = ? AND object = ?"), bucket, object)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	parts := make(map[int][32]byte)
	for rows.Next() {
		var n int
		var text string
		if err := rows.Scan(&n, &text); err != nil {
			return nil, err
		}
		var sum [32]byte
		if raw, err := hex.DecodeString(text); err == nil && len(raw) == len(sum) {
			sum = [32]byte(raw) // another text matches no part
		}
		parts[n] = sum
	}
	return parts, rows.Err()
}

// completed makes an object pending whose parts were put together.
func (i intents) completed(ctx context.Context, tx Tx, bucket, object string) error {
	held, err := i.exec(ctx, tx, "UPDATE kms_attachment_objects SET state = '"+pending+"', until = {now} + ? WHERE bucket = ? AND object = ? AND state = '"+inParts+"'",
		i.lease.Milliseconds(), bucket, object)
	if err == nil && !held {
		return ErrAbandoned
	}
	if err == nil {
		err = i.forgetParts(ctx, tx, bucket, object)
	}
	return err
}

func (i intents) forgetParts(ctx context.Context, tx Tx, bucket, object string) error {
	_, err := i.exec(ctx, tx, "DELETE FROM kms_attachment_parts WHERE bucket = ? AND object = ?", bucket, object)
	return err
}

// giveUpParts gives an upload up. It is aborted after the end of its lease, because URLs of
// its parts may be valid until then.
func (i intents) giveUpParts(ctx context.Context, bucket, object string) error {
	_, err := i.exec(ctx, i.db, "UPDATE kms_attachment_objects SET state = '"+aborting+"' WHERE bucket = ? AND object = ? AND state = '"+inParts+"'", bucket, object)
	return err
}

// sweepParts gives up the uploads whose lease has ended, and aborts those of a bucket
// whose time has come. Their objects are doomed then.
func (i intents) sweepParts(ctx context.Context) (givenUp int64, err error) {
	err = i.again(ctx, func() error {
		result, err := i.db.ExecContext(ctx, i.dialect.SQL("UPDATE kms_attachment_objects SET state = '"+aborting+"', until = {now} + ? WHERE state = '"+inParts+"' AND until < {now}"), i.grace.Milliseconds())
		if err == nil {
			givenUp, err = result.RowsAffected()
		}
		return err
	})
	return givenUp, err
}

// abortParts aborts the uploads of a bucket that were given up.
func (i intents) abortParts(ctx context.Context, bucket string) error {
	var failures []error
	for after := ""; ; {
		list, err := i.listedAfter(ctx, bucket, aborting, after)
		if err != nil || len(list) == 0 {
			return errors.Join(append(failures, err)...)
		}
		after = list[len(list)-1]
		for _, object := range list {
			if err := i.abort(ctx, bucket, object); err != nil {
				failures = append(failures, fmt.Errorf("attach: abort the upload of object %s of bucket %s: %w", object, bucket, err))
			}
		}
	}
}

func (i intents) abort(ctx context.Context, bucket, object string) error {
	var upload sql.NullString
	err := i.db.QueryRowContext(ctx, i.dialect.SQL("SELECT upload_id FROM kms_attachment_objects WHERE bucket = ? AND object = ?"), bucket, object).Scan(&upload)
	if err != nil {
		return ignoreNoRows(err) // another sweeper was faster
	}
	store, err := i.partBucket(bucket)
	if err == nil {
		err = store.AbortParts(ctx, object, upload.String)
	}
	if err != nil {
		return err
	}
	return i.transaction(ctx, func(tx Tx) error {
		if _, err := i.exec(ctx, tx, "UPDATE kms_attachment_objects SET state = '"+doomed+"', sealed_key = NULL WHERE bucket = ? AND object = ? AND state = '"+aborting+"'", bucket, object); err != nil {
			return err
		}
		return i.forgetParts(ctx, tx, bucket, object)
	})
}

func ignoreNoRows(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// partBucket returns [errors.ErrUnsupported] for a bucket that takes no parts.
func (i intents) partBucket(bucket string) (PartBucket, error) {
	store, ok := i.buckets[bucket].(PartBucket)
	if !ok {
		return nil, fmt.Errorf("attach: bucket %q takes no objects in parts: %w", bucket, errors.ErrUnsupported)
	}
	return store, nil
}
