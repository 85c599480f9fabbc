package records

import (
	"regexp"
	"strings"
)

// Which table, column or constraint an error is about is no secret, and is what its
// reader needs. The databases say it in these words. What else a text quotes may be
// a value: MySQL's "Duplicate entry 'ada@example.org' for key …" is one.

// identifier is the name of a table, a column or a constraint, as databases quote it.
const identifier = "[\"`']?[A-Za-z_][A-Za-z0-9_.]*[\"`']?"

// aboutNames are parts of messages that consist of words of the database and names.
// The match that begins first wins: PostgreSQL's "column … of relation … does not
// exist" also ends in what it says of a table.
var aboutNames = regexp.MustCompile(strings.Join([]string{
	// SQLite
	`no such (?:table|column): ` + identifier,
	`table ` + identifier + ` has no column named ` + identifier,
	`(?:UNIQUE|NOT NULL|CHECK|FOREIGN KEY) constraint failed(?:: ` + identifier + `(?:, ` + identifier + `)*)?`,
	// PostgreSQL
	`relation ` + identifier + ` does not exist`,
	`column ` + identifier + `(?: of relation ` + identifier + `)? does not exist`,
	`violates (?:unique|check|foreign key|exclusion) constraint ` + identifier,
	`null value in column ` + identifier + `(?: of relation ` + identifier + `)? violates not-null constraint`,
	`value too long for type [a-z]+(?: [a-z]+)*\([0-9]+\)`,
	`permission denied for (?:table|relation|column|schema|sequence) ` + identifier,
	// MySQL and MariaDB
	`Data too long for column ` + identifier,
	`Unknown column ` + identifier,
	`Table ` + identifier + ` doesn't exist`,
	`Column ` + identifier + ` cannot be null`,
	`Field ` + identifier + ` doesn't have a default value`,
	`CONSTRAINT ` + identifier + ` failed`,
	`Check constraint ` + identifier + ` is violated`,
}, "|"))

var (
	// duplicate is MySQL's message; the value may have anything in it.
	duplicate = regexp.MustCompile(`(?s)Duplicate entry '.*' (for key ` + identifier + `)$`)
	code      = regexp.MustCompile(`^Error [0-9]+ \([0-9A-Z]+\): `)
)

// namesIn is the part of an error's text that names a table, column or constraint,
// after MySQL's code; empty if there is none.
func namesIn(text string) string {
	if found := duplicate.FindStringSubmatch(text); found != nil {
		return code.FindString(text) + "Duplicate entry … " + found[1]
	}
	if part := aboutNames.FindString(text); part != "" {
		return code.FindString(text) + part
	}
	return ""
}
