package audit

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/mac"
	"github.com/kmsencrypted/kmsencrypted/internal/missing"
	"github.com/kmsencrypted/kmsencrypted/internal/reason"
	"github.com/kmsencrypted/kmsencrypted/internal/secret"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// KeySize is the size of the key of a [Ledger] in bytes.
const KeySize = 32

var (
	// ErrLimit reports that a viewer has opened as many records as the [Limit] allows.
	// Nothing was opened.
	ErrLimit = errors.New("too many records opened for a reason")
	// ErrBroken reports that receipts were removed, added or changed by somebody without
	// the key.
	ErrBroken = errors.New("the chain of receipts is broken")
)

// Limit is how many records a viewer may open in a time. The zero value is 10 an hour.
type Limit struct {
	Records int
	Per     time.Duration
}

// Ledger is the table kms_audits with receipts: entries with consecutive numbers, each
// with an HMAC over its content and the HMAC of the one before. It is safe for
// concurrent use, also by several processes.
type Ledger struct {
	secret.Redacted
	db      *sql.DB
	dialect field.Dialect
	key     secret.Pointer[[KeySize]byte]
	limit   Limit
}

// NewLedger returns the ledger of a database with the table of [CreateTables]. The key
// is of [KeySize] random bytes, which NewLedger copies. Whoever has it can forge
// receipts, so the administrators of the database must not. NewLedger returns
// [kmsencrypted.ErrConfig] for a nil database, an unknown dialect, another size of the
// key, and a negative limit.
func NewLedger(db *sql.DB, d field.Dialect, key []byte, limit Limit) (*Ledger, error) {
	if missing.Is(db) {
		return nil, fmt.Errorf("audit: %w: the database is nil", kmsencrypted.ErrConfig)
	}
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if len(key) != KeySize {
		return nil, fmt.Errorf("audit: %w: a key of %d bytes: want %d", kmsencrypted.ErrConfig, len(key), KeySize)
	}
	if limit.Records < 0 || limit.Per < 0 {
		return nil, fmt.Errorf("audit: %w: a negative limit", kmsencrypted.ErrConfig)
	}
	if limit.Records == 0 {
		limit.Records = 10
	}
	if limit.Per == 0 {
		limit.Per = time.Hour
	}
	return &Ledger{db: db, dialect: d, key: secret.Hide([KeySize]byte(key)), limit: limit}, nil
}

// Receipt is the number and the HMAC of an entry. Kept outside the database, it proves
// later that the entry and all before it are still there.
type Receipt struct {
	Number int64
	MAC    [32]byte
}

// String returns the receipt as one word, for a ticket.
func (r Receipt) String() string { return fmt.Sprintf("%d:%x", r.Number, r.MAC) }

// ParseReceipt reads what [Receipt.String] returns. It returns
// [kmsencrypted.ErrMalformed] for other text.
func ParseReceipt(text string) (r Receipt, err error) {
	number, sum, _ := strings.Cut(text, ":")
	raw, hexErr := hex.DecodeString(sum)
	if _, err := fmt.Sscanf(number, "%d", &r.Number); err != nil || hexErr != nil || len(raw) != len(r.MAC) || r.Number < 1 {
		return Receipt{}, fmt.Errorf("audit: %w: a receipt is NUMBER:MAC", kmsencrypted.ErrMalformed)
	}
	r.MAC = [32]byte(raw)
	if r.String() != text {
		return Receipt{}, fmt.Errorf("audit: %w: a receipt is NUMBER:MAC", kmsencrypted.ErrMalformed)
	}
	return r, nil
}

// Open opens a record that was read, for a reason. First it writes a receipt for the
// entry, which says who sees which fields and why: viewer, fields and reason are
// required, Table, ID and At are set by Open. If that fails, nothing is opened. The receipt
// is committed by itself, so that no rollback removes it; it stays if the record does
// not open. [ErrLimit] is returned above the limit of the ledger.
//
// Open opens all fields that were read: read no others. The reason goes to the log of
// the key service where it has a place for it: docs/audit.md says which.
func Open[R any](ctx context.Context, l *Ledger, m *field.Model[R], row *R, e Entry) (Receipt, error) {
	adapter := m.Adapter()
	if err := adapter.Check(row); err != nil {
		return Receipt{}, err
	}
	e.Table, e.ID = m.Table(), strings.Join(adapter.ID(row), ",")
	receipt, err := l.Record(ctx, e)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, m.Open(reason.With(ctx, e.Reason), row)
}

