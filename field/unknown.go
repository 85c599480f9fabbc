package field

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// UnknownColumns returns the columns of a table for which [LooksEncrypted] is true
// and that are neither in the model nor in [Config.Independent]. Under a new data key
// they would become unreadable. A newer release may have added them, so ask the
// database for the columns after the row is locked.
func (a Adapter[R]) UnknownColumns(existing []string) []string {
	return a.inner().spec().unknownColumns(existing)
}

func (s *schema) unknownColumns(existing []string) (unknown []string) {
	known := s.managedColumns()
	for _, name := range existing {
		if LooksEncrypted(name) && !slices.Contains(known, name) && !slices.Contains(s.config.Independent, name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// LooksEncrypted reports whether a column of that name holds ciphertext or a wrapped
// key, by the naming of Lockbox, attr_encrypted and kms_encrypted. It returns false
// for a blind index such as "encrypted_email_bidx", which no data key seals.
func LooksEncrypted(column string) bool {
	return strings.HasSuffix(column, "_ciphertext") || strings.HasPrefix(column, "encrypted_") && !isIndex.MatchString(column)
}

// isIndex matches the names that package blindindex gives to columns.
var isIndex = regexp.MustCompile(`_bidx(_v\d+)?$`)

// UnknownColumnsError returns why a table with such columns is not rekeyed, or nil if
// there are none.
func UnknownColumnsError(unknown []string) error {
	if len(unknown) == 0 {
		return nil
	}
	return fmt.Errorf("the table has columns that the model does not, and that would become unreadable: %s", strings.Join(unknown, ", "))
}
