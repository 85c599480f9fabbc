package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// journalEntry is a wrapped key that a record had.
type journalEntry struct{ id, record, column, wrapped string }

// Mend opens the records of a page of the journal, and mends columns that open only
// under the journal's key.
func (s *Store[R]) Mend(ctx context.Context, m rotation.Mending) (result rotation.Healing, next string, err error) {
	if err := s.usable(); err != nil {
		return result, "", err
	}
	m.Limit = s.width.rows(m.Limit)
	entries, err := s.journalPage(ctx, m)
	if err != nil || len(entries) == 0 {
		return result, "", ledgerError("journal", err)
	}
	if len(entries) == m.Limit {
		next = entries[len(entries)-1].id
	}
	byRecord := make(map[string][]journalEntry)
	var records []string
	for _, e := range entries {
		if byRecord[e.record] == nil {
			records = append(records, e.record)
		}
		byRecord[e.record] = append(byRecord[e.record], e)
	}
	b := &batch[R]{store: s, compared: s.managed, witnesses: s.witnesses, target: s.model.Box().Current()}
	defer func() { b.wipe(0, len(b.rows)) }()
	for rows, err := range s.byKeys(ctx, s.db, records) {
		if err != nil {
			return result, "", fmt.Errorf("sqlstore: read %s: %w", s.Table(), markAway(err))
		}
		b.rows, b.records = append(b.rows, rows.rows...), append(b.records, rows.records...)
	}
	result.Looked = int64(len(b.rows))
	if err := b.mend(ctx, byRecord); err != nil {
		return result, "", err
	}
	w, err := b.swap(m.Run)
	if err != nil {
		return result, "", err
	}
	w.which = true // a conflict is not tried again
	result.Failures = b.failures
	if m.DryRun || len(w.updates) == 0 {
		w.written = slices.Repeat([]bool{true}, len(w.updates))
		result.Records = s.writtenRecords(w)
		result.Mended = int64(len(result.Records))
		return result, next, nil
	}
	err = s.retried(ctx, "mend", func(tx *sqlx.Tx) error {
		w.written = make([]bool, len(w.updates))
		return s.writes(ctx, tx, w)
	})
	result.Records = s.writtenRecords(w)
	result.Mended = w.count()
	result.Conflicts = int64(len(w.updates)) - result.Mended
	return result, next, err
}

// writtenRecords names the records that were written.
func (s *Store[R]) writtenRecords(w *swap) (names []string) {
	for i, written := range w.written {
		if written {
			names = append(names, s.recordName(w.updates[i].id))
		}
	}
	return names
}

// mend opens the records of a batch, and seals again the columns that open only under
// a key of the journal.
func (b *batch[R]) mend(ctx context.Context, journal map[string][]journalEntry) error {
	for i := range b.rows {
		if err := b.remember(i); err != nil {
			return err
		}
	}
	return b.each(ctx, 0, len(b.rows), func(ctx context.Context, rows ...*R) error {
		errs, err := byRecord(b.open(ctx, rows...), len(rows))
		if err != nil {
			return err
		}
		var failures field.Failures
		for i, row := range rows {
			if errs[i] == nil {
				continue
			}
			id, err := b.store.idValues(row)
			if err != nil {
				return err
			}
			if err := b.mendOne(ctx, row, journal[encodeKey(id)], errs[i]); err != nil {
				failures = append(failures, field.Failure{Index: i, Err: err})
			}
		}
		if failures == nil {
			return nil
		}
		return failures
	})
}

// mendOne tries the old keys of a record that does not open. It returns the error
// of the columns that still do not open.
func (b *batch[R]) mendOne(ctx context.Context, row *R, entries []journalEntry, why error) error {
	if kmsencrypted.Retryable(why) || kmsencrypted.ConcernsAll(why) {
		return why
	}
	for _, e := range entries { // a record has one for each of its keys
		put, err := b.putBack(ctx, row, e)
		if err != nil {
			return err
		}
		if put {
			why = b.store.model.Open(ctx, row)
		}
	}
	if why == nil {
		return nil
	}
	mended := false
	for _, e := range entries {
		columns, err := b.store.model.Mend(ctx, row, e.column, e.wrapped)
		if kmsencrypted.Retryable(err) || kmsencrypted.ConcernsAll(err) {
			return err
		}
		mended = mended || len(columns) > 0
	}
	if !mended {
		return why
	}
	still := b.store.model.Open(ctx, row)
	return errors.Join(still, b.store.model.Seal(ctx, row))
}

