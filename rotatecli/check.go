package rotatecli

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted/field"
)

type checkCmd struct {
	tablesFlag
	Constraints bool `help:"Also print the SQL of the constraints that are missing."`
}

func (checkCmd) Help() string {
	return `Compares each model with its table in the database: columns that are missing,
columns that look encrypted and are not the model's (a rekey would lose them),
columns whose type or length does not hold what the model writes, and whether the
constraint is there by which the database refuses plaintext. Where a key column has
a limited length, one data key is wrapped under the current version, to measure it.
Exit codes: 0 in order, 2 not so.`
}

// finding is one result of a check.
type finding struct {
	bad  bool // otherwise it is advice
	text string
}

func (c *checkCmd) Run(ctx context.Context, s *Session) error {
	d, err := s.Database(ctx)
	if err != nil {
		return err
	}
	bad := false
	for _, m := range d.Models {
		model := m.Dynamic().Adapter()
		if len(c.Table) > 0 && !has(c.Table, model.Table()) {
			continue
		}
		findings, err := d.check(ctx, model, optionsOf(m).Independent)
		if err != nil {
			return fmt.Errorf("%s: %w", model.Table(), err)
		}
		if len(findings) == 0 {
			s.printf("%s  in order\n", model.Table())
		}
		for _, f := range findings {
			mark := "-"
			if f.bad {
				mark, bad = "!", true
			}
			s.printf("%s  %s %s\n", model.Table(), mark, f.text)
		}
		if c.Constraints && !model.KeysOnly() {
			constraint, err := model.CheckConstraint(d.Dialect)
			if err != nil {
				return err
			}
			s.printf("ALTER TABLE %s ADD %s;\n", model.Table(), constraint)
		}
	}
	for _, name := range c.Table {
		if !slices.ContainsFunc(d.Models, func(m field.AnyModel) bool { return m.Table() == name }) {
			return usage("no table %s", name)
		}
	}
	if bad {
		return exit{ExitFailures}
	}
	return nil
}

// check compares a model with its table.
func (d *Database) check(ctx context.Context, model field.Adapter[any], independent []string) (findings []finding, err error) {
	columns, err := d.columns(ctx, model.Table())
	if err != nil {
		return nil, err
	}
	say := func(bad bool, format string, args ...any) {
		findings = append(findings, finding{bad, fmt.Sprintf(format, args...)})
	}
	known := slices.Concat(model.IDColumns(), model.Columns())
	for _, column := range known {
		if !has(columns, column) {
			say(true, "the model's column %s is not in the table", column)
		}
	}
	for _, column := range columns {
		switch {
		case !field.LooksEncrypted(column), has(known, column), has(independent, column):
		case model.KeysOnly():
			say(false, "%s is not declared: the table can be rewrapped, not rekeyed", column)
		default:
			say(true, "%s looks encrypted and is not the model's: a rekey refuses to run, because it would lose it", column)
		}
	}
	if len(model.IDColumns()) == 0 {
		say(true, "the model has no primary key: nothing can be rotated")
	}
	narrow, err := d.misfits(ctx, model)
	if err != nil {
		return nil, err
	}
	findings = append(findings, narrow...)
	constrained, err := d.isConstrained(ctx, model.Table())
	if err != nil {
		return nil, err
	}
	if !constrained && !model.KeysOnly() {
		say(false, "no constraint keeps plaintext out: check --constraints prints it")
	}
	return findings, nil
}

func (d *Database) columns(ctx context.Context, name string) ([]string, error) {
	rows, err := d.DB.QueryContext(ctx, "SELECT * FROM "+d.Dialect.QuotedTable(name)+" WHERE 1 = 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return rows.Columns()
}

// constraints are the queries for the constraint of field.Model.CheckConstraint.
var constraints = map[field.Dialect]string{
	field.Postgres: "SELECT count(*) FROM pg_constraint WHERE conname = $1 AND conrelid = to_regclass($2)",
	field.MySQL:    "SELECT count(*) FROM information_schema.table_constraints WHERE constraint_type = 'CHECK' AND constraint_name = ? AND table_name = ? AND table_schema = database()",
	field.SQLite:   "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND sql LIKE '%CONSTRAINT%' || ? || '%' AND name = ?",
}

func (d *Database) isConstrained(ctx context.Context, table string) (bool, error) {
	var n int
	err := d.DB.QueryRowContext(ctx, constraints[d.Dialect], table+"_encrypted", table).Scan(&n)
	if err == sql.ErrNoRows {
		err = nil
	}
	return n > 0, err
}
