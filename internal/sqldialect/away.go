package sqldialect

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
)

// Away reports whether the database restarts, fails over, cannot be reached, or takes no
// writes. The last statement of a lost connection may have been committed or not. Every
// change of the rotation engine may be tried again, because its conditions name the
// expected state.
func Away(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if state, ok := SQLState(err); ok {
		// 08: connection exceptions; 57P01 to 57P03: shutting down or starting up;
		// 25006: a standby, which takes no writes; 53300: too many connections.
		return strings.HasPrefix(state, "08") || strings.HasPrefix(state, "57P0") || state == "25006" || state == "53300"
	}
	for _, known := range []error{driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, known) {
			return true
		}
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	text := err.Error()
	return slices.ContainsFunc(awayTexts, func(known string) bool { return strings.Contains(text, known) })
}

// awayTexts are of MySQL and MariaDB: shutting down, too many connections, read-only. Of
// SQLite: another program writes for longer than was waited, and locks the whole database.
var awayTexts = []string{
	"SQLITE_BUSY", "database is locked", "invalid connection", "conn closed", "Error 1053", "Error 1040", "Error 1290", "Error 1836", "Error 1927",
}
