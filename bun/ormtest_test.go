package kmsbun_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/mysqldialect"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"

	kmsbun "github.com/kmsencrypted/kmsencrypted/bun"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/ormtest"
)

func TestORMSQLite(t *testing.T)   { t.Parallel(); ormtest.Run(t, ormtest.SQLite, openORM) }
func TestORMPostgres(t *testing.T) { t.Parallel(); ormtest.Run(t, ormtest.Postgres, openORM) }
func TestORMMariaDB(t *testing.T)  { t.Parallel(); ormtest.Run(t, ormtest.MariaDB, openORM) }
func TestORMMySQL(t *testing.T)    { t.Parallel(); ormtest.Run(t, ormtest.MySQL, openORM) }

type person = ormtest.Person

// queryLog writes every query to the log of the suite, before and after.
type queryLog struct{ *ormtest.Log }

func (l queryLog) BeforeQuery(ctx context.Context, e *bun.QueryEvent) context.Context {
	l.Printf("before: %s %v", e.Query, e.QueryArgs)
	return ctx
}

func (l queryLog) AfterQuery(_ context.Context, e *bun.QueryEvent) {
	l.Printf("after: %s %v %v", e.Query, e.QueryArgs, e.Err)
}

func dialectFor(d field.Dialect) schema.Dialect {
	switch d {
	case field.Postgres:
		return pgdialect.New()
	case field.MySQL:
		return mysqldialect.New()
	default:
		return sqlitedialect.New()
	}
}

func openORM(t testing.TB, e *ormtest.Env) ormtest.Library {
	db := bun.NewDB(e.SQL, dialectFor(e.Dialect))
	m := e.Model(t)
	if err := kmsbun.Use(db, m); err != nil {
		t.Fatal(err)
	}
	db.AddQueryHook(queryLog{e.Log})
	return ormtest.Library{
		DB:     ormDB{db, m},
		Absent: map[ormtest.Path]string{ormtest.UpdateWithout: "bun has no update without hooks"},
		Forms:  ormForms(db),
	}
}

