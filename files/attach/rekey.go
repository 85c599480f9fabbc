package attach

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/conditional"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

var _, _ field.Dependents = (*Manager[struct{}])(nil), (*Rails[struct{}])(nil)

// Covers reports whether table is kms_attachments, whose rows the manager moves.
// Package sqlstore calls it.
func (m *Manager[R]) Covers(table string) bool { return table == "kms_attachments" }

// Covers reports whether table is active_storage_attachments, whose files the manager
// moves. Package sqlstore calls it.
func (r *Rails[R]) Covers(table string) bool { return table == "active_storage_attachments" }

// Rekey gives one record new data keys at the current version, seals it under them,
// writes it, and wraps its file keys again, all in the caller's transaction. No object
// changes. A rotation does the same for all records. Use Rekey for one record, for
// example after a leak or when its owner asks for it.
//
// row must have been read with its primary key, its key columns and every encrypted
// column, as for [field.Model.Rekey]. If the record also has files of other managers,
// pass those managers as others. Otherwise their files are lost. To move the record, as to
// another tenant, call [field.Model.Open] before the plain column is changed, also for a
// record that has files only. File keys that the key
// service wrapped itself do not follow a record to another encryption context, such as that
// of another tenant: call [Manager.WrapKeys] before. Rekey returns
// [kmsencrypted.ErrConflict] if the row in the database has changed since. It
// fails if a file key does not open or a column was not read. After any error read
// the record again, because row then has data keys that were never stored.
func (m *Manager[R]) Rekey(ctx context.Context, tx *sql.Tx, row *R, others ...field.Dependents) error {
	if err := m.usable(tx, row); err != nil {
		return err
	}
	return m.rekey(ctx, tx, row, append([]field.Dependents{m}, others...))
}

// Rekey is like [Manager.Rekey] for a record of Rails. It adopts the record's files,
// as described at [Rails].
func (r *Rails[R]) Rekey(ctx context.Context, tx *sql.Tx, row *R, others ...field.Dependents) error {
	if err := r.usable(tx, row); err != nil {
		return err
	}
	return r.records.rekey(ctx, tx, row, append([]field.Dependents{r}, others...))
}

func (m *Manager[R]) rekey(ctx context.Context, tx *sql.Tx, row *R, managers []field.Dependents) error {
	id := m.model.ID(row)
	failed := func(err error) error {
		return fmt.Errorf("attach: rekey %s %s: %w", m.model.Table(), strings.Join(id, "/"), err)
	}
	if id == nil {
		return failed(kmsencrypted.ErrNoID)
	}
	if err := field.CheckDivided(managers); err != nil {
		return failed(err)
	}
	rotated := make([]field.Rotated, len(managers))
	defer func() {
		for _, r := range rotated {
			r.Old.Wipe()
			r.New.Wipe()
		}
	}()
	keys := func(into func(*field.Rotated) *kmsencrypted.DataKey) error {
		for i, d := range managers {
			k, err := m.model.DataKeys(ctx, d.KeyColumn(), row)
			if err != nil {
				return err
			}
			*into(&rotated[i]) = k[0]
		}
		return nil
	}
	if err := keys(func(r *field.Rotated) *kmsencrypted.DataKey { return &r.Old }); err != nil {
		if errors.Is(err, kmsencrypted.ErrDecrypt) && len(m.model.ContextColumns()) > 0 {
			err = fmt.Errorf("if the record moves, read it and call Model.Open before you change a column tagged context: %w", err)
		}
		return failed(err)
	}
	if err := m.model.RekeyWithFiles(ctx, row); err != nil {
		return failed(err)
	}
	if err := keys(func(r *field.Rotated) *kmsencrypted.DataKey { return &r.New }); err != nil {
		return failed(err)
	}
	// Write the record first: that locks it, so that no file can be committed in
	// between.
	if err := m.update(ctx, tx, row); err != nil {
		return failed(err)
	}
	for i, d := range managers {
		if rotated[i].New.IsZero() {
			continue // a record without a data key has no file under it
		}
		rotated[i].ID = id
		if err := d.Rotated(ctx, tx, rotated[i:i+1]); err != nil {
			return failed(err)
		}
	}
	m.model.Sent(row) // in the caller's transaction
	return nil
}

// update writes the columns that [field.Adapter.Write] returns, if the row has not
// changed since it was read.
func (m *Manager[R]) update(ctx context.Context, tx Tx, row *R) error {
	w, err := m.model.Write(row)
	if err != nil || len(w.Set) == 0 {
		return err
	}
	existing, err := m.table().LockedColumns(ctx, sqldialect.Of(tx), m.model.IDValues(row))
	if errors.Is(err, sql.ErrNoRows) {
		return kmsencrypted.ErrConflict
	}
	if err == nil {
		err = field.UnknownColumnsError(m.model.UnknownColumns(existing))
		if err != nil {
			err = fmt.Errorf("%w: %w", kmsencrypted.ErrConfig, err)
		}
	}
	if err != nil {
		return err
	}
	return m.writeIf(ctx, tx, row, w)
}

// writeIf writes to a record if its row still holds what w.Where says. Else it is
// [kmsencrypted.ErrConflict].
func (m *Manager[R]) writeIf(ctx context.Context, tx Tx, row *R, w field.Write) error {
	query, args := conditional.Update(m.table(), w, m.model.IDValues(row))
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	matched, err := m.table().Matched(result)
	if err == nil && !matched {
		err = kmsencrypted.ErrConflict
	}
	return err
}

func (m *Manager[R]) table() sqldialect.Table {
	return sqldialect.Table{Dialect: m.dialect, Name: m.model.Table(), IDs: m.model.IDColumns()}
}
