// Package tables defines the database tables that this module keeps its own
// state in, such as kms_rotations: it writes their DDL, creates them and upgrades
// them in place.
//
// Tables that belong together are a [Set] with one version, which the table
// kms_tables records. A new version only adds: tables, indexes, and columns that
// may be NULL or have a default. Every statement of this module names the columns
// it uses, so an older release keeps working on upgraded tables while a newer one
// runs next to it.
package tables

import (
	"fmt"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// Set is a set of tables that are created and upgraded together.
type Set struct {
	Name   string  // in kms_tables
	Tables []Table // in the order of their creation
}

// Table is the definition of a table. The placeholder {name} is the type of a
// short text that may be a key and is compared byte by byte. {exact} is a text of at
// most 255 bytes that is compared so in MySQL too, where {name} ignores spaces at the end,
// and where it is a column of bytes. {text}, {number},
// {fraction}, {serial} and {time} are the other types of the database.
type Table struct {
	Name    string
	Since   int      // version of the set that added the table; 0 means 1
	Body    []string // columns and constraints of the first version
	Added   []Column // by later versions
	Indexes []Index
}

// Column is a column that a later version of the set added.
type Column struct {
	Since int
	Name  string
	Type  string // with a default, or nullable
}

// Index is an index in addition to those in the body of the table.
type Index struct {
	Since   int // 0 means 1
	Name    string
	Columns string
	Unique  bool // NULL is not equal to NULL
}

// Version is the version of the set that this release knows, from 1.
func (s Set) Version() int {
	version := 1
	for _, t := range s.Tables {
		version = max(version, t.Since)
		for _, c := range t.Added {
			version = max(version, c.Since)
		}
		for _, x := range t.Indexes {
			version = max(version, x.Since)
		}
	}
	return version
}

// Registry is the name of the table that records the version of each set.
const Registry = "kms_tables"

var registry = Table{Name: Registry, Body: []string{"name {name} NOT NULL PRIMARY KEY", "version {number} NOT NULL"}}

// types are those of the columns, by the names that stand for them.
var types = map[sqldialect.Dialect]*strings.Replacer{
	sqldialect.Postgres: strings.NewReplacer("{name}", "text", "{exact}", `text COLLATE "C"`, "{text}", "text", "{number}", "bigint", "{fraction}", "double precision",
		"{serial}", "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "{time}", "timestamp with time zone"),
	sqldialect.MySQL: strings.NewReplacer("{name}", "varchar(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "{exact}", "varbinary(255)", "{text}", "longtext CHARACTER SET utf8mb4",
		"{number}", "bigint", "{fraction}", "double precision", "{serial}", "bigint NOT NULL AUTO_INCREMENT PRIMARY KEY", "{time}", "datetime(6)"),
	sqldialect.SQLite: strings.NewReplacer("{name}", "text", "{exact}", "text", "{text}", "text", "{number}", "integer", "{fraction}", "double precision",
		"{serial}", "integer PRIMARY KEY AUTOINCREMENT", "{time}", "text"),
}

// DDL returns the statements that create the newest tables of the set in a
// database that has none of them, and record their version. Statements that are
// run again change nothing. The error is [kmsencrypted.ErrConfig] for an unknown
// dialect.
func (s Set) DDL(d sqldialect.Dialect) ([]string, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	types := types[d]
	statements := []string{types.Replace(registry.create())}
	for _, t := range s.Tables {
		statements = append(statements, types.Replace(t.create()))
		for _, x := range t.Indexes {
			statements = append(statements, x.create(d, t.Name))
		}
	}
	return append(statements, s.record()), nil
}

// DDL returns the statements of several sets, each once.
func DDL(d sqldialect.Dialect, sets ...Set) (all []string, err error) {
	for i, s := range sets {
		statements, err := s.DDL(d)
		if err != nil {
			return nil, err
		}
		all = append(all, statements[min(i, 1):]...) // kms_tables comes first in each
	}
	return all, nil
}

// create is the statement for the newest form of the table.
func (t Table) create() string {
	lines := make([]string, 0, len(t.Body)+len(t.Added))
	columns := 0
	for columns < len(t.Body) && !isConstraint(t.Body[columns]) {
		columns++
	}
	lines = append(lines, t.Body[:columns]...)
	for _, c := range t.Added {
		lines = append(lines, c.definition())
	}
	lines = append(lines, t.Body[columns:]...) // constraints come last in every database
	return "CREATE TABLE IF NOT EXISTS " + t.Name + " (\n\t" + strings.Join(lines, ",\n\t") + "\n)"
}

func isConstraint(line string) bool {
	return strings.HasPrefix(line, "PRIMARY KEY") || strings.HasPrefix(line, "UNIQUE")
}

func (c Column) definition() string { return c.Name + " " + c.Type }

// create is the statement for an index. MySQL has no IF NOT EXISTS for one.
func (x Index) create(d sqldialect.Dialect, table string) string {
	ifMissing := "IF NOT EXISTS "
	if d == sqldialect.MySQL {
		ifMissing = ""
	}
	unique := ""
	if x.Unique {
		unique = "UNIQUE "
	}
	return fmt.Sprintf("CREATE %sINDEX %s%s ON %s (%s)", unique, ifMissing, x.Name, table, x.Columns)
}

// record returns the statement that records the version of new tables. All three
// databases accept a SELECT from one row in this form.
func (s Set) record() string {
	return fmt.Sprintf("INSERT INTO %[1]s (name, version) SELECT '%[2]s', %[3]d FROM (SELECT 1 AS one) AS one WHERE NOT EXISTS (SELECT 1 FROM %[1]s WHERE name = '%[2]s')",
		Registry, s.Name, s.Version())
}
