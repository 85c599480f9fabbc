package programs

import (
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// The tenant of a record is in its encryption context and in a plain column. Some
// columns keep another text than they were given: there a program is told, or nothing
// that it wrote opens.

// tenantKind is a column for tenants.
type tenantKind struct {
	// tenants, of which some only just differ and the last is more than the column takes.
	tenants []string
	// spelled is the same text for two tenants between which the column makes no
	// difference, in what it keeps.
	spelled func(string) string
	// column and trigger define it, by the name of the server or else its dialect.
	column, trigger map[string]string
}

const tooLong = "tenant of many letters"

func padded(tenant string) string { return tenant + strings.Repeat(" ", 12-len(tenant)) }

func trimmed(tenant string) string { return strings.TrimRight(tenant, " ") }

func asItIs(tenant string) string { return tenant }

var varchar = map[string]string{"": "varchar(12)"}

var tenantKinds = map[string]tenantKind{
	"varchar": {tenants: []string{"a", "b", "A", tooLong}, spelled: asItIs, column: varchar},
	"char":    {tenants: []string{"a", "b", padded("a"), padded("b"), tooLong}, spelled: trimmed, column: map[string]string{"": "char(12)"}},
	"uuid": {
		tenants: []string{"123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000", "ffffffff-ffff-ffff-ffff-ffffffffffff", strings.Repeat(tooLong, 2)},
		spelled: strings.ToLower,
		column:  map[string]string{"": "uuid", "MySQLish": "char(36)", "SQLite": "varchar(36) COLLATE NOCASE"},
	},
	"changed": {tenants: []string{"a", "b", "A", tooLong}, spelled: strings.ToLower, column: varchar, trigger: map[string]string{
		"SQLite": `
			CREATE TRIGGER new_tenant AFTER INSERT ON records BEGIN UPDATE records SET tenant = lower(tenant) WHERE rowid = NEW.rowid; END;
			CREATE TRIGGER other_tenant AFTER UPDATE ON records BEGIN UPDATE records SET tenant = lower(tenant) WHERE rowid = NEW.rowid; END`,
		"Postgres": `
			CREATE OR REPLACE FUNCTION lower_tenant() RETURNS trigger AS $$ BEGIN NEW.tenant := lower(NEW.tenant); RETURN NEW; END $$ LANGUAGE plpgsql;
			CREATE TRIGGER tenant BEFORE INSERT OR UPDATE ON records FOR EACH ROW EXECUTE FUNCTION lower_tenant()`,
		"": `
			CREATE TRIGGER new_tenant BEFORE INSERT ON records FOR EACH ROW SET NEW.tenant = lower(NEW.tenant);
			CREATE TRIGGER other_tenant BEFORE UPDATE ON records FOR EACH ROW SET NEW.tenant = lower(NEW.tenant)`,
	}},
}

// of is what a definition says for a server.
func (s server) of(definition map[string]string) string {
	if d, ok := definition[s.name]; ok {
		return d
	}
	return definition[""]
}

// triggers are the statements that make the triggers of a column.
func (s server) triggers(k tenantKind) []string {
	all := s.of(k.trigger)
	if all == "" || s.dialect == field.Postgres { // which takes several at once
		return slices.DeleteFunc([]string{all}, func(s string) bool { return s == "" })
	}
	var list []string
	for statement := range strings.SplitSeq(strings.TrimSpace(all), "\n") {
		list = append(list, statement)
	}
	return list
}

// allTenants are those of all kinds of columns.
func allTenants() (all []string) {
	for _, k := range tenantKinds {
		all = append(all, k.tenants...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
