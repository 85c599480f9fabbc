package sqlstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// A rotation does not notice rows that its database user cannot see, or columns that
// were added later. It would end as done although they still need the old key.

// seesAll refuses a table if row level security hides rows from this user.
func (s *Store[R]) seesAll(ctx context.Context) error {
	if s.dialect != field.Postgres {
		return nil
	}
	var hidden struct{ Active, User any }
	err := s.db.GetContext(ctx, &hidden, `SELECT row_security_active($1::text::regclass) AS "Active", current_user AS "User"`, s.dialect.QuotedTable(s.Table()))
	if err == nil && hidden.Active == true {
		err = fmt.Errorf("%w: row level security may hide rows of %s from the user %v: use one with BYPASSRLS", kmsencrypted.ErrConfig, s.Table(), hidden.User)
	}
	return err
}

// knowsColumns refuses to write records under new data keys if an encrypted column
// was added to the table, or removed from it. It is called after the UPDATE of a batch,
// whose locks prevent further changes of the columns until the transaction ends.
func (s *Store[R]) knowsColumns(ctx context.Context, tx *sqlx.Tx) error {
	existing, _, err := s.columnTypes(ctx, tx)
	if err != nil {
		return err
	}
	if unknown := s.unknownAmong(existing); len(unknown) > 0 {
		return fmt.Errorf("%w: %w", kmsencrypted.ErrConfig, field.UnknownColumnsError(unknown))
	}
	for _, c := range s.managed {
		if !slices.Contains(existing, c.name) {
			return fmt.Errorf("%w: the column %s is gone", kmsencrypted.ErrConfig, c.name)
		}
	}
	return nil
}