// putBack replaces a wrapped key that does not open by the one before it, wrapped
// again under the current version. It holds the same data key, which its commitment
// proves.
func (b *batch[R]) putBack(ctx context.Context, row *R, e journalEntry) (put bool, err error) {
	at := slices.IndexFunc(b.store.keys, func(c column) bool { return c.name == e.column })
	if at < 0 {
		return false, nil
	}
	opens := func() (bool, error) {
		keys, err := b.store.model.DataKeys(ctx, e.column, row)
		for i := range keys {
			keys[i].Wipe()
		}
		if kmsencrypted.Retryable(err) || kmsencrypted.ConcernsAll(err) || ctx.Err() != nil {
			return false, err
		}
		return err == nil, nil
	}
	if ok, err := opens(); ok || err != nil {
		return false, err
	}
	key := b.store.keys[at].of(row).Addr().Interface().(*field.Key)
	broken := *key
	if err := key.Scan(e.wrapped); err != nil {
		return false, err
	}
	if ok, err := opens(); !ok || err != nil {
		*key = broken
		return false, err
	}
	return true, b.store.model.Rewrap(ctx, row)
}

func (s *Store[R]) journalPage(ctx context.Context, m rotation.Mending) (entries []journalEntry, err error) {
	after := int64(0)
	if m.After != "" {
		if after, err = strconv.ParseInt(m.After, 10, 64); err != nil {
			return nil, fmt.Errorf("%w: a position in the journal", kmsencrypted.ErrMalformed)
		}
	}
	rows, err := s.db.QueryContext(ctx, s.dialect.SQL(fmt.Sprintf(`SELECT id, record, key_column, wrapped_key FROM kms_rotation_journal
		WHERE rotation_id = ? AND table_name = ? AND id > ? ORDER BY id LIMIT %d`, m.Limit)), m.Run, s.ledgerName, after)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e journalEntry
		if err := rows.Scan(&e.id, &e.record, &e.column, &e.wrapped); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// loaded are some rows that were read together.
type loaded[R any] struct {
	rows    []R
	records []record
}

// byKeys reads the rows with some primary keys, as far as they still exist, a few at a
// time.
func (s *Store[R]) byKeys(ctx context.Context, db sqlx.QueryerContext, keys []string) iter.Seq2[loaded[R], error] {
	const most = 100 // that one query names
	return func(yield func(loaded[R], error) bool) {
		for len(keys) > 0 {
			some := keys[:min(len(keys), s.width.rows(most))]
			rows, records, whole, err := s.loadKeys(ctx, db, some)
			if err == nil && !whole {
				known := make(map[string]bool, len(records))
				for _, r := range records {
					known[encodeKey(r.id)] = true
				}
				keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return known[key] })
			} else {
				keys = keys[len(some):]
			}
			if !yield(loaded[R]{rows, records}, err) || err != nil {
				return
			}
		}
	}
}

func (s *Store[R]) loadKeys(ctx context.Context, db sqlx.QueryerContext, keys []string) ([]R, []record, bool, error) {
	q := s.dialect.Statement()
	all := view{s.read, s.witnesses}
	s.selectFrom(q, all)
	q.Add(" AND (1 = 0")
	for _, key := range keys {
		values, err := decodeKey(key)
		if err != nil {
			return nil, nil, false, err
		}
		if len(values) != len(s.ids) {
			return nil, nil, false, fmt.Errorf("%w: a primary key in the journal", kmsencrypted.ErrMalformed)
		}
		q.Add(" OR (1 = 1")
		for i, c := range s.ids {
			q.Add(" AND ", q.Dialect.Quoted(c.name), " = ")
			q.Arg(values[i])
		}
		q.Add(")")
	}
	q.Add(")")
	return s.load(ctx, db, q, all, len(keys))
}
