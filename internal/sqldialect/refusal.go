package sqldialect

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// SQLState returns the SQLSTATE of an error of PostgreSQL.
func SQLState(err error) (state string, ok bool) {
	if coded, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return coded.SQLState(), true
	}
	return "", false
}

// What databases say of a row that they do not take: classes 22 and 23 of SQLSTATE
// and what triggers raise, and the errors of MariaDB and MySQL that belong there and
// have another SQLSTATE, or none.
var (
	refusedState = regexp.MustCompile(`^(?:22|23|P0)`)
	refusedText  = regexp.MustCompile(`Error [0-9]+ \((?:22|23|45)|` +
		`Error (?:1265|` + // data truncated
		`1364|` + // no default value
		`1366|3988|` + // not in the character set of the column
		`3819|4025) ` + // CHECK, of MySQL and MariaDB
		`|constraint failed|SQLITE_CONSTRAINT`)
)

// RefusesRow reports whether the error of a driver is about the values of a row: a
// constraint, a trigger, or a column that cannot hold one.
func RefusesRow(err error) bool {
	if state, ok := SQLState(err); ok {
		return refusedState.MatchString(state)
	}
	return refusedText.MatchString(err.Error())
}

// Transient reports a deadlock, a serialization failure or a busy database: the
// transaction wrote nothing and may be tried again. Drivers have no common way to
// report these. The texts are those of MySQL's and SQLite's drivers, which this
// package does not import.
func Transient(err error) bool {
	if state, ok := SQLState(err); ok {
		return state == "40P01" || state == "40001"
	}
	text := err.Error()
	return slices.ContainsFunc([]string{"Error 1213", "Error 1020", "Error 3101", "SQLITE_BUSY", "database is locked"},
		func(known string) bool { return strings.Contains(text, known) })
}
