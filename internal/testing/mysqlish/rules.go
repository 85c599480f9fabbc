package mysqlish

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// syntax lists what is a syntax error to MySQL 9: words in a row, | between
// choices. A choice in capitals is a word; . is any text, number or NULL.
var syntax = patterns(
	"SET STATEMENT",
	"CREATE OR REPLACE TABLE|INDEX|SEQUENCE|DATABASE|SCHEMA|FUNCTION|PROCEDURE|TRIGGER|USER|ROLE|EVENT|SERVER|UNIQUE|TEMPORARY",
	"CREATE|DROP|ALTER SEQUENCE", "NEXT|PREVIOUS VALUE FOR",
	"ADD|MODIFY|CHANGE COLUMN IF", "ADD|DROP IF", "DROP COLUMN IF",
	"INDEX|KEY|CONSTRAINT IF NOT EXISTS", "INDEX|KEY|CONSTRAINT IF EXISTS",
	"ROWS EXAMINED", "FETCH FIRST|NEXT",
	"SHOW SLAVE", "SHOW ALL SLAVES", "SHOW MASTER", "CHANGE MASTER", "START|STOP SLAVE",
	"WITH SYSTEM VERSIONING", "FOR PORTION OF", "FOR SYSTEM_TIME", "PERIOD FOR", "WITHOUT OVERLAPS",
	"FOR UPDATE WAIT", "MODE WAIT",
	"AS INT|INTEGER|BIGINT|VARCHAR )|(",
	"PASSWORD (", "( VALUES (", "= VALUE (",
	"ENCODE|DECODE|ENCRYPT|DES_ENCRYPT|DES_DECRYPT (",
)

// returning lists the statements in which the words below are an error.
var returning = []string{"INSERT", "REPLACE", "DELETE", "UPDATE"}

// functions that MySQL does not have.
var functions = strings.Fields(`JSON_DETAILED JSON_LOOSE JSON_COMPACT JSON_EXISTS JSON_QUERY JSON_NORMALIZE JSON_EQUALS
	JSON_OBJECT_TO_ARRAY JSON_OBJECT_FILTER_KEYS JSON_ARRAY_INTERSECT JSON_KEY_VALUE NEXTVAL LASTVAL SETVAL
	TO_CHAR NATURAL_SORT_KEY SFORMAT ADD_MONTHS NVL NVL2 DECODE_ORACLE CHR LENGTHB KDF RANDOM_BYTES_HEX
	COLUMN_CREATE COLUMN_GET COLUMN_JSON SYS_GUID UUID_V4 UUID_V7 MEDIAN CRC32C`)

// variables of the server that MySQL does not have.
var variables = strings.Fields(`MAX_STATEMENT_TIME IDLE_TRANSACTION_TIMEOUT IDLE_WRITE_TRANSACTION_TIMEOUT
	IDLE_READONLY_TRANSACTION_TIMEOUT CHECK_CONSTRAINT_CHECKS SQL_IF_EXISTS TX_ISOLATION TX_READ_ONLY
	QUERY_CACHE_TYPE SYSTEM_VERSIONING_ALTER_HISTORY ANALYZE_MAX_LENGTH SECURE_TIMESTAMP`)

// modes of sql_mode that MySQL does not have.
var modes = strings.Fields(`NO_AUTO_CREATE_USER EMPTY_STRING_IS_NULL SIMULTANEOUS_ASSIGNMENT TIME_ROUND_FRACTIONAL
	ORACLE MSSQL POSTGRESQL DB2 MAXDB NO_KEY_OPTIONS NO_TABLE_OPTIONS NO_FIELD_OPTIONS IGNORE_BAD_TABLE_OPTIONS MYSQL323 MYSQL40`)

// types of columns that MySQL does not have, and those that take no default there.
var (
	types     = []string{"UUID", "INET4", "INET6", "XMLTYPE"}
	noDefault = strings.Split("TINYTEXT TEXT MEDIUMTEXT LONGTEXT TINYBLOB BLOB MEDIUMBLOB LONGBLOB JSON", " ")
)

