package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// LagCheck returns a check that waits while a replica lags by more than most, or is
// gone. In PostgreSQL db is the primary, which knows all its replicas; a replica is
// gone if its replication slot is inactive, or if there are fewer replicas than
// before. In MariaDB and MySQL db is a replica, which is asked for its
// Seconds_Behind_Master; the check also waits while it does not replicate or cannot be
// reached.
//
// The check returns [kmsencrypted.ErrConfig] if the database user may not see the lag
// (it needs pg_monitor, SLAVE MONITOR or REPLICATION CLIENT), and in MariaDB and MySQL
// for a server that is no replica. LagCheck returns it for SQLite, which has no
// replicas.
func LagCheck(db *sql.DB, d field.Dialect, most time.Duration) (rotation.Check, error) {
	if db == nil {
		return nil, errNoDB
	}
	switch d {
	case field.Postgres:
		return (&primary{db: db, most: most}).check, nil
	case field.MySQL:
		return func(ctx context.Context) (string, error) { return lagOfReplica(ctx, db, most) }, nil
	}
	return nil, fmt.Errorf("sqlstore: %w: no replication lag in %s", kmsencrypted.ErrConfig, d)
}

func tooLate(lag, most time.Duration) string {
	if lag > most {
		return fmt.Sprintf("replication lag %v", lag.Round(time.Second/10))
	}
	return ""
}

// primary is a PostgreSQL server that knows its replicas.
type primary struct {
	db   *sql.DB
	most time.Duration

	mu       sync.Mutex
	replicas int // the most that were seen
	written  []writtenAt
}

// writtenAt is a position in the write-ahead log and when it was written. PostgreSQL
// keeps the last lag that it measured for a replica that replays nothing more, so the
// age of what a replica has not replayed is measured here as well.
type writtenAt struct {
	position float64
	at       time.Time
}

// inReplicas has NULL for the state of a replica that the user may not see.
const inReplicas = `SELECT count(*), count(state), coalesce(max(extract(epoch FROM replay_lag)), 0)::float8,
	coalesce(min(replay_lsn - '0/0'), -1)::float8, (pg_current_wal_lsn() - '0/0')::float8,
	(SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active)
	FROM pg_stat_replication`

func (p *primary) check(ctx context.Context) (string, error) {
	var replicas, visible, gone int
	var seconds, replayed, current float64
	err := p.db.QueryRowContext(ctx, inReplicas).Scan(&replicas, &visible, &seconds, &replayed, &current, &gone)
	switch {
	case sqldialect.Denied(err):
		return "", hiddenLag("pg_monitor", err)
	case err != nil:
		return "", fmt.Errorf("sqlstore: check: %w", sqldialect.Explained(err))
	case visible < replicas:
		return "", hiddenLag("pg_monitor", nil)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replicas = max(p.replicas, replicas)
	switch {
	case gone > 0:
		return fmt.Sprintf("%d of the replicas is gone: its replication slot is inactive", gone), nil
	case replicas < p.replicas:
		return fmt.Sprintf("a replica is gone: %d of %d are left", replicas, p.replicas), nil
	}
	lag := time.Duration(seconds * float64(time.Second))
	return tooLate(max(lag, p.unreplayed(replayed, current, time.Now())), p.most), nil
}

// unreplayed returns the age of the oldest position that a replica has not replayed.
func (p *primary) unreplayed(replayed, current float64, now time.Time) time.Duration {
	if replayed < 0 {
		p.written = nil
		return 0
	}
	done := 0
	for done < len(p.written) && p.written[done].position <= replayed {
		done++
	}
	p.written = append(p.written[done:], writtenAt{current, now})
	// Positions between the oldest and the newest add nothing once they are many.
	if len(p.written) > 1000 {
		p.written = append(p.written[:1:1], p.written[len(p.written)/2:]...)
	}
	return now.Sub(p.written[0].at)
}

func hiddenLag(right string, err error) error {
	if err != nil {
		return fmt.Errorf("sqlstore: check: %w: the database user may not see the replication lag: grant it %s: %w", kmsencrypted.ErrConfig, right, err)
	}
	return fmt.Errorf("sqlstore: check: %w: the database user may not see the replication lag: grant it %s", kmsencrypted.ErrConfig, right)
}

// lagOfReplica asks a replica of MariaDB or MySQL.
func lagOfReplica(ctx context.Context, db *sql.DB, most time.Duration) (string, error) {
	rows, err := db.QueryContext(ctx, "SHOW SLAVE STATUS")
	if err != nil && !sqldialect.Denied(err) { // MySQL from 8.4 has only the other name
		rows, err = db.QueryContext(ctx, "SHOW REPLICA STATUS")
	}
	switch {
	case sqldialect.Denied(err):
		return "", hiddenLag("SLAVE MONITOR (MariaDB) or REPLICATION CLIENT (MySQL)", err)
	case err != nil && sqldialect.Away(err):
		return "the replica cannot be reached", nil
	case err != nil:
		return "", fmt.Errorf("sqlstore: check: %w", sqldialect.Explained(err))
	}
	defer rows.Close()
	seconds, found, err := secondsBehind(rows)
	switch {
	case err != nil:
		return "", fmt.Errorf("sqlstore: check: %w", sqldialect.Explained(err))
	case !found:
		return "", fmt.Errorf("sqlstore: check: %w: this server is no replica, and only replicas know their lag: ask one of them", kmsencrypted.ErrConfig)
	case !seconds.Valid:
		return "the replica does not replicate", nil
	}
	return tooLate(time.Duration(seconds.V*float64(time.Second)), most), nil
}

// secondsBehind reads the status of a replica; a server that is none has no row. The
// lag is NULL while it does not replicate.
func secondsBehind(rows *sql.Rows) (seconds sql.Null[float64], found bool, err error) {
	names, err := rows.Columns()
	if err != nil || !rows.Next() {
		return seconds, false, rows.Err()
	}
	values := make([]sql.Null[string], len(names))
	targets := make([]any, len(names))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return seconds, false, err
	}
	for i, name := range names {
		if strings.HasPrefix(name, "Seconds_Behind_") && values[i].Valid {
			seconds.V, err = strconv.ParseFloat(values[i].V, 64)
			seconds.Valid = err == nil
		}
	}
	return seconds, true, err
}
