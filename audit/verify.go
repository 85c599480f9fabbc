package audit

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
)

// timeOf is the time of an entry in UTC as text.
var timeOf = map[field.Dialect]string{
	field.Postgres: "to_char(viewed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
	field.MySQL:    "date_format(viewed_at, '%Y-%m-%d %H:%i:%s.%f')",
	field.SQLite:   "viewed_at",
}

// Verify reads all receipts and returns the last one, the zero Receipt if there is none.
// It returns [ErrBroken] with the first number that is missing, occurs twice or has
// another content. The chain itself cannot tell that its end was removed. So keep a
// receipt outside the database, and pass it as known: then [ErrBroken] is also returned if it
// is not in the chain.
func (l *Ledger) Verify(ctx context.Context, known ...Receipt) (last Receipt, err error) {
	if l == nil || l.db == nil {
		return last, fmt.Errorf("audit: %w: the Ledger was not made by NewLedger", kmsencrypted.ErrConfig)
	}
	rows, err := l.db.QueryContext(ctx, "SELECT viewer, record_table, record_id, fields, place, "+timeOf[l.dialect]+", coalesce(reason, ''), receipt, coalesce(mac, '') FROM "+Table+
		" WHERE receipt IS NOT NULL ORDER BY receipt")
	if err != nil {
		return last, fmt.Errorf("audit: verify: %w", explained(err))
	}
	defer rows.Close()
	known = slices.Clone(known)
	for rows.Next() {
		var e Entry
		var fields, at, sum string
		var number int64
		if err := rows.Scan(&e.Viewer, &e.Table, &e.ID, &fields, &e.Place, &at, &e.Reason, &number, &sum); err != nil {
			return last, fmt.Errorf("audit: verify: %w", err)
		}
		e.Fields = strings.Split(fields, ",")
		if number != last.Number+1 {
			return last, fmt.Errorf("audit: %w: receipt %d is missing", ErrBroken, last.Number+1)
		}
		e.At, err = time.Parse(timeText, at)
		next := last.next(l.key.Get()[:], e)
		if err != nil || subtle.ConstantTimeCompare([]byte(hex.EncodeToString(next.MAC[:])), []byte(sum)) != 1 {
			return last, fmt.Errorf("audit: %w: receipt %d was changed, or the key is another one", ErrBroken, number)
		}
		last = next
		known = slices.DeleteFunc(known, func(r Receipt) bool { return r == last })
	}
	if err := rows.Err(); err != nil {
		return last, fmt.Errorf("audit: verify: %w", err)
	}
	if len(known) > 0 {
		return last, fmt.Errorf("audit: %w: receipt %d is missing or another one", ErrBroken, known[0].Number)
	}
	return last, nil
}
