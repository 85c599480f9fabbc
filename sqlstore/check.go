package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
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
			return "", fmt.Errorf("sqlstore: check: %w", err)
		}
		return reason(n.V), nil
	}
}

// LagCheck returns a check that waits while a replica lags by more than most. In
// PostgreSQL db is the primary, which knows the lag of all its replicas. In MariaDB
// and MySQL db is a replica, which is asked for its Seconds_Behind_Master; the
// check also waits while it does not replicate. LagCheck returns
// [kmsencrypted.ErrConfig] for SQLite, which has no replicas.
func LagCheck(db *sql.DB, d field.Dialect, most time.Duration) (rotation.Check, error) {
	if db == nil {
		return nil, errNoDB
	}
	reason := func(seconds float64) string {
		if lag := time.Duration(seconds * float64(time.Second)); lag > most {
			return fmt.Sprintf("replication lag %v", lag.Round(time.Second/10))
		}
		return ""
	}
	switch d {
	case field.Postgres:
		return numberCheck(db, "SELECT max(extract(epoch FROM replay_lag))::float8 FROM pg_stat_replication", reason), nil
	case field.MySQL:
		return func(ctx context.Context) (string, error) {
			seconds, replicates, err := secondsBehind(ctx, db)
			if err == nil && !replicates {
				return "the replica does not replicate", nil
			}
			return reason(seconds), err
		}, nil
	}
	return nil, fmt.Errorf("sqlstore: %w: no replication lag in %s", kmsencrypted.ErrConfig, d)
}

// secondsBehind asks a replica for its lag; a server that is not a replica has
// none.
func secondsBehind(ctx context.Context, db *sql.DB) (seconds float64, replicates bool, err error) {
	rows, err := db.QueryContext(ctx, "SHOW SLAVE STATUS")
	if err != nil { // MySQL from 8.4 has only the other name
		if rows, err = db.QueryContext(ctx, "SHOW REPLICA STATUS"); err != nil {
			return 0, false, fmt.Errorf("sqlstore: check: %w", err)
		}
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil || !rows.Next() {
		return 0, true, err
	}
	values := make([]sql.Null[string], len(names))
	targets := make([]any, len(names))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return 0, false, err
	}
	for i, name := range names {
		if strings.HasPrefix(name, "Seconds_Behind_") && values[i].Valid {
			seconds, err = strconv.ParseFloat(values[i].V, 64)
			return seconds, true, err
		}
	}
	return 0, false, rows.Err()
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
