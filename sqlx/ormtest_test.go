package kmssqlx_test

import (
	"context"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/ormtest"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

func TestORMSQLite(t *testing.T)   { t.Parallel(); ormtest.Run(t, ormtest.SQLite, openORM) }
func TestORMPostgres(t *testing.T) { t.Parallel(); ormtest.Run(t, ormtest.Postgres, openORM) }
func TestORMMariaDB(t *testing.T)  { t.Parallel(); ormtest.Run(t, ormtest.MariaDB, openORM) }
func TestORMMySQL(t *testing.T)    { t.Parallel(); ormtest.Run(t, ormtest.MySQL, openORM) }

func openORM(t testing.TB, e *ormtest.Env) ormtest.Library {
	db := sqlx.NewDb(e.SQL, e.Driver)
	const set = "UPDATE people SET email_ciphertext = :email_ciphertext"
	return ormtest.Library{
		DB: ormDB{db, e.Model(t)},
		Absent: map[ormtest.Path]string{
			ormtest.UpdateByMap:    "sqlx makes no statement of a map",
			ormtest.UpdateWithout:  "sqlx has no hooks",
			ormtest.CreateByMap:    "sqlx makes no statement of a map",
			ormtest.UpsertAssigns:  "sqlx makes no upsert",
			ormtest.TableByName:    "sqlx knows no table by its name",
			ormtest.UpdateOfColumn: "sqlx makes no update of a column",
		},
		Forms: []ormtest.Form{
			{Path: ormtest.NamedMap, Name: "NamedExec with a map of a field", Do: func(ctx context.Context, _ ormtest.Record, plaintext string) error {
				_, err := db.NamedExecContext(ctx, set, map[string]any{"email_ciphertext": field.New(plaintext)})
				return err
			}},
			{Path: ormtest.NamedMap, Name: "NamedExec with a struct", Do: func(ctx context.Context, r ormtest.Record, plaintext string) error {
				r.SetEmail(&plaintext)
				_, err := db.NamedExecContext(ctx, set, ormtest.PersonOf(r))
				return err
			}},
			{Path: ormtest.NamedMap, Name: "NamedExec with a map of a text", Wall: true, Do: func(ctx context.Context, _ ormtest.Record, plaintext string) error {
				_, err := db.NamedExecContext(ctx, set, map[string]any{"email_ciphertext": plaintext})
				return err
			}},
			{Path: ormtest.Exec, Name: "Exec with a field", Do: func(ctx context.Context, _ ormtest.Record, plaintext string) error {
				_, err := db.ExecContext(ctx, db.Rebind("UPDATE people SET email_ciphertext = ?"), field.New(plaintext))
				return err
			}},
			{Path: ormtest.Exec, Name: "Exec with a text", Wall: true, Do: func(ctx context.Context, _ ormtest.Record, plaintext string) error {
				_, err := db.ExecContext(ctx, db.Rebind("UPDATE people SET email_ciphertext = ?"), plaintext)
				return err
			}},
			{Path: ormtest.CiphertextAsRow, Name: "Select into texts", Read: func(ctx context.Context, id int64) (any, error) {
				var texts []string
				err := db.SelectContext(ctx, &texts, db.Rebind("SELECT email_ciphertext FROM people WHERE id = ?"), id)
				return texts, err
			}},
		},
	}
}

// ormDB is this package for the suite of all libraries.
type ormDB struct {
	db kmssqlx.Ext
	m  *field.Model[ormtest.Person]
}

func (d ormDB) New(id int64, v ormtest.Values) ormtest.Record {
	return ormtest.RecordOf(ormtest.NewPerson(id, v))
}

func (d ormDB) Insert(ctx context.Context, rows ...ormtest.Record) error {
	return kmssqlx.Insert(ctx, d.db, d.m, ormtest.People(rows)...)
}

func (d ormDB) Find(ctx context.Context, id int64) (ormtest.Record, error) {
	return d.FindOnly(ctx, id, "*")
}

func (d ormDB) FindOnly(ctx context.Context, id int64, columns ...string) (ormtest.Record, error) {
	p := new(ormtest.Person)
	list := columns[0]
	for _, c := range columns[1:] {
		list += ", " + c
	}
	err := kmssqlx.Get(ctx, d.db, d.m, p, "SELECT "+list+" FROM people WHERE id = ?", id)
	return ormtest.RecordOf(p), err
}

func (d ormDB) list(ctx context.Context, query string, args ...any) ([]ormtest.Record, error) {
	var list []ormtest.Person
	err := kmssqlx.Select(ctx, d.db, d.m, &list, "SELECT * FROM people "+query+" ORDER BY id", args...)
	return ormtest.Records(field.Pointers(list)), err
}

func (d ormDB) All(ctx context.Context) ([]ormtest.Record, error) { return d.list(ctx, "") }

func (d ormDB) Lookup(ctx context.Context, name, value string) ([]ormtest.Record, error) {
	l := d.m.Lookup(name, value)
	return d.list(ctx, "WHERE "+l.Name+" IN (?)", l)
}

func (d ormDB) Update(ctx context.Context, r ormtest.Record) error {
	return kmssqlx.Update(ctx, d.db, d.m, ormtest.PersonOf(r), "*")
}

func (d ormDB) UpdateOnly(ctx context.Context, r ormtest.Record, columns ...string) error {
	return kmssqlx.Update(ctx, d.db, d.m, ormtest.PersonOf(r), columns...)
}

func (d ormDB) Rename(ctx context.Context, id int64, name string) error {
	return kmssqlx.Update(ctx, d.db, d.m, &ormtest.Person{ID: id, Name: name}, "name")
}

func (d ormDB) Delete(ctx context.Context, r ormtest.Record) error {
	return kmssqlx.Delete(ctx, d.db, d.m, ormtest.PersonOf(r))
}

func (d ormDB) Transaction(ctx context.Context, f func(ormtest.DB) error) error {
	tx, err := d.db.(*sqlx.DB).BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(ormDB{tx, d.m}); err != nil {
		return err
	}
	return tx.Commit()
}
