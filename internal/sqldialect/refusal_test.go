package sqldialect_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

type state string

func (s state) Error() string    { return "ERROR: … (SQLSTATE " + string(s) + ")" }
func (s state) SQLState() string { return string(s) }

// The texts are those of go-sql-driver/mysql and modernc.org/sqlite.
func TestRefusesRow(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		state("22001"): true, state("23505"): true, state("P0001"): true,
		state("40001"): false, state("42703"): false, state("57014"): false,
		errors.New("Error 1062 (23000): Duplicate entry 'x' for key 'PRIMARY'"):                  true,
		errors.New("Error 1265 (01000): Data truncated for column 'encrypted_kms_key' at row 1"): true,
		errors.New("Error 1364 (HY000): Field 'name' doesn't have a default value"):              true,
		errors.New("Error 1366 (HY000): Incorrect string value"):                                 true,
		errors.New("Error 1366 (22007): Incorrect string value"):                                 true,
		errors.New("Error 1406 (22001): Data too long for column 'name' at row 1"):               true,
		errors.New("Error 1644 (45000): not you"):                                                true,
		errors.New("Error 3819 (HY000): Check constraint 'c' is violated."):                      true,
		errors.New("Error 3988 (HY000): Conversion from collation a into b impossible"):          true,
		errors.New("Error 4025 (23000): CONSTRAINT `c` failed for `people`"):                     true,
		errors.New("constraint failed: UNIQUE constraint failed: people.name (2067)"):            true,
		errors.New("Error 1146 (42S02): Table 'people' doesn't exist"):                           false,
		errors.New("Error 1213 (40001): Deadlock found"):                                         false,
		errors.New("database is locked (5) (SQLITE_BUSY)"):                                       false,
	} {
		for _, err := range []error{err, fmt.Errorf("wrapped: %w", err)} {
			if got := sqldialect.RefusesRow(err); got != want {
				t.Errorf("RefusesRow(%v) = %t, want %t", err, got, want)
			}
		}
	}
}

func TestTransient(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		state("40001"): true, state("40P01"): true, state("23505"): false, state("55P03"): false,
		errors.New("Error 1213 (40001): Deadlock found when trying to get lock; try restarting transaction"): true,
		errors.New("Error 1020 (HY000): Record has changed since last read in table 'people'"):               true,
		errors.New("database is locked (5) (SQLITE_BUSY)"):                                                   true,
		errors.New("Error 1205 (HY000): Lock wait timeout exceeded"):                                         false,
		errors.New("Error 1062 (23000): Duplicate entry 'x' for key 'PRIMARY'"):                              false,
	} {
		for _, err := range []error{err, fmt.Errorf("wrapped: %w", err)} {
			if got := sqldialect.Transient(err); got != want {
				t.Errorf("Transient(%v) = %t, want %t", err, got, want)
			}
		}
	}
}
