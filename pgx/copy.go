package kmspgx

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

// CopyFrom seals records as [Insert] does and writes all or none of them with the
// COPY protocol. An error about one of many records is [field.Failures] with its index.
// A zero primary key is fetched from the sequence of a serial or
// identity column. If there is none the error is [kmsencrypted.ErrNoID], because COPY
// returns no ids: set them, or use Insert.
//
// Ids and columns tagged context are read again and compared, in the same transaction,
// unless all are integers. So are columns tagged `db:"…,returned"` read.
func CopyFrom[R any](ctx context.Context, db DB, m *field.Model[R], rows ...*R) error {
	t, err := tableFor("copy", db, m, rows...)
	if err != nil || len(rows) == 0 {
		return err
	}
	in, err := t.Begin(ctx, session{db}, rows)
	if err == nil {
		err = in.NeedsIDs()
	}
	switch {
	case err != nil:
	case in.ReadsAgain():
		err = atomically(ctx, db, func(tx DB) error {
			if err := copyInto(ctx, tx, m, in); err != nil {
				return err
			}
			return in.ReadAgain(ctx, session{tx})
		})
	default:
		err = copyInto(ctx, db, m, in)
	}
	return failed("copy", m.Table(), in.End(commits(db), err))
}

func copyInto[R any](ctx context.Context, db DB, m *field.Model[R], in *records.Insertion[R]) error {
	columns, values, err := in.Values()
	if err != nil {
		return err
	}
	_, err = db.CopyFrom(ctx, identifier(m.Table()), columns, pgx.CopyFromRows(values))
	var args []any
	if err != nil {
		for _, row := range values {
			args = append(args, row...)
		}
	}
	return ofLine(in, err, records.Hide(err, args))
}

// copiedLine is what PostgreSQL says of the row that it refuses, before any value.
var copiedLine = regexp.MustCompile(`^COPY .*?, line ([0-9]+)`)

// ofLine adds to an error of COPY which of the records it is about.
func ofLine[R any](in *records.Insertion[R], cause, err error) error {
	refused, ok := errors.AsType[*pgconn.PgError](cause)
	if !ok {
		return err
	}
	found := copiedLine.FindStringSubmatch(refused.Where)
	if found == nil {
		return err
	}
	line, _ := strconv.Atoi(found[1])
	return in.OfRow(line-1, err)
}

// identifier is the name of a table, which may have a schema before a dot.
func identifier(table string) pgx.Identifier {
	return strings.SplitN(table, ".", 2)
}