// ormForms are the ways around a record that bun has.
func ormForms(db *bun.DB) (forms []ormtest.Form) {
	type do func(ctx context.Context, p *person, plaintext string) error
	add := func(path ormtest.Path, name string, f do) {
		forms = append(forms, ormtest.Form{Path: path, Name: name, Do: func(ctx context.Context, r ormtest.Record, plaintext string) error {
			return f(ctx, ormtest.PersonOf(r), plaintext)
		}})
	}
	row := func(plaintext string) *map[string]any {
		return &map[string]any{"email_ciphertext": plaintext}
	}
	all := func() *bun.UpdateQuery { return db.NewUpdate().Model((*person)(nil)).Where("id > 0") }
	add(ormtest.UpdateByMap, "NewUpdate of a map", func(ctx context.Context, _ *person, plaintext string) error {
		_, err := db.NewUpdate().Model(row(plaintext)).TableExpr("people").Where("id > 0").Exec(ctx)
		return err
	})
	add(ormtest.UpdateOfColumn, "Set of many", func(ctx context.Context, _ *person, plaintext string) error {
		_, err := all().Set("email_ciphertext = ?", plaintext).Exec(ctx)
		return err
	})
	add(ormtest.UpdateOfColumn, "Set of one", func(ctx context.Context, p *person, plaintext string) error {
		_, err := db.NewUpdate().Model(p).Set("note = ?, email_ciphertext = ?", "x", plaintext).WherePK().Exec(ctx)
		return err
	})
	add(ormtest.UpdateOfColumn, "Set of a field", func(ctx context.Context, _ *person, plaintext string) error {
		_, err := all().Set("email_ciphertext = ?", field.New(plaintext)).Exec(ctx)
		return err
	})
	add(ormtest.UpdateOfColumn, "Set of a sealed field", func(ctx context.Context, p *person, _ string) error {
		_, err := all().Set("email_ciphertext = ?", p.Email).Exec(ctx)
		return err
	})
	add(ormtest.UpdateOfColumn, "Value", func(ctx context.Context, p *person, plaintext string) error {
		_, err := db.NewUpdate().Model(p).Value("email_ciphertext", "?", plaintext).WherePK().Exec(ctx)
		return err
	})
	add(ormtest.UpdateOfColumn, "Bulk", func(ctx context.Context, p *person, plaintext string) error {
		p.Email.Set(plaintext)
		_, err := db.NewUpdate().Model(&[]*person{p}).Column("email_ciphertext").Bulk().Exec(ctx)
		return err
	})
	add(ormtest.UpdateOfColumn, "context column", func(ctx context.Context, _ *person, _ string) error {
		_, err := all().Set("tenant_id = ?", "b").Exec(ctx)
		return err
	})
	add(ormtest.CreateByMap, "NewInsert of a map", func(ctx context.Context, _ *person, plaintext string) error {
		m := row(plaintext)
		(*m)["id"], (*m)["tenant_id"], (*m)["name"], (*m)["note"] = 9, "a", "x", ""
		_, err := db.NewInsert().Model(m).TableExpr("people").Exec(ctx)
		return err
	})
	add(ormtest.CreateByMap, "Value of an insert", func(ctx context.Context, _ *person, plaintext string) error {
		p := ormtest.NewPerson(9, ormtest.Values{Tenant: "a", Name: "x"})
		_, err := db.NewInsert().Model(p).Value("email_ciphertext", "?", plaintext).Exec(ctx)
		return err
	})
	upsert := " (id) DO UPDATE"
	on := "CONFLICT" + upsert
	if db.Dialect().Name().String() == "mysql" {
		on = "DUPLICATE KEY UPDATE"
	}
	add(ormtest.UpsertAssigns, "On with Set", func(ctx context.Context, p *person, plaintext string) error {
		other := ormtest.NewPerson(p.ID, ormtest.Values{Tenant: "a", Name: "x"})
		_, err := db.NewInsert().Model(other).On(on).Set("email_ciphertext = ?", plaintext).Exec(ctx)
		return err
	})
	add(ormtest.UpsertAssigns, "On", func(ctx context.Context, p *person, plaintext string) error {
		other := ormtest.NewPerson(p.ID, ormtest.Values{Tenant: "a", Name: "x", Email: &plaintext})
		_, err := db.NewInsert().Model(other).On(on).Exec(ctx)
		return err
	})
	add(ormtest.TableByName, "NewUpdate of a table", func(ctx context.Context, _ *person, plaintext string) error {
		_, err := db.NewUpdate().Table("people").Set("email_ciphertext = ?", plaintext).Where("id > 0").Exec(ctx)
		return err
	})
	type slim struct {
		bun.BaseModel   `bun:"table:people"`
		ID              int64 `bun:",pk"`
		EmailCiphertext string
	}
	add(ormtest.TableByName, "another struct", func(ctx context.Context, p *person, plaintext string) error {
		_, err := db.NewUpdate().Model(&slim{ID: p.ID, EmailCiphertext: plaintext}).WherePK().Exec(ctx)
		return err
	})
	for name, arg := range map[string]func(plaintext string) any{
		"a text":  func(plaintext string) any { return plaintext },
		"a field": func(plaintext string) any { return field.New(plaintext) },
	} {
		add(ormtest.Exec, "Exec with "+name, func(ctx context.Context, _ *person, plaintext string) error {
			_, err := db.ExecContext(ctx, "UPDATE people SET email_ciphertext = ?", arg(plaintext))
			return err
		})
		add(ormtest.Exec, "NewRaw with "+name, func(ctx context.Context, _ *person, plaintext string) error {
			return db.NewRaw("UPDATE people SET note = ?, email_ciphertext = ?", "x", arg(plaintext)).Scan(ctx, new(string))
		})
	}
	add(ormtest.Exec, "Exec of an INSERT", func(ctx context.Context, _ *person, plaintext string) error {
		_, err := db.ExecContext(ctx, "INSERT INTO people (tenant_id, name, note, email_ciphertext) VALUES ('a', 'x', '', ?)", plaintext)
		return err
	})
	add(ormtest.Exec, "Exec in a transaction", func(ctx context.Context, _ *person, plaintext string) error {
		return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE people SET email_ciphertext = ?", plaintext)
			return err
		})
	})
	add(ormtest.TableByName, "NewUpdate of a table after WITH", func(ctx context.Context, _ *person, plaintext string) error {
		_, err := db.NewUpdate().With("x", db.NewSelect().ColumnExpr("1 AS n")).Table("people").Set("email_ciphertext = ?", plaintext).Where("id > 0").Exec(ctx)
		return err
	})
	add(ormtest.TableByName, "NewUpdate of a table from values", func(ctx context.Context, p *person, plaintext string) error {
		_, err := db.NewUpdate().With("x", db.NewValues(&[]slim{{ID: p.ID, EmailCiphertext: plaintext}})).
			Table("people", "x").Set("email_ciphertext = x.email_ciphertext").Where("people.id = x.id").Exec(ctx)
		return err
	})
	add(ormtest.Exec, "Exec after WITH", func(ctx context.Context, _ *person, plaintext string) error {
		_, err := db.ExecContext(ctx, "WITH x AS (SELECT 1 AS n) UPDATE people SET email_ciphertext = ? WHERE id > 0", plaintext)
		return err
	})
	add(ormtest.Exec, "Exec with a comment", func(ctx context.Context, _ *person, plaintext string) error {
		_, err := db.ExecContext(ctx, "/* x */ UPDATE people SET email_ciphertext = ? WHERE id > 0", plaintext)
		return err
	})
	add(ormtest.NamedMap, "Set with names", func(ctx context.Context, _ *person, plaintext string) error {
		_, err := all().Set("email_ciphertext = ?email", struct{ Email string }{plaintext}).Exec(ctx)
		return err
	})
	for name, where := range conditions(db) {
		add(ormtest.Condition, "Delete where "+name, func(ctx context.Context, _ *person, plaintext string) error {
			_, err := db.NewDelete().Model((*person)(nil)).ApplyQueryBuilder(where(plaintext)).Exec(ctx)
			return err
		})
		add(ormtest.Condition, "Select where "+name, func(ctx context.Context, _ *person, plaintext string) error {
			return db.NewSelect().Model(&[]person{}).ApplyQueryBuilder(where(plaintext)).Scan(ctx)
		})
	}
	for name, query := range map[string]func(plaintext string) *bun.SelectQuery{
		"having": func(s string) *bun.SelectQuery {
			return db.NewSelect().Model(&[]person{}).Column("id").Group("id").Having("max(email_ciphertext) = ?", s)
		},
		"order": func(s string) *bun.SelectQuery {
			return db.NewSelect().Model(&[]person{}).OrderExpr("email_ciphertext = ? DESC", s)
		},
		"join": func(s string) *bun.SelectQuery {
			return db.NewSelect().Model(&[]person{}).Join("JOIN people AS c ON c.email_ciphertext = ?", s)
		},
		"alias": func(s string) *bun.SelectQuery {
			return db.NewSelect().TableExpr("people AS c").ColumnExpr("count(*)").Where("c.email_ciphertext = ?", s)
		},
		"a list of tables": func(s string) *bun.SelectQuery {
			return db.NewSelect().Table("others", "people").ColumnExpr("count(*)").Where("email_ciphertext = ?", s)
		},
		"union": func(s string) *bun.SelectQuery {
			return db.NewSelect().Model(&[]person{}).Column("id").Union(db.NewSelect().Model((*person)(nil)).Column("id").Where("email_ciphertext = ?", s))
		},
		"subquery in FROM": func(s string) *bun.SelectQuery {
			return db.NewSelect().TableExpr("(?) AS x", db.NewSelect().Model((*person)(nil))).ColumnExpr("count(*)").Where("x.email_ciphertext = ?", s)
		},
	} {
		add(ormtest.Condition, name, func(ctx context.Context, _ *person, plaintext string) error {
			return query(plaintext).Scan(ctx)
		})
	}
	read := func(name string, f func(ctx context.Context, id int64) (any, error)) {
		forms = append(forms, ormtest.Form{Path: ormtest.CiphertextAsRow, Name: name, Read: func(ctx context.Context, id int64) (any, error) {
			got, err := f(ctx, id)
			if err == nil {
				err = fmt.Errorf("it was read")
				return nil, fmt.Errorf("%w: %v", err, got != nil)
			}
			if !strings.Contains(err.Error(), "not opened") {
				return got, fmt.Errorf("another error: %w", err)
			}
			return got, err
		}})
	}
	read("a column into texts", func(ctx context.Context, id int64) (any, error) {
		var texts []string
		return texts, db.NewSelect().Model((*person)(nil)).Column("email_ciphertext").Where("id = ?", id).Scan(ctx, &texts)
	})
	read("a table into texts", func(ctx context.Context, id int64) (any, error) {
		var texts []string
		return texts, db.NewSelect().Table("people").Column("email_ciphertext").Where("id = ?", id).Scan(ctx, &texts)
	})
	read("a map", func(ctx context.Context, id int64) (any, error) {
		m := map[string]any{}
		return m, db.NewSelect().Table("people").Where("id = ?", id).Scan(ctx, &m)
	})
	read("another struct", func(ctx context.Context, id int64) (any, error) {
		var s slim
		return s, db.NewSelect().Model(&s).Where("id = ?", id).Scan(ctx)
	})
	read("records beside the model", func(ctx context.Context, id int64) (any, error) {
		var p []person
		return p, db.NewSelect().Model((*person)(nil)).Where("id = ?", id).Scan(ctx, &p)
	})
	return forms
}

