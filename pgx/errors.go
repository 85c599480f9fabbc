package kmspgx

import (
	"errors"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// failed adds the operation and the record to an error, and a remedy if the cause
// is a pooler between pgx and the server.
func failed(op, record string, err error) error {
	known, ok := errors.AsType[*kmsencrypted.Error](err)
	if !ok || !sqldialect.IsPooled(err) {
		return records.Failed(op, record, sqldialect.Explained(err))
	}
	explained := *known
	explained.Err = sqldialect.Explained(known.Err)
	return &explained
}
