package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// isAway reports whether the database restarts, fails over, cannot be reached, or takes no
// writes. The
// last statement of a lost connection may have been committed or not. Every change of
// the engine may be tried again, because its conditions name the expected state.
func isAway(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if state, ok := sqldialect.SQLState(err); ok {
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
	// Of MySQL and MariaDB: shutting down, too many connections, read-only. Of SQLite:
	// another program writes for longer than was waited, and locks the whole database.
	return mentions(err, "SQLITE_BUSY", "database is locked", "invalid connection", "conn closed", "Error 1053", "Error 1040", "Error 1290", "Error 1836", "Error 1927")
}

// markAway marks an error that means that the database is away, and explains one that
// a pooler in front of it causes, which waiting does not help.
func markAway(err error) error {
	switch {
	case err == nil || errors.Is(err, rotation.ErrDatabaseAway):
		return err
	case sqldialect.IsPooled(err):
		return sqldialect.Explained(err)
	case isAway(err):
		return fmt.Errorf("%w: %w", rotation.ErrDatabaseAway, err)
	}
	return err
}