// Record writes an entry with a receipt. It returns [kmsencrypted.ErrConfig] for an entry
// without viewer, table, id, fields or reason, and [ErrLimit]. At is the time of the
// database, because the clocks of processes differ. Record uses a connection
// of its own, also while the caller is in a transaction.
func (l *Ledger) Record(ctx context.Context, e Entry) (Receipt, error) {
	if l == nil || l.db == nil {
		return Receipt{}, fmt.Errorf("audit: %w: the Ledger was not made by NewLedger", kmsencrypted.ErrConfig)
	}
	if err := e.check(); err != nil {
		return Receipt{}, fmt.Errorf("audit: %w", err)
	}
	if strings.TrimSpace(e.Reason) == "" {
		return Receipt{}, fmt.Errorf("audit: %w: the entry lacks a reason", kmsencrypted.ErrConfig)
	}
	receipt, err := l.record(ctx, e)
	switch {
	case errors.Is(err, ErrLimit):
		return Receipt{}, fmt.Errorf("audit: %w: %d in %v", err, l.limit.Records, l.limit.Per)
	case err != nil:
		return Receipt{}, fmt.Errorf("audit: write a receipt: %w", explained(err))
	}
	return receipt, nil
}

// record tries until no other process has written a receipt meanwhile.
func (l *Ledger) record(ctx context.Context, e Entry) (Receipt, error) {
	before, err := l.last(ctx)
	for err == nil {
		if e.At, err = l.now(ctx); err != nil {
			break
		}
		// All receipts up to before are counted. If there are others, the number is taken.
		if err = l.allows(ctx, e); err != nil {
			break
		}
		receipt := before.next(l.key.Get()[:], e)
		refused := l.insert(ctx, e, receipt)
		if refused == nil {
			return receipt, nil
		}
		newest, lastErr := l.last(ctx)
		if lastErr != nil || newest.Number <= before.Number { // no other process was faster
			return Receipt{}, refused
		}
		before = newest
	}
	return Receipt{}, err
}

// explained adds what to do about a table that an older release has created.
func explained(err error) error {
	if sqldialect.NoTable(err) || sqldialect.NoColumn(err) {
		return fmt.Errorf("%w: the table %s is missing or of an older release: call CreateTables, or run the command \"tables --create\": %w", kmsencrypted.ErrConfig, Table, err)
	}
	return err
}

// now is the time by the clock of the database.
func (l *Ledger) now(ctx context.Context) (time.Time, error) {
	var ms int64
	err := l.db.QueryRowContext(ctx, "SELECT "+l.dialect.Now()).Scan(&ms)
	return time.UnixMilli(ms), err
}

// last returns the newest receipt: the zero one if there is none.
func (l *Ledger) last(ctx context.Context) (r Receipt, err error) {
	var sum string
	err = l.db.QueryRowContext(ctx, "SELECT receipt, mac FROM "+Table+" WHERE receipt IS NOT NULL ORDER BY receipt DESC LIMIT 1").Scan(&r.Number, &sum)
	if err == sql.ErrNoRows {
		return Receipt{}, nil
	}
	if err == nil {
		hex.Decode(r.MAC[:], []byte(sum[:min(len(sum), 64)])) // Verify finds what was changed
	}
	return r, err
}

func (l *Ledger) allows(ctx context.Context, e Entry) error {
	q := l.dialect.Statement("SELECT count(*) FROM ", Table, " WHERE receipt IS NOT NULL AND viewer = ")
	q.Arg(e.Viewer)
	q.Add(" AND viewed_at > ")
	q.Arg(timeFor(l.dialect, e.At.Add(-l.limit.Per)))
	var opened int
	if err := l.db.QueryRowContext(ctx, q.String(), q.Args...).Scan(&opened); err != nil {
		return err
	}
	if opened >= l.limit.Records {
		return ErrLimit
	}
	return nil
}

func (l *Ledger) insert(ctx context.Context, e Entry, r Receipt) error {
	q := l.dialect.Statement(l.dialect.Strict("INSERT INTO "), Table, " (viewer, record_table, record_id, fields, place, viewed_at, reason, receipt, mac) VALUES ")
	q.Row(e.Viewer, e.Table, e.ID, strings.Join(e.Fields, ","), e.Place, timeFor(l.dialect, e.At), e.Reason, r.Number, hex.EncodeToString(r.MAC[:]))
	_, err := l.db.ExecContext(ctx, q.String(), q.Args...)
	return err
}

// receiptLabel separates these HMACs from others under the same key.
const receiptLabel = "kmsencrypted audit receipt 1"

// next chains an entry to the receipt before: HMAC-SHA-256 of the label, the HMAC
// before, the number as 8 bytes, and each text with its length in 8 bytes in front.
func (r Receipt) next(key []byte, e Entry) Receipt {
	n := Receipt{Number: r.Number + 1}
	message := append([]byte(receiptLabel), r.MAC[:]...)
	message = binary.BigEndian.AppendUint64(message, uint64(n.Number))
	for _, text := range []string{e.Viewer, e.Table, e.ID, strings.Join(e.Fields, ","), e.Place, e.At.UTC().Format(timeText), e.Reason} {
		message = binary.BigEndian.AppendUint64(message, uint64(len(text)))
		message = append(message, text...)
	}
	n.MAC = mac.SHA256(key, message)
	return n
}
