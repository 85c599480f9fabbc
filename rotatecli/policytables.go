package rotatecli

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/tables"
)

// granting makes the GRANTs of a role.
type granting struct {
	database *Database
	role, to string
	lines    []permission
}

// ownRight is the right of a role on a table of the library.
type ownRight struct {
	roles       []string
	verb, table string
	loses       []string
}

var (
	ops       = []string{roleOps}
	app       = []string{roleApp}
	forgets   = []string{"Store.Forget"}
	runs      = []string{"rotate run"} // it asks for all that it needs before it begins
	readsRuns = []string{"rotate run", "rotate status", "rotate history", "rotate pause", "rotate verify", "versions retire"}
)

// ownRights are those on the tables of the library, of which a database has what it uses.
var ownRights = []ownRight{
	{ops, "SELECT", "kms_rotations", append(readsRuns[:6:6], "rotate heal", "rotate clear-journal")},
	{ops, "INSERT", "kms_rotations", runs},
	{ops, "UPDATE", "kms_rotations", []string{"rotate run", "rotate pause", "rotate verify"}},
	{ops, "SELECT", "kms_rotation_shards", readsRuns},
	{ops, "INSERT", "kms_rotation_shards", runs},
	{ops, "UPDATE", "kms_rotation_shards", runs},
	{ops, "SELECT", "kms_rotation_failures", runs},
	{ops, "INSERT", "kms_rotation_failures", runs},
	{ops, "DELETE", "kms_rotation_failures", runs},
	{ops, "SELECT", "kms_rotation_journal", []string{"rotate run", "rotate heal", "rotate clear-journal", "versions retire"}},
	{ops, "INSERT", "kms_rotation_journal", runs},
	{ops, "DELETE", "kms_rotation_journal", []string{"rotate run", "rotate clear-journal"}},
	{ops, "SELECT", "kms_rate_limits", []string{"--kms-rate"}},
	{ops, "INSERT", "kms_rate_limits", []string{"--kms-rate"}},
	{ops, "UPDATE", "kms_rate_limits", []string{"--kms-rate"}},
	{ops, "SELECT", "kms_tables", runs},
	{app, "SELECT", "kms_rotations", forgets},
	{app, "SELECT", "kms_rotation_journal", forgets},
	{app, "DELETE", "kms_rotation_journal", forgets},
	{app, "SELECT", "kms_rotation_failures", forgets},
	{app, "DELETE", "kms_rotation_failures", forgets},
	{[]string{roleApp, roleReader}, "INSERT", "kms_audits", []string{"audit.Log", "audit.Open"}},
	{[]string{roleApp, roleReader}, "SELECT", "kms_audits", []string{"audit.Open"}},
	{ops, "INSERT", "kms_audits", []string{"open"}},
	{ops, "SELECT", "kms_audits", []string{"open", "audit verify"}},
}

func (g *granting) all(ctx context.Context) ([]permission, error) {
	for _, m := range g.database.Models {
		if err := g.model(ctx, m.Table(), m.Dynamic().Adapter()); err != nil {
			return nil, err
		}
	}
	for _, r := range ownRights {
		if !slices.Contains(r.roles, g.role) {
			continue
		}
		there, err := tables.Columns(ctx, g.database.DB, g.database.Dialect, r.table)
		if err != nil {
			return nil, err
		}
		if len(there) > 0 || g.role == roleOps {
			g.grant(r.verb, r.table, r.loses...)
		}
	}
	return g.lines, g.server(ctx)
}

func (g *granting) grant(right, on string, loses ...string) {
	line := fmt.Sprintf("GRANT %s ON %s TO %s;", right, g.database.Dialect.QuotedTable(on), g.to)
	g.lines = append(g.lines, permission{line, loses})
}

