package sqldialect

import (
	"database/sql/driver"
	"reflect"
	"slices"
	"strings"
)

// drivers are the drivers of database/sql that are known.
var drivers = []struct {
	dialect Dialect
	names   []string // that they are registered under, the usual one first
	paths   []string // what the import paths of their packages contain
}{
	{Postgres, []string{"pgx", "pgx/v5", "postgres", "cloudsqlpostgres", "nrpostgres", "nrpgx"}, []string{"pgx", "lib/pq"}},
	{MySQL, []string{"mysql", "nrmysql"}, []string{"mysql"}},
	{SQLite, []string{"sqlite", "sqlite3", "nrsqlite3"}, []string{"sqlite"}},
}

// DriverName returns the usual name of a driver for the dialect.
func (d Dialect) DriverName() string {
	for _, known := range drivers {
		if known.dialect == d {
			return known.names[0]
		}
	}
	return ""
}

// OfDriverName returns the dialect for the name of a driver, if it is known.
func OfDriverName(name string) (d Dialect, ok bool) {
	for _, known := range drivers {
		if slices.Contains(known.names, name) {
			return known.dialect, true
		}
	}
	return "", false
}

// OfDriver returns the dialect for a driver, by the package of its type, if it is
// known.
func OfDriver(one driver.Driver) (d Dialect, ok bool) {
	kind := reflect.TypeOf(one)
	for kind != nil && kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	if kind == nil {
		return "", false
	}
	for _, known := range drivers {
		if slices.ContainsFunc(known.paths, func(part string) bool { return strings.Contains(kind.PkgPath(), part) }) {
			return known.dialect, true
		}
	}
	return "", false
}
