package sqldialect

import "strings"

// MariaDB and MySQL cut what is too long for its column, and replace what its
// character set does not have, unless the session is strict. That is up to the
// program and the server, so every statement that stores a value of ours asks for
// strict mode itself, and for nothing after it.

const (
	// strictMariaDB is for MariaDB 10.1 and later, a comment to MySQL, and keeps the
	// other modes of the session.
	strictMariaDB = "/*M!100101 SET STATEMENT sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES') FOR */ "
	// strictMySQL is for MySQL 8 and later, which takes no expression here: the other
	// modes are MySQL's defaults.
	strictMySQL = " /*+ SET_VAR(sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION') */ "
)

// Strict returns an INSERT or UPDATE that fails if the database would store
// something else than it was given. Other statements are unchanged.
func (d Dialect) Strict(statement string) string {
	verb, rest, _ := strings.Cut(statement, " ")
	if d != MySQL || verb != "INSERT" && verb != "UPDATE" {
		return statement
	}
	return strictMariaDB + verb + strictMySQL + rest
}

// StrictParts returns what [Dialect.Strict] adds before and after the verb.
func (d Dialect) StrictParts() (before, after string) {
	before, after, _ = strings.Cut(d.Strict("INSERT "), "INSERT")
	return strings.TrimSpace(before), strings.TrimSpace(after)
}
