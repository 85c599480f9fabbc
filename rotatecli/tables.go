package rotatecli

import (
	"context"
	"database/sql"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

type tablesCmd struct {
	Dialect string `placeholder:"NAME" enum:",postgres,mysql,sqlite" default:"" help:"postgres, mysql (and MariaDB) or sqlite. Without it: the dialect of the configured database."`
	Create  bool   `help:"Create the tables in the configured database, or add what those of an older release lack, instead of printing."`
}

func (tablesCmd) Help() string {
	return `Prints the SQL of all tables that the library keeps its own state in: rotations,
attachments, audits and branch keys. Examples:

  tables --dialect postgres > migrations/20260102_kms_tables.sql
  tables --create`
}

// ownTables are the packages that have tables.
var ownTables = []struct {
	what       string
	statements func(field.Dialect) ([]string, error)
	create     func(context.Context, *sql.DB, field.Dialect) error
}{
	{"rotations", sqlstore.Tables, sqlstore.CreateTables},
	{"attached files", attach.Tables, attach.CreateTables},
	{"audits", audit.Tables, audit.CreateTables},
	{"branch keys", branch.Tables, createBranchTables},
}

// createBranchTables makes a key store with the usual limits.
func createBranchTables(ctx context.Context, db *sql.DB, d field.Dialect) error {
	return branch.CreateTables(ctx, db, d, branch.Limits{})
}

func (c *tablesCmd) Run(ctx context.Context, s *Session) error {
	if c.Create {
		return c.create(ctx, s)
	}
	dialect := field.Dialect(c.Dialect)
	if dialect == "" {
		d, err := s.Database(ctx)
		if err != nil {
			return err
		}
		dialect = d.Dialect
	}
	printed := make(map[string]bool) // kms_tables is in each
	for _, own := range ownTables {
		statements, err := own.statements(dialect)
		if err != nil {
			return err
		}
		s.printf("-- %s\n", own.what)
		for _, statement := range statements {
			if !printed[statement] {
				s.printf("%s;\n", statement)
			}
			printed[statement] = true
		}
	}
	return nil
}

func (c *tablesCmd) create(ctx context.Context, s *Session) error {
	d, err := s.Database(ctx)
	if err != nil {
		return err
	}
	var ready []string
	for _, own := range ownTables {
		if err := own.create(ctx, d.DB, d.Dialect); err != nil {
			return err
		}
		ready = append(ready, own.what)
	}
	s.printf("ready: the tables of %s\n", strings.Join(ready, ", "))
	return nil
}
