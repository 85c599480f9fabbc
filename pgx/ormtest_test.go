package kmspgx_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/ormtest"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
)

// The suite of all adapters, in two of pgx's modes of execution.
func TestORMPostgres(t *testing.T) {
	t.Parallel()
	ormtest.Run(t, ormtest.Postgres, openORM(pgx.QueryExecModeCacheStatement))
}

func TestORMPostgresSimpleProtocol(t *testing.T) {
	t.Parallel()
	ormtest.Run(t, ormtest.Postgres, openORM(pgx.QueryExecModeSimpleProtocol))
}

func openORM(mode pgx.QueryExecMode) ormtest.Open {
	return func(t testing.TB, e *ormtest.Env) ormtest.Library {
		db := connect(t, e.DSN, mode)
		const set = "UPDATE people SET email_ciphertext = "
		return ormtest.Library{
			DB: ormDB{db, e.Model(t)},
			Absent: map[ormtest.Path]string{
				ormtest.UpdateByMap:    "pgx makes no statements",
				ormtest.UpdateOfColumn: "pgx makes no statements",
				ormtest.UpdateWithout:  "pgx has no hooks",
				ormtest.CreateByMap:    "pgx makes no statements",
				ormtest.UpsertAssigns:  "pgx makes no statements",
			},
			Forms: []ormtest.Form{
				{Path: ormtest.Exec, Name: "Exec with a field", Do: func(ctx context.Context, _ ormtest.Record, plaintext string) error {
					_, err := db.Exec(ctx, set+"$1", field.New(plaintext))
					return err
				}},
				{Path: ormtest.Exec, Name: "Exec with a text", Wall: true, Do: func(ctx context.Context, _ ormtest.Record, plaintext string) error {
					_, err := db.Exec(ctx, set+"$1", plaintext)
					return err
				}},
				{Path: ormtest.NamedMap, Name: "names and a field", Do: func(ctx context.Context, _ ormtest.Record, plaintext string) error {
					_, err := db.Exec(ctx, set+"@email", pgx.NamedArgs{"email": field.New(plaintext)})
					return err
				}},
				{Path: ormtest.TableByName, Name: "CopyFrom of a field", Do: func(ctx context.Context, _ ormtest.Record, plaintext string) error {
					_, err := db.CopyFrom(ctx, pgx.Identifier{"people"}, []string{"tenant_id", "name", "note", "email_ciphertext"},
						pgx.CopyFromRows([][]any{{"a", "x", "", field.New(plaintext)}}))
					return err
				}},
				{Path: ormtest.CiphertextAsRow, Name: "RowTo a text", Read: func(ctx context.Context, id int64) (any, error) {
					rows, _ := db.Query(ctx, "SELECT email_ciphertext FROM people WHERE id = $1", id)
					return pgx.CollectRows(rows, pgx.RowTo[string])
				}},
				{Path: ormtest.CiphertextAsRow, Name: "RowToMap", Read: func(ctx context.Context, id int64) (any, error) {
					rows, _ := db.Query(ctx, "SELECT * FROM people WHERE id = $1", id)
					return pgx.CollectRows(rows, pgx.RowToMap)
				}},
			},
		}
	}
}

// ormDB is this package for the suite of all libraries.
type ormDB struct {
	db kmspgx.DB
	m  *field.Model[ormtest.Person]
}

func (d ormDB) New(id int64, v ormtest.Values) ormtest.Record {
	return ormtest.RecordOf(ormtest.NewPerson(id, v))
}

func (d ormDB) Insert(ctx context.Context, rows ...ormtest.Record) error {
	return kmspgx.Insert(ctx, d.db, d.m, ormtest.People(rows)...)
}

func (d ormDB) Find(ctx context.Context, id int64) (ormtest.Record, error) {
	return d.FindOnly(ctx, id, "*")
}

func (d ormDB) FindOnly(ctx context.Context, id int64, columns ...string) (ormtest.Record, error) {
	rows, _ := kmspgx.Query(ctx, d.db, "SELECT "+strings.Join(columns, ", ")+" FROM people WHERE id = $1", id)
	p, err := kmspgx.CollectOneRow(ctx, rows, d.m)
	return ormtest.RecordOf(&p), err
}

func (d ormDB) list(ctx context.Context, where string, args ...any) ([]ormtest.Record, error) {
	rows, _ := kmspgx.Query(ctx, d.db, "SELECT * FROM people "+where+" ORDER BY id", args...)
	list, err := kmspgx.CollectRows(ctx, rows, d.m)
	return ormtest.Records(field.Pointers(list)), err
}

func (d ormDB) All(ctx context.Context) ([]ormtest.Record, error) { return d.list(ctx, "") }

func (d ormDB) Lookup(ctx context.Context, name, value string) ([]ormtest.Record, error) {
	l := d.m.Lookup(name, value)
	return d.list(ctx, "WHERE "+l.Name+" = ANY($1)", l)
}

func (d ormDB) Update(ctx context.Context, r ormtest.Record) error {
	return kmspgx.Update(ctx, d.db, d.m, ormtest.PersonOf(r), "*")
}

func (d ormDB) UpdateOnly(ctx context.Context, r ormtest.Record, columns ...string) error {
	return kmspgx.Update(ctx, d.db, d.m, ormtest.PersonOf(r), columns...)
}

func (d ormDB) Rename(ctx context.Context, id int64, name string) error {
	return kmspgx.Update(ctx, d.db, d.m, &ormtest.Person{ID: id, Name: name}, "name")
}

func (d ormDB) Delete(ctx context.Context, r ormtest.Record) error {
	return kmspgx.Delete(ctx, d.db, d.m, ormtest.PersonOf(r))
}

func (d ormDB) Transaction(ctx context.Context, f func(ormtest.DB) error) error {
	return pgx.BeginFunc(ctx, d.db.(*pgxpool.Pool), func(tx pgx.Tx) error { return f(ormDB{tx, d.m}) })
}
