package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// journal stores the wrapped keys that a rotation replaced: of a rekey to heal missed
// columns and to read old backups, of a rewrap to put back a key that does not open.
func (b *batch[R]) journal(ctx context.Context, tx *sqlx.Tx, w *swap) error {
	s := b.store
	values := make([][]any, 0, len(w.updates))
	stores := make(map[int]string) // by version
	for i, u := range w.updates {
		if !w.written[i] {
			continue
		}
		for _, key := range s.keys {
			if !w.moves(i, key.name) {
				continue
			}
			wrapped := text(u.same[w.at(key.name)])
			store, branch, err := b.keptBy(key, &b.rows[w.indexes[i]], wrapped, stores)
			if err != nil {
				return err
			}
			values = append(values, []any{w.run, s.ledgerName, store, orNull(branch), encodeKey(u.id), key.name, wrapped})
		}
	}
	return s.insert(ctx, tx, "kms_rotation_journal", []string{"rotation_id", "table_name", "store", "branch", "record", "key_column", "wrapped_key"}, values)
}

// keptBy names the key that a replaced wrapped key is under, so that an erasure of the
// key can delete it: by the id of the key, or by the store and branch of a provider with
// a key for each branch. known are the ids of versions that have one key for all records.
func (b *batch[R]) keptBy(key column, row *R, wrapped any, known map[int]string) (store, branch string, err error) {
	column, _ := wrapped.(string)
	version := kmsencrypted.ColumnVersion(column)
	if id, ok := known[version]; ok {
		return id, "", nil
	}
	binding := b.store.model.Binding(key.name, row)
	provider, one, err := b.store.providerAt(version, binding)
	if err != nil {
		return "", "", err
	}
	if keeper, ok := kmsencrypted.Ability[rotation.BranchKeeper](provider); ok {
		ec, err := contextAt(version, binding.Context)
		if err != nil {
			return "", "", err
		}
		store, branch = keeper.Branch(ec)
		return store, branch, nil
	}
	id := provider.Info().KeyID
	if one {
		known[version] = id
	}
	return id, "", nil
}

// providerAt returns the provider of a key under a version, and whether that is the one of
// all records.
func (s *Store[R]) providerAt(version int, binding kmsencrypted.Binding) (p kmsencrypted.Provider, one bool, err error) {
	recipe, err := s.model.Box().Version(version)
	if err != nil || recipe.ProviderFor == nil {
		return recipe.Provider, true, err
	}
	place, err := s.model.Box().Place(version, binding)
	if err != nil {
		return nil, false, err
	}
	return place.Provider(), false, nil
}

// contextAt is the encryption context of a record at a version.
func contextAt(version int, ec kmsencrypted.EncryptionContext) (kmsencrypted.BoundContext, error) {
	if of, depends := ec.(kmsencrypted.VersionedContext); depends {
		var err error
		if ec, err = of(version); err != nil {
			return kmsencrypted.BoundContext{}, err
		}
	}
	return kmsencrypted.Bind(ec)
}

// ForgetKey erases the replaced wrapped keys that the journal keeps under a key, for a
// program that destroys this key, such as that of one tenant. keyID is its
// [kmsencrypted.KeyInfo] KeyID. It returns their number.
func (s *Store[R]) ForgetKey(ctx context.Context, db Execer, keyID string) (int64, error) {
	return s.forget(ctx, db, "forget a key", "store", keyID)
}

// ForgetBranch erases the replaced wrapped keys that the journal keeps under the key of a
// branch, for a program that erases this branch. store and branch are those of
// [rotation.BranchKeeper]. It returns their number.
func (s *Store[R]) ForgetBranch(ctx context.Context, db Execer, store, branch string) (int64, error) {
	return s.forget(ctx, db, "forget a branch", "store", store, "branch", branch)
}

// forget erases the journal where some columns hold these texts.
func (s *Store[R]) forget(ctx context.Context, db Execer, op string, is ...string) (int64, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	query, args := "DELETE FROM kms_rotation_journal WHERE table_name = ?", []any{s.ledgerName}
	for column := range slices.Chunk(is, 2) {
		compared, before, after := s.dialect.Exact(column[0])
		query += " AND " + compared + " = " + before + "?" + after
		args = append(args, column[1])
	}
	result, err := db.ExecContext(ctx, s.dialect.SQL(query), args...)
	if err != nil {
		return 0, ledgerError(op, err)
	}
	return result.RowsAffected()
}

