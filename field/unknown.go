package field

import (
	"fmt"
	"slices"
	"strings"
)

// UnknownColumns picks from the columns of a table those that look encrypted, by
// the names that Lockbox and attr_encrypted give, and that neither the model nor
// [Config.Independent] has: under a new data key they would become unreadable. A
// release that is newer than this one may have added them, so ask the database for
// the columns after the row is locked.
func (m *Model[R]) UnknownColumns(existing []string) (unknown []string) {
	known := m.Columns()
	for _, name := range existing {
		if looksEncrypted(name) && !slices.Contains(known, name) && !slices.Contains(m.schema.config.Independent, name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

func looksEncrypted(column string) bool {
	return strings.HasSuffix(column, "_ciphertext") || strings.HasPrefix(column, "encrypted_")
}

// UnknownColumnsError says of columns why their table is not rekeyed, nil if there are none.
func UnknownColumnsError(unknown []string) error {
	if len(unknown) == 0 {
		return nil
	}
	return fmt.Errorf("the table has columns that the model does not, and that would become unreadable: %s", strings.Join(unknown, ", "))
}
