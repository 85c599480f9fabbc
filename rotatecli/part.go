package rotatecli

import (
	"slices"
	"strings"
)

// check refuses what cannot mean the same for all tables.
func (f partFlags) check(tables []*table) error {
	switch {
	case f.Where != "" && f.Tenant != "":
		return usage("--where and --tenant exclude each other")
	case f.Where != "" && len(tables) > 1:
		return usage("--where is about the columns of one table: say which by --table")
	}
	for _, t := range tables {
		if _, err := f.of(t); err != nil {
			return err
		}
	}
	return nil
}

// of is the part of a table, as in [rotation.Options.Part].
func (f partFlags) of(t *table) (string, error) {
	if f.Tenant == "" {
		return f.Where, nil
	}
	columns := t.model.ContextColumns()
	column, value, named := strings.Cut(f.Tenant, "=")
	switch {
	case named && slices.Contains(columns, column):
	case len(columns) == 1:
		column, value = columns[0], f.Tenant
	case len(columns) == 0:
		return "", usage("--tenant: %s has no column tagged context: use --where", t.name)
	default:
		return "", usage("--tenant: %s has the columns %s: use --tenant COLUMN=VALUE", t.name, strings.Join(columns, ", "))
	}
	// How a database reads these between quotes depends on its settings.
	if strings.ContainsAny(value, "\\\x00") {
		return "", usage("--tenant: a value with a backslash: use --where")
	}
	compared, before, after := t.database.Dialect.Exact(t.database.Dialect.Quoted(column))
	return compared + " = " + before + "'" + strings.ReplaceAll(value, "'", "''") + "'" + after, nil
}