// forgetRewraps bounds the journal: a rewrap begins, and of the ones before it nothing
// is needed any more once all records were verified. A backup has its own wrapped keys.
func (s *Store[R]) forgetRewraps(ctx context.Context) error {
	const most = 10_000 // in one transaction
	for erased := int64(most); erased >= most; {
		err := s.retried(ctx, "bound the journal", func(tx *sqlx.Tx) error {
			result, err := tx.ExecContext(ctx, s.dialect.SQL(fmt.Sprintf(`DELETE FROM kms_rotation_journal WHERE id IN (SELECT id FROM (
				SELECT j.id FROM kms_rotation_journal j JOIN kms_rotations r ON r.id = j.rotation_id WHERE j.table_name = ? AND r.kind = ? AND r.active IS NULL
					AND r.started <= (SELECT coalesce(max(started), -1) FROM kms_rotations WHERE table_name = ? AND verified IS NOT NULL)
				LIMIT %d) AS these)`, most)), s.ledgerName, string(rotation.Rewrap), s.ledgerName)
			if err != nil {
				return err
			}
			erased, err = result.RowsAffected()
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// text returns a wrapped key as stored in the journal: some drivers return text as
// bytes.
func text(v driver.Value) any {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return v
}

// Journals lists the runs of the table of which the journal holds keys.
func (s *Store[R]) Journals(ctx context.Context) (list []rotation.RunJournal, err error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	rows, err := s.db.QueryContext(ctx, s.dialect.SQL(`SELECT id, kind, target, pass, state, planned, held.keys_held, coalesce({now} - ended, 0),
			CASE WHEN started <= (SELECT coalesce(max(started), -1) FROM kms_rotations WHERE table_name = ? AND verified IS NOT NULL) THEN 1 ELSE 0 END
		FROM kms_rotations JOIN (SELECT rotation_id, count(*) AS keys_held FROM kms_rotation_journal WHERE table_name = ? GROUP BY rotation_id) AS held
			ON held.rotation_id = id
		ORDER BY started DESC`), s.ledgerName, s.ledgerName)
	if err != nil {
		return nil, ledgerError("journal", err)
	}
	defer rows.Close()
	for rows.Next() {
		var j rotation.RunJournal
		var since int64
		if err := rows.Scan(&j.ID, &j.Kind, &j.Target, &j.Pass, &j.State, &j.Planned, &j.Keys, &since, &j.Verified); err != nil {
			return nil, ledgerError("journal", err)
		}
		j.Since = time.Duration(since) * time.Millisecond
		list = append(list, j)
	}
	return list, ledgerError("journal", rows.Err())
}

// Journaled returns the number of keys of the table in the journal at a version.
func (s *Store[R]) Journaled(ctx context.Context, version int) (n int64, err error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	err = s.db.QueryRowContext(ctx, s.dialect.SQL("SELECT count(*) FROM kms_rotation_journal WHERE table_name = ? AND wrapped_key LIKE ?"),
		s.ledgerName, fmt.Sprintf("v%d:%%", version)).Scan(&n)
	return n, ledgerError("journal", err)
}

// ClearJournal erases the keys of runs that ended before grace and after which a
// verification, of the same run or a later one, was clean.
func (s *Store[R]) ClearJournal(ctx context.Context, grace time.Duration) (erased int64, err error) {
	err = s.retried(ctx, "clear the journal", func(tx *sqlx.Tx) error {
		var verified int64 // the latest run with a clean verification
		err := tx.QueryRowContext(ctx, s.dialect.SQL("SELECT coalesce(max(started), -1) FROM kms_rotations WHERE table_name = ? AND verified IS NOT NULL"), s.ledgerName).Scan(&verified)
		if err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, s.dialect.SQL(`DELETE FROM kms_rotation_journal WHERE table_name = ? AND rotation_id IN
			(SELECT id FROM kms_rotations WHERE table_name = ? AND active IS NULL AND started <= ? AND ended <= {now} - ?)`),
			s.ledgerName, s.ledgerName, verified, grace.Milliseconds())
		if err != nil {
			return err
		}
		erased, err = result.RowsAffected()
		return err
	})
	return erased, err
}

// Forget erases what the journal and the failures of runs contain about records,
// for a program that erases these records. With an old wrapped key, a copy of the
// record in a backup could still be read. Forget uses only the primary keys of the
// rows.
func (s *Store[R]) Forget(ctx context.Context, db Execer, rows ...*R) error {
	if err := s.usable(); err != nil {
		return err
	}
	for _, row := range rows {
		id, err := s.idValues(row)
		if err != nil {
			return err
		}
		if _, err := s.exec(ctx, db, "DELETE FROM kms_rotation_journal WHERE table_name = ? AND record = ?", s.ledgerName, encodeKey(id)); err != nil {
			return ledgerError("forget a record", err)
		}
		_, err = s.exec(ctx, db, `DELETE FROM kms_rotation_failures WHERE record = ? AND rotation_id IN
			(SELECT id FROM kms_rotations WHERE table_name = ?)`, s.recordName(id), s.ledgerName)
		if err != nil {
			return ledgerError("forget a record", err)
		}
	}
	return nil
}

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
