package sqldialect

import (
	"regexp"
	"strings"
)

// MariaDB and MySQL deny a table to a user in the same words whether it exists or not.
var (
	deniedText  = regexp.MustCompile(`Error (?:1044|1142|1143|1227|1370) `)
	noTableText = regexp.MustCompile(`Error 1146 |no such table`)
)

// Denied reports whether the database user lacks a right for a statement.
func Denied(err error) bool {
	if err == nil {
		return false
	}
	if state, ok := SQLState(err); ok {
		return state == "42501"
	}
	return deniedText.MatchString(err.Error())
}

// NoTable reports whether a table of a statement does not exist, as far as the
// database tells.
func NoTable(err error) bool {
	if err == nil {
		return false
	}
	if state, ok := SQLState(err); ok {
		return state == "42P01"
	}
	return noTableText.MatchString(err.Error())
}

// NoColumn reports whether a column of a statement does not exist.
func NoColumn(err error) bool {
	if err == nil {
		return false
	}
	if state, ok := SQLState(err); ok {
		return state == "42703"
	}
	text := err.Error()
	return strings.Contains(text, "Error 1054 ") || strings.Contains(text, "no such column") || strings.Contains(text, "has no column named")
}
