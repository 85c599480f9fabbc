package sqldialect

import (
	"errors"
	"fmt"
	"strings"
)

// remedy is what helps where a statement was prepared on another connection.
const remedy = "behind a pooler in transaction mode, such as pgbouncer before 1.21, set default_query_exec_mode to exec or simple_protocol, or with River to cache_describe"

// pooled is an error whose cause is a pooler between the driver and the server.
type pooled struct{ error }

func (p pooled) Error() string { return fmt.Sprintf("%v (%s)", p.error, remedy) }
func (p pooled) Unwrap() error { return p.error }

// Explained adds a remedy to the errors of PostgreSQL that a pooler in transaction mode
// causes: a prepared statement does not exist (26000), exists already (42P05), or is
// another one (08P01). pgbouncer gives the last code to its own errors as well, such as
// that it does not reach the server; those are fatal, and are left as they are.
func Explained(err error) error {
	state, ok := SQLState(err)
	another := state == "08P01" && !strings.Contains(err.Error(), "FATAL")
	if !ok || state != "26000" && state != "42P05" && !another || errors.As(err, new(pooled)) {
		return err
	}
	return pooled{err}
}

// IsPooled reports whether [Explained] adds a remedy to an error.
func IsPooled(err error) bool { return err != nil && errors.As(Explained(err), new(pooled)) }
