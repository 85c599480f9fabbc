package sqldialect

import (
	"strconv"
	"strings"
)

// Quoted is a name in quotes.
func (d Dialect) Quoted(name string) string { return inQuotes(name, dialects[d].quote) }

// Defined is a name in quotes as it stands in the definition of a table.
func (d Dialect) Defined(name string) string { return inQuotes(name, dialects[d].define) }

func inQuotes(name, quote string) string {
	return quote + strings.ReplaceAll(name, quote, quote+quote) + quote
}

// QuotedNames are names in quotes with commas between.
func (d Dialect) QuotedNames(names []string) string {
	s := d.Statement()
	s.Names(names)
	return s.String()
}

// QuotedTable is the name of a table in quotes; it may have a schema before a dot.
func (d Dialect) QuotedTable(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		parts[i] = d.Quoted(part)
	}
	return strings.Join(parts, ".")
}

// Same returns a comparison in which NULL equals NULL.
func (d Dialect) Same() string { return dialects[d].same }

// Now returns an expression for the milliseconds since 1970 by the clock of the
// database.
func (d Dialect) Now() string { return dialects[d].now }

// Lock ends a SELECT whose rows nobody else may change until the end of the transaction.
func (d Dialect) Lock() string { return dialects[d].lock }

// Placeholder is the one for the nth argument of a statement, from 1.
func (d Dialect) Placeholder(n int) string {
	if d != Postgres {
		return "?"
	}
	return "$" + strconv.Itoa(n)
}

// SQL completes a statement: it turns the marks ? into placeholders, of which
// there are no others, and {now} and {lock} into what the database calls so. An
// INSERT or UPDATE is strict.
func (d Dialect) SQL(query string) string {
	query = d.Strict(query)
	query = strings.NewReplacer("{now}", d.Now(), "{lock}", d.Lock()).Replace(query)
	s := d.Statement()
	for {
		before, after, found := strings.Cut(query, "?")
		s.Add(before)
		if !found {
			return s.String()
		}
		s.Mark()
		query = after
	}
}
