package sqlstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// QueryCheck returns a check that waits while a query returns a number above 0. The
// reason contains name and the number. NULL and no row count as 0. The query runs
// in db, which may be another database than that of the records.
func QueryCheck(db *sql.DB, name, query string) rotation.Check {
	return numberCheck(db, query, func(n float64) string {
		if n > 0 {
			return fmt.Sprintf("%s: %g", name, n)
		}
		return ""
	})
}

func numberCheck(db *sql.DB, query string, reason func(float64) string) rotation.Check {
	return func(ctx context.Context) (string, error) {
		if db == nil {
			return "", errNoDB
		}
		var n sql.Null[float64]
		err := db.QueryRowContext(ctx, query).Scan(&n)
		if err == sql.ErrNoRows {
			err = nil
		}
		if err != nil {
			return "", fmt.Errorf("sqlstore: check: %w", sqldialect.Explained(err))
		}
		return reason(n.V), nil
	}
}

// ConnectionsCheck returns a check that waits while more than most connections are
// active in the database, including those of this rotation. It returns
// [kmsencrypted.ErrConfig] for SQLite, which has none.
func ConnectionsCheck(db *sql.DB, d field.Dialect, most int) (rotation.Check, error) {
	if db == nil {
		return nil, errNoDB
	}
	query := map[field.Dialect]string{
		field.Postgres: "SELECT count(*)::float8 FROM pg_stat_activity WHERE state <> 'idle' AND backend_type = 'client backend'",
		field.MySQL:    "SELECT count(*) FROM information_schema.processlist WHERE command NOT IN ('Sleep', 'Daemon')",
	}[d]
	if query == "" {
		return nil, fmt.Errorf("sqlstore: %w: no connections in %s", kmsencrypted.ErrConfig, d)
	}
	return numberCheck(db, query, func(n float64) string {
		if int(n) > most {
			return fmt.Sprintf("%d active connections", int(n))
		}
		return ""
	}), nil
}
