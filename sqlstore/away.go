package sqlstore

import (
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// markAway marks an error that means that the database is away, and explains one that
// a pooler in front of it causes, which waiting does not help.
func markAway(err error) error {
	switch {
	case err == nil || errors.Is(err, rotation.ErrDatabaseAway):
		return err
	case sqldialect.IsPooled(err):
		return sqldialect.Explained(err)
	case sqldialect.Away(err):
		return fmt.Errorf("%w: %w", rotation.ErrDatabaseAway, err)
	}
	return err
}
