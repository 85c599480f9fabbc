package branch

import (
	"crypto/subtle"
	"fmt"
	"strconv"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// The names in the bindings of rows (spec/branch.md sections 3 and 4). They are also those
// of the SQL tables.
const (
	topTable  = "kms_branch_keys"
	subTable  = "kms_branch_subkeys"
	keyColumn = "encrypted_kms_key"
)

// created is the form of a time in the encryption context of a row.
const created = "2006-01-02T15:04:05.000Z"

// binding returns what the branch key of a row is bound to.
func (r Row) binding(store ID) kmsencrypted.Binding {
	version := decimal(r.Version)
	ec := kmsencrypted.Context{
		"store": store.String(), "branch": r.Branch, "version": version,
		"created": r.Created.UTC().Format(created),
	}
	if r.Parent == "" {
		return kmsencrypted.Binding{Table: topTable, Column: keyColumn, ID: []string{r.Branch, version}, Context: ec}
	}
	ec["parent"] = r.Parent
	return kmsencrypted.Binding{Table: subTable, Column: keyColumn, ID: []string{r.Parent, r.Branch, version}, Context: ec}
}

// newest returns the row of the current version, and false if there are no rows.
func newest(rows []Row) (newest Row, ok bool) {
	for _, r := range rows {
		if r.Version > newest.Version {
			newest, ok = r, true
		}
	}
	return newest, ok
}

// gone returns ErrErased if an erasure of the branch has begun.
func gone(rows []Row) error {
	for _, r := range rows {
		switch {
		case !r.Erased.IsZero():
			return fmt.Errorf("%w (at %s)", ErrErased, r.Erased.UTC().Format(time.RFC3339))
		case !r.Closing.IsZero():
			return fmt.Errorf("%w (it is closing since %s)", ErrErased, r.Closing.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
