package kmspgx

import (
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

// pooledAway are the codes with which a server answers if the statement that pgx
// prepared is on another connection: invalid_sql_statement_name,
// duplicate_prepared_statement and protocol_violation.
var pooledAway = []string{"26000", "42P05", "08P01"}

// failed adds the operation and the record to an error, and a remedy if the cause
// is a pooler between pgx and the server.
func failed(op, record string, err error) error {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !slices.Contains(pooledAway, refused.Code) {
		return records.Failed(op, record, err)
	}
	const remedy = "behind a pooler in transaction mode, such as pgbouncer before 1.21, set default_query_exec_mode to exec or simple_protocol"
	if known, ok := errors.AsType[*kmsencrypted.Error](err); ok {
		explained := *known
		explained.Err = fmt.Errorf("%w (%s)", known.Err, remedy)
		return &explained
	}
	return records.Failed(op, record, fmt.Errorf("%w (%s)", err, remedy))
}