// conditions are those in which a plaintext may meet a column.
func conditions(db *bun.DB) map[string]func(string) func(bun.QueryBuilder) bun.QueryBuilder {
	where := func(query string, args ...func(string) any) func(string) func(bun.QueryBuilder) bun.QueryBuilder {
		return func(plaintext string) func(bun.QueryBuilder) bun.QueryBuilder {
			var list []any
			for _, arg := range args {
				list = append(list, arg(plaintext))
			}
			return func(q bun.QueryBuilder) bun.QueryBuilder { return q.Where(query, list...) }
		}
	}
	text := func(s string) any { return s }
	return map[string]func(string) func(bun.QueryBuilder) bun.QueryBuilder{
		"text":     where("email_ciphertext = ?", text),
		"quoted":   where(`? = ?`, func(string) any { return bun.Ident("email_ciphertext") }, text),
		"reversed": where("? = email_ciphertext", text),
		"function": where("lower(email_ciphertext) = ?", text),
		"bytes":    where("email_ciphertext = ?", func(s string) any { return []byte(s) }),
		"list":     where("email_ciphertext IN (?)", func(s string) any { return bun.In([]string{"x", s}) }),
		"tuples":   where("(name, email_ciphertext) IN (?)", func(s string) any { return bun.In([][]string{{"x", s}}) }),
		"between":  where("email_ciphertext BETWEEN ? AND ?", text, text),
		"like":     where("email_ciphertext LIKE ?", func(s string) any { return "%" + s }),
		"case":     where("CASE WHEN email_ciphertext = ? THEN 1 ELSE 0 END = 1", text),
		"index":    where("email_bidx = ?", text),
		"field":    where("name = ?", func(s string) any { return field.New(s) }),
		"subquery": where("id NOT IN (?)", func(s string) any {
			return db.NewSelect().Model((*person)(nil)).Column("id").Where("email_ciphertext = ?", s)
		}),
	}
}

