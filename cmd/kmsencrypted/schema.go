package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

type schemaCmd struct {
	Driver string `required:"" enum:"postgres,mysql,sqlite" help:"postgres, mysql or sqlite."`
	DSNEnv string `name:"dsn-env" default:"DATABASE_URL" placeholder:"NAME" help:"The environment variable that holds the DSN (${default}); on the command line others would see its password."`
}

func (schemaCmd) Help() string {
	return `Looks for key columns ("encrypted_kms_key…") and prints a configuration file for
their tables, to be completed by hand: keys of versions, and the columns if a
table is to be rekeyed. Example:

  DATABASE_URL=postgres://… kmsencrypted schema --driver postgres > kmsencrypted.yaml`
}

// schemas are the queries for the columns of a database: table, column, part of the
// primary key.
var schemas = map[field.Dialect]string{
	field.Postgres: `SELECT c.relname, a.attname, coalesce(a.attnum = ANY (i.indkey), false)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
		WHERE c.relkind IN ('r', 'p') ORDER BY c.relname, a.attnum`,
	field.MySQL: `SELECT table_name, column_name, column_key = 'PRI' FROM information_schema.columns
		WHERE table_schema = database() ORDER BY table_name, ordinal_position`,
	field.SQLite: `SELECT m.name, p.name, p.pk > 0 FROM sqlite_master m JOIN pragma_table_info(m.name) p
		WHERE m.type = 'table' ORDER BY m.name, p.cid`,
}

func (c *schemaCmd) Run(ctx context.Context, s *rotatecli.Session) error {
	dsn := os.Getenv(c.DSNEnv)
	if dsn == "" {
		return fmt.Errorf("%w: the environment variable %s is not set", kmsencrypted.ErrConfig, c.DSNEnv)
	}
	db, dialect, err := databaseConfig{Driver: c.Driver, DSN: dsn}.open()
	if err != nil {
		return err
	}
	defer db.Close()
	tables, err := encryptedTables(ctx, db, dialect)
	if err != nil {
		return err
	}
	if len(tables) == 0 {
		return fmt.Errorf("%w: no table has a column encrypted_kms_key", kmsencrypted.ErrConfig)
	}
	return c.print(s, tables)
}

// schemaTable is a table with a key column.
type schemaTable struct {
	tableConfig
	columns []string // that look encrypted
}

func encryptedTables(ctx context.Context, db *sql.DB, dialect field.Dialect) ([]schemaTable, error) {
	rows, err := db.QueryContext(ctx, schemas[dialect])
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []schemaTable
	for rows.Next() {
		var table, column string
		var primary bool
		if err := rows.Scan(&table, &column, &primary); err != nil {
			return nil, err
		}
		if len(all) == 0 || all[len(all)-1].Table != table {
			all = append(all, schemaTable{tableConfig: tableConfig{Table: table}})
		}
		t := &all[len(all)-1]
		switch {
		case primary:
			t.ID = append(t.ID, column)
		case strings.HasPrefix(column, keyPrefix):
			k := keyConfig{Column: column}
			if rest := strings.TrimPrefix(column, keyPrefix); len(t.Keys) > 0 {
				k.Name = strings.TrimPrefix(rest, "_")
			}
			t.Keys = append(t.Keys, k)
		case field.LooksEncrypted(column):
			t.columns = append(t.columns, column)
		}
	}
	var with []schemaTable
	for _, t := range all {
		if len(t.Keys) > 0 {
			with = append(with, t)
		}
	}
	return with, rows.Err()
}

const keyPrefix = "encrypted_kms_key"

func (c *schemaCmd) print(s *rotatecli.Session, tables []schemaTable) error {
	file := config{
		Database:       databaseConfig{Driver: c.Driver, DSN: "${" + c.DSNEnv + "}"},
		versionsConfig: versionsConfig{Current: 1, Versions: map[int]versionConfig{1: {Key: "${KMS_KEY_ID}"}}},
	}
	for _, t := range tables {
		file.Tables = append(file.Tables, t.tableConfig)
	}
	text, err := yaml.Marshal(file)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Stdout, "%s", text)
	for _, t := range tables {
		if len(t.columns) > 0 {
			fmt.Fprintf(s.Stdout, "# %s can be rewrapped with this configuration. For a rekey declare its columns:\n#   columns:\n", t.Table)
		}
		for _, column := range t.columns {
			fmt.Fprintf(s.Stdout, "#     - {column: %s, type: string}\n", column)
		}
	}
	return nil
}
