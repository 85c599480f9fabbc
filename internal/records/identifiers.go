package records

import "regexp"

// Which table, column or constraint an error is about is no secret, and is what its
// reader needs. The databases say it in these words. What else a text quotes may be
// a value: MySQL's "Duplicate entry 'ada@example.org' for key …" is one.

// identifier is the name of a table, a column or a constraint, as databases quote it.
const identifier = "[\"`']?[A-Za-z_][A-Za-z0-9_.]*[\"`']?"

// aboutNames are parts of messages that consist of words of the database and names.
var aboutNames = []*regexp.Regexp{
	// SQLite
	regexp.MustCompile(`no such (?:table|column): ` + identifier),
	regexp.MustCompile(`table ` + identifier + ` has no column named ` + identifier),
	regexp.MustCompile(`(?:UNIQUE|NOT NULL|CHECK|FOREIGN KEY) constraint failed(?:: ` + identifier + `(?:, ` + identifier + `)*)?`),
	// PostgreSQL
	regexp.MustCompile(`relation ` + identifier + ` does not exist`),
	regexp.MustCompile(`column ` + identifier + `(?: of relation ` + identifier + `)? does not exist`),
	regexp.MustCompile(`violates (?:unique|check|foreign key|exclusion) constraint ` + identifier),
	regexp.MustCompile(`null value in column ` + identifier + `(?: of relation ` + identifier + `)? violates not-null constraint`),
	regexp.MustCompile(`value too long for type [a-z]+(?: [a-z]+)*\([0-9]+\)`),
	regexp.MustCompile(`permission denied for (?:table|relation|column|schema|sequence) ` + identifier),
	// MySQL and MariaDB
	regexp.MustCompile(`Data too long for column ` + identifier),
	regexp.MustCompile(`Unknown column ` + identifier),
	regexp.MustCompile(`Table ` + identifier + ` doesn't exist`),
	regexp.MustCompile(`Column ` + identifier + ` cannot be null`),
	regexp.MustCompile(`Field ` + identifier + ` doesn't have a default value`),
	regexp.MustCompile(`CONSTRAINT ` + identifier + ` failed`),
	regexp.MustCompile(`Check constraint ` + identifier + ` is violated`),
}

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
	for _, known := range aboutNames {
		if part := known.FindString(text); part != "" {
			return code.FindString(text) + part
		}
	}
	return ""
}