// model grants the rights on the table of a model.
func (g *granting) model(ctx context.Context, table string, m field.Adapter[any]) error {
	read, insert, change, remove := "read "+table, "insert "+table, "change "+table, "delete "+table
	id, err := g.id(ctx, table, m)
	if err != nil {
		return err
	}
	switch g.role {
	case roleApp:
		g.grant("SELECT", table, id.withInsert(id.isReadBack, insert, read, change, remove)...)
		g.grant("INSERT", table, insert)
		g.grant("UPDATE", table, id.withInsert(id.isUpdated, insert, change)...)
		g.grant("DELETE", table, remove)
	case roleReader:
		g.grant("SELECT", table, read)
	case roleWriter:
		// What it cannot decrypt it need not see. In MariaDB and MySQL an UPDATE of the
		// library reads what it writes.
		visible := "SELECT"
		if g.database.Dialect == field.Postgres {
			visible += g.columns(slices.Concat(m.IDColumns(), m.ContextColumns(), m.KeyColumns()))
		}
		g.grant(visible, table, id.withInsert(id.isReadBack || id.isUpdated, insert, change)...)
		g.grant("INSERT", table, insert)
		g.grant("UPDATE", table, id.withInsert(id.isUpdated, insert, change)...)
	case roleOps:
		keys := m.KeyColumns()
		sealed := slices.DeleteFunc(slices.Clone(m.Columns()), func(c string) bool { return slices.Contains(keys, c) })
		rewrap, rekey := "rewrap "+table, "rekey "+table
		commands := "every command on " + table
		if g.database.Dialect == field.MySQL { // which hides a table's columns too
			commands = "every command"
		}
		g.grant("SELECT", table, commands)
		g.grant("UPDATE"+g.columns(keys), table, rewrap, rekey)
		if len(sealed) > 0 {
			g.grant("UPDATE"+g.columns(sealed), table, rekey)
		}
	}
	if id.sequence != "" && (g.role == roleApp || g.role == roleWriter) {
		g.lines = append(g.lines, permission{fmt.Sprintf("GRANT USAGE ON SEQUENCE %s TO %s;", id.sequence, g.to), []string{insert}})
	}
	return nil
}

// columns restricts a right to columns.
func (g *granting) columns(names []string) string {
	return " (" + g.database.Dialect.QuotedNames(names) + ")"
}

// idOf says what an insert does for the primary key beside the INSERT.
type idOf struct {
	isReadBack bool   // it compares what the database made of values that the record is bound to
	isUpdated  bool   // the database assigns the id, and only then can the columns be sealed
	sequence   string // of PostgreSQL that the id is taken from, and that is a right of its own
}

func (i idOf) withInsert(needed bool, insert string, others ...string) []string {
	if needed {
		return append(others, insert)
	}
	return others
}

func (g *granting) id(ctx context.Context, table string, m field.Adapter[any]) (id idOf, err error) {
	row := reflect.New(m.RowType()).Interface()
	id.isReadBack = len(m.ContextColumns()) > 0 || slices.ContainsFunc(m.IDValues(&row), func(v any) bool {
		value := reflect.ValueOf(v)
		return !value.CanInt() && !value.CanUint() // integers have one spelling
	})
	if len(m.IDColumns()) != 1 {
		return id, nil
	}
	query, into := "", any(&id.sequence)
	switch g.database.Dialect {
	case field.Postgres: // the sequence of an identity column is no right
		query = `SELECT coalesce(max(pg_get_serial_sequence($1::text, attname)), '') FROM pg_attribute
			WHERE attrelid = to_regclass($1::text) AND attname = $2::text AND attidentity = ''`
	case field.MySQL:
		query, into = "SELECT count(*) > 0 FROM information_schema.columns WHERE table_schema = database() AND table_name = ? AND column_name = ? AND extra LIKE '%auto_increment%'", &id.isUpdated
	}
	name := table
	if g.database.Dialect == field.Postgres {
		name = g.database.Dialect.QuotedTable(table)
	}
	return id, g.database.DB.QueryRowContext(ctx, query, name, m.IDColumns()[0]).Scan(into)
}

// server grants what is a right on the whole server: to see how busy it is.
func (g *granting) server(ctx context.Context) error {
	if g.role != roleOps {
		return nil
	}
	add := func(right, on string, loses ...string) {
		g.lines = append(g.lines, permission{fmt.Sprintf("GRANT %s%s TO %s;", right, on, g.to), loses})
	}
	if g.database.Dialect == field.Postgres {
		add("pg_monitor", "", "--max-connections", "--max-lag")
		return nil
	}
	var version string
	if err := g.database.DB.QueryRowContext(ctx, "SELECT version()").Scan(&version); err != nil {
		return err
	}
	lag := "REPLICATION CLIENT"
	if strings.Contains(version, "MariaDB") {
		lag = "SLAVE MONITOR"
	}
	add("PROCESS", " ON *.*", "--max-connections")
	add(lag, " ON *.*", "--max-lag")
	return nil
}