// check returns the error that MySQL would return for a statement without comments.
func check(query string, tokens []token) error {
	if len(tokens) == 0 {
		return nil
	}
	verb := tokens[0].text
	parseError := func(at token) error {
		return failure(1064, "42000", "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the right syntax to use near '%.80s' at line %d",
			query[at.start:], 1+strings.Count(query[:at.start], "\n"))
	}
	if verb == "VALUES" && is(tokens, 1, "(") {
		return parseError(tokens[1])
	}
	definition := (verb == "CREATE" || verb == "ALTER") && slices.ContainsFunc(tokens, func(t token) bool { return t.kind == word && t.text == "TABLE" })
	depth, setsMode := 0, false
	for i, t := range tokens {
		for _, p := range syntax {
			if p.matches(tokens[i:]) {
				return parseError(tokens[i+len(p)-1])
			}
		}
		switch {
		case t.text == "(" && t.kind == mark:
			depth++
		case t.text == ")" && t.kind == mark:
			depth--
		case t.kind == literal && setsMode:
			for mode := range strings.SplitSeq(strings.ToUpper(strings.Trim(t.text, `'"`)), ",") {
				if slices.Contains(modes, mode) {
					return failure(1231, "42000", "Variable 'sql_mode' can't be set to the value of '%s'", mode)
				}
			}
		}
		if t.kind != word {
			continue
		}
		name := strings.TrimPrefix(strings.TrimPrefix(t.text, "@@"), "SESSION.")
		setsMode = setsMode || verb == "SET" && name == "SQL_MODE"
		switch {
		case t.text == "RETURNING" && depth == 0 && slices.Contains(returning, verb):
			return parseError(t)
		case slices.Contains(functions, t.text) && is(tokens, i+1, "("):
			return failure(1305, "42000", "FUNCTION %s does not exist", strings.ToLower(t.text))
		case slices.Contains(variables, name) && (verb == "SET" || strings.HasPrefix(t.text, "@@")):
			return failure(1193, "HY000", "Unknown system variable '%s'", strings.ToLower(name))
		case strings.Contains(t.text, "UCA1400_") || strings.Contains(t.text, "_NOPAD_"):
			return failure(1273, "HY000", "Unknown collation: '%s'", strings.ToLower(t.text))
		case definition && slices.Contains(types, t.text) && !is(tokens, i+1, "(") && i > 0 && (tokens[i-1].kind == word || tokens[i-1].kind == quoted):
			return parseError(t)
		case definition && slices.Contains(noDefault, t.text) && hasDefault(tokens[i+1:]):
			return failure(1101, "42000", "BLOB, TEXT, GEOMETRY or JSON column '%s' can't have a default value", strings.Trim(tokens[i-1].text, "`"))
		case definition && t.text == "ARIA":
			return failure(1286, "42000", "Unknown storage engine 'Aria'")
		}
	}
	return nil
}

// hasDefault reports whether a constant default follows before the column ends.
func hasDefault(tokens []token) bool {
	for i, t := range tokens {
		switch {
		case t.kind == mark && (t.text == "," || t.text == ")"):
			return false
		case t.kind == word && t.text == "DEFAULT":
			return i+1 < len(tokens) && tokens[i+1].text != "(" && tokens[i+1].text != "NULL"
		}
	}
	return false
}

func is(tokens []token, i int, text string) bool { return i < len(tokens) && tokens[i].text == text }

// pattern is a row of choices.
type pattern [][]string

func patterns(texts ...string) (all []pattern) {
	for _, text := range texts {
		var p pattern
		for choices := range strings.FieldsSeq(text) {
			p = append(p, strings.Split(choices, "|"))
		}
		all = append(all, p)
	}
	return all
}

// matches reports whether a row of tokens begins like this.
func (p pattern) matches(tokens []token) bool {
	if len(tokens) < len(p) {
		return false
	}
	for i, choices := range p {
		if t := tokens[i]; t.kind != word && t.kind != mark || !slices.Contains(choices, t.text) {
			return false
		}
	}
	return true
}

// failure is an error of the server.
func failure(number uint16, state, format string, args ...any) error {
	e := &mysql.MySQLError{Number: number, Message: fmt.Sprintf(format, args...)}
	copy(e.SQLState[:], state)
	return e
}
