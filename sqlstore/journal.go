package sqlstore

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
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