// ormDB is this package for the suite of all libraries.
type ormDB struct {
	db bun.IDB
	m  *field.Model[person]
}

func (d ormDB) New(id int64, v ormtest.Values) ormtest.Record {
	return ormtest.RecordOf(ormtest.NewPerson(id, v))
}

func (d ormDB) Insert(ctx context.Context, rows ...ormtest.Record) error {
	people := ormtest.People(rows)
	q := d.db.NewInsert().Model(&people)
	if len(people) == 1 {
		q = d.db.NewInsert().Model(people[0])
	}
	_, err := q.Exec(ctx)
	return err
}

func (d ormDB) Find(ctx context.Context, id int64) (ormtest.Record, error) {
	p := new(person)
	err := d.db.NewSelect().Model(p).Where("id = ?", id).Scan(ctx)
	return ormtest.RecordOf(p), err
}

func (d ormDB) FindOnly(ctx context.Context, id int64, columns ...string) (ormtest.Record, error) {
	p := new(person)
	err := d.db.NewSelect().Model(p).Column(columns...).Where("id = ?", id).Scan(ctx)
	return ormtest.RecordOf(p), err
}

func (d ormDB) list(ctx context.Context, where func(bun.QueryBuilder) bun.QueryBuilder) ([]ormtest.Record, error) {
	var list []person
	err := d.db.NewSelect().Model(&list).ApplyQueryBuilder(where).Order("id").Scan(ctx)
	return ormtest.Records(field.Pointers(list)), err
}

func (d ormDB) All(ctx context.Context) ([]ormtest.Record, error) {
	return d.list(ctx, func(q bun.QueryBuilder) bun.QueryBuilder { return q })
}

func (d ormDB) Lookup(ctx context.Context, name, value string) ([]ormtest.Record, error) {
	return d.list(ctx, kmsbun.Matches(d.m.Lookup(name, value)))
}

func (d ormDB) Update(ctx context.Context, r ormtest.Record) error {
	_, err := d.db.NewUpdate().Model(ormtest.PersonOf(r)).WherePK().Exec(ctx)
	return err
}

func (d ormDB) UpdateOnly(ctx context.Context, r ormtest.Record, columns ...string) error {
	_, err := d.db.NewUpdate().Model(ormtest.PersonOf(r)).Column(columns...).WherePK().Exec(ctx)
	return err
}

func (d ormDB) Rename(ctx context.Context, id int64, name string) error {
	_, err := d.db.NewUpdate().Model(&person{}).Set("name = ?", name).Where("id = ?", id).Exec(ctx)
	return err
}

func (d ormDB) Delete(ctx context.Context, r ormtest.Record) error {
	_, err := d.db.NewDelete().Model(ormtest.PersonOf(r)).WherePK().Exec(ctx)
	return err
}

func (d ormDB) Transaction(ctx context.Context, f func(ormtest.DB) error) error {
	return d.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error { return f(ormDB{tx, d.m}) })
}
