package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// Limiter limits the calls to a key service by all processes that share a
// database: see [NewLimiter]. It is a [rotation.ThrottledLimiter] and safe for
// concurrent use.
type Limiter struct {
	db      *sql.DB
	dialect field.Dialect
	name    string

	mu    sync.Mutex
	rate  float64       // as last read
	ahead time.Duration // how far the clock of the database is
	read  time.Time     // when
}

// NewLimiter returns the limiter with a name, usually that of a KMS key or region,
// and adds its row to kms_rate_limits if it does not exist. perSecond is the rate
// of a new limiter; an existing one keeps its rate until [Limiter.SetRate].
// [Store.CreateTables] or the statements of [Tables] create the table.
//
// Each batch of calls books the next free time with one UPDATE, by the clock of
// the database, and waits for it. When the key service throttles, the rate is
// halved for all processes. It rises by a tenth for every 10 s without throttling.
func NewLimiter(ctx context.Context, db *sql.DB, d field.Dialect, name string, perSecond float64) (*Limiter, error) {
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	if db == nil {
		return nil, errNoDB
	}
	if name == "" || !(perSecond > 0) {
		return nil, fmt.Errorf("sqlstore: %w: a limiter needs a name and a rate above 0", kmsencrypted.ErrConfig)
	}
	l := &Limiter{db: db, dialect: d, name: name}
	err := patiently(func() error {
		_, err := l.exec(ctx, `INSERT INTO kms_rate_limits (name, per_second, rate, changed, tat, slot)
			SELECT ?, ?, ?, 0, 0, 0 FROM (SELECT 1 AS one) AS once WHERE NOT EXISTS (SELECT 1 FROM kms_rate_limits WHERE name = ?)`,
			name, perSecond, perSecond, name)
		return err
	})
	// Another process may have added it at the same moment; then it exists.
	if failed := l.refresh(ctx); failed != nil {
		if err == nil {
			err = failed
		}
		return nil, ledgerError("limiter "+name, err)
	}
	return l, nil
}

func (l *Limiter) sql(query string) string {
	return l.dialect.SQL(strings.ReplaceAll(query, "{micros}", dialects[l.dialect].micros))
}

func (l *Limiter) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return l.db.ExecContext(ctx, l.sql(query), args...)
}

// refresh reads the rate and the clock of the database.
func (l *Limiter) refresh(ctx context.Context) error {
	began := time.Now()
	var rate float64
	var clock int64
	err := l.db.QueryRowContext(ctx, l.sql("SELECT rate, {micros} FROM kms_rate_limits WHERE name = ?"), l.name).Scan(&rate, &clock)
	if err != nil {
		return err
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate, l.read = rate, now
	l.ahead = time.UnixMicro(clock).Sub(began.Add(now.Sub(began) / 2))
	return nil
}

// Rate returns the rate of all processes together in calls a second, as last read:
// not longer ago than a second while this process makes calls.
func (l *Limiter) Rate() float64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate
}

// usable returns [kmsencrypted.ErrConfig] for a nil or zero Limiter.
func (l *Limiter) usable() error {
	if l == nil || l.db == nil {
		return fmt.Errorf("sqlstore: %w: the Limiter was not made by NewLimiter", kmsencrypted.ErrConfig)
	}
	return nil
}

// Burst returns the calls of a fiftieth of a second.
func (l *Limiter) Burst() int { return max(1, int(l.Rate()/50)) }

// SetRate changes the rate for all processes, also while they work.
func (l *Limiter) SetRate(ctx context.Context, perSecond float64) error {
	if err := l.usable(); err != nil {
		return err
	}
	if !(perSecond > 0) {
		return fmt.Errorf("sqlstore: %w: the rate must be above 0", kmsencrypted.ErrConfig)
	}
	err := patiently(func() error {
		_, err := l.exec(ctx, "UPDATE kms_rate_limits SET per_second = ?, rate = ? WHERE name = ?", perSecond, perSecond, l.name)
		return err
	})
	if err == nil {
		err = l.refresh(ctx)
	}
	return ledgerError("limiter "+l.name, err)
}

// Throttled halves the rate, at most once a second, because concurrent calls are
// throttled together.
func (l *Limiter) Throttled(ctx context.Context) error {
	if err := l.usable(); err != nil {
		return err
	}
	err := patiently(func() error {
		_, err := l.exec(ctx, `UPDATE kms_rate_limits SET rate = CASE WHEN rate / 2 < per_second / 64 THEN per_second / 64 ELSE rate / 2 END, changed = {micros}
			WHERE name = ? AND changed < {micros} - 1000000`, l.name)
		return err
	})
	if err == nil {
		err = l.refresh(ctx)
	}
	return ledgerError("limiter "+l.name, err)
}

// Wait implements [rotation.Limiter].
func (l *Limiter) Wait(ctx context.Context, n int) error {
	if err := l.usable(); err != nil {
		return err
	}
	booking := ctx
	if l.dialect == field.SQLite {
		booking = context.WithoutCancel(ctx) // its driver may leave a query open that is broken off
	}
	_, wait, err := l.reserve(booking, n)
	if err != nil {
		return ledgerError("limiter "+l.name, err)
	}
	return sleep.For(ctx, wait)
}

// reserving books n calls. In MariaDB and MySQL an assignment sees the assignments
// before it; in the other databases it does not. The order gives the same result in
// both: a column that later assignments read is assigned after them.
const reserving = `UPDATE kms_rate_limits SET
	slot = %[1]s,
	tat = CASE WHEN tat > {micros} THEN tat ELSE {micros} END + CAST(? * 1000000.0 / rate AS %[2]s),
	rate = CASE WHEN rate >= per_second OR changed >= {micros} - 10000000 THEN rate WHEN rate * 1.1 > per_second THEN per_second ELSE rate * 1.1 END,
	changed = CASE WHEN rate < per_second AND changed < {micros} - 10000000 THEN {micros} ELSE changed END
	WHERE name = ?`

// reserve books n calls for a time by the clock of the database, in microseconds,
// and returns how long to wait for it.
func (l *Limiter) reserve(ctx context.Context, n int) (at int64, wait time.Duration, err error) {
	if l.isStale() {
		if err := l.refresh(ctx); err != nil {
			return 0, 0, err
		}
	}
	const free = "CASE WHEN tat > {micros} THEN tat ELSE {micros} END"
	err = patiently(func() error {
		if dialects[l.dialect].returns {
			return l.db.QueryRowContext(ctx, l.sql(fmt.Sprintf(reserving, free, "bigint")+" RETURNING slot"), n, l.name).Scan(&at)
		}
		// The statement returns the id that it sets.
		result, err := l.exec(ctx, fmt.Sprintf(reserving, "LAST_INSERT_ID("+free+")", "signed"), n, l.name)
		if err == nil {
			at, err = result.LastInsertId()
		}
		return err
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	return at, time.UnixMicro(at).Sub(time.Now().Add(l.ahead)), err
}

func (l *Limiter) isStale() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.read) > time.Second
}
