package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/cmd/kmsencrypted/internal/starter"
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

// encryptedTables returns the tables with key columns.
func encryptedTables(ctx context.Context, db *sql.DB, dialect field.Dialect) ([]schemaTable, error) {
	all, err := starter.Tables(ctx, db, dialect)
	var with []schemaTable
	for _, table := range all {
		t := schemaTable{tableConfig: tableConfig{Table: table.Name}}
		for _, c := range table.Columns {
			t.add(c)
		}
		if len(t.Keys) > 0 {
			with = append(with, t)
		}
	}
	return with, err
}

func (t *schemaTable) add(c starter.Column) {
	switch {
	case c.Primary:
		t.ID = append(t.ID, c.Name)
	case strings.HasPrefix(c.Name, keyPrefix):
		k := keyConfig{Column: c.Name}
		if rest := strings.TrimPrefix(c.Name, keyPrefix); len(t.Keys) > 0 {
			k.Name = strings.TrimPrefix(rest, "_")
		}
		t.Keys = append(t.Keys, k)
	case field.LooksEncrypted(c.Name):
		t.columns = append(t.columns, c.Name)
	}
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
