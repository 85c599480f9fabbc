package kmsgorm_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"gorm.io/driver/sqlite"

	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/ormtest"
)

func TestORMSQLite(t *testing.T)   { t.Parallel(); ormtest.Run(t, ormtest.SQLite, openORM) }
func TestORMPostgres(t *testing.T) { t.Parallel(); ormtest.Run(t, ormtest.Postgres, openORM) }
func TestORMMariaDB(t *testing.T)  { t.Parallel(); ormtest.Run(t, ormtest.MariaDB, openORM) }
func TestORMMySQL(t *testing.T)    { t.Parallel(); ormtest.Run(t, ormtest.MySQL, openORM) }

func openORM(t testing.TB, e *ormtest.Env) ormtest.Library {
	var dialector gorm.Dialector = sqlite.New(sqlite.Config{Conn: e.SQL})
	if e.Dialect != field.SQLite {
		dialector = dialectorOf(e.Dialect, e.SQL)
	}
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.New(e.Log, logger.Config{LogLevel: logger.Info})})
	if err != nil {
		t.Fatal(err)
	}
	m := e.Model(t)
	if err := db.Use(kmsgorm.New(m)); err != nil {
		t.Fatal(err)
	}
	return ormtest.Library{
		DB:     ormDB{db, m},
		Absent: map[ormtest.Path]string{},
		Forms:  ormForms(db),
	}
}

type ormPerson = ormtest.Person

// ormForms are the ways around a record that GORM has.
func ormForms(db *gorm.DB) (forms []ormtest.Form) {
	add := func(path ormtest.Path, name string, do func(db *gorm.DB, p *ormPerson, plaintext string) *gorm.DB) *ormtest.Form {
		forms = append(forms, ormtest.Form{Path: path, Name: name, Do: func(ctx context.Context, r ormtest.Record, plaintext string) error {
			return do(db.WithContext(ctx), ormtest.PersonOf(r), plaintext).Error
		}})
		return &forms[len(forms)-1]
	}
	all := func(db *gorm.DB) *gorm.DB { return db.Model(&ormPerson{}).Where("id > 0") }
	email := func(plaintext string) map[string]any { return map[string]any{"email_ciphertext": plaintext} }
	add(ormtest.UpdateByMap, "Updates with a map, of many", func(db *gorm.DB, _ *ormPerson, plaintext string) *gorm.DB {
		return all(db).Updates(email(plaintext))
	})
	add(ormtest.UpdateByMap, "Updates with a map, of one", func(db *gorm.DB, p *ormPerson, plaintext string) *gorm.DB {
		return db.Model(p).Updates(email(plaintext))
	}).Seals = true
	add(ormtest.UpdateOfColumn, "Update of many", func(db *gorm.DB, _ *ormPerson, plaintext string) *gorm.DB {
		return all(db).Update("email_ciphertext", plaintext)
	})
	add(ormtest.UpdateOfColumn, "Update of one", func(db *gorm.DB, p *ormPerson, plaintext string) *gorm.DB {
		return db.Model(p).Update("email_ciphertext", plaintext)
	}).Seals = true
	add(ormtest.UpdateWithout, "UpdateColumn of many", func(db *gorm.DB, _ *ormPerson, plaintext string) *gorm.DB {
		return all(db).UpdateColumn("email_ciphertext", plaintext)
	})
	add(ormtest.UpdateWithout, "Updates with SkipHooks", func(db *gorm.DB, _ *ormPerson, plaintext string) *gorm.DB {
		return all(db.Session(&gorm.Session{SkipHooks: true})).Updates(email(plaintext))
	})
	add(ormtest.CreateByMap, "Create of a map", func(db *gorm.DB, _ *ormPerson, plaintext string) *gorm.DB {
		return db.Model(&ormPerson{}).Create(map[string]any{"id": 9, "tenant_id": "a", "name": "x", "note": "", "email_ciphertext": plaintext})
	})
	add(ormtest.UpsertAssigns, "OnConflict with assignments", func(db *gorm.DB, p *ormPerson, plaintext string) *gorm.DB {
		return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.Assignments(email(plaintext))}).
			Create(ormtest.NewPerson(p.ID, ormtest.Values{Tenant: "a", Name: "x"}))
	})
	add(ormtest.TableByName, "Table and Updates", func(db *gorm.DB, _ *ormPerson, plaintext string) *gorm.DB {
		return db.Table("people").Where("id > 0").Updates(email(plaintext))
	})
	add(ormtest.Exec, "Exec with a field", func(db *gorm.DB, _ *ormPerson, plaintext string) *gorm.DB {
		return db.Exec("UPDATE people SET email_ciphertext = ?", field.New(plaintext))
	})
	add(ormtest.Exec, "Exec with a text", func(db *gorm.DB, _ *ormPerson, plaintext string) *gorm.DB {
		return db.Exec("UPDATE people SET email_ciphertext = ?", plaintext)
	}).Wall = true
	add(ormtest.NamedMap, "Exec with a map of names", func(db *gorm.DB, _ *ormPerson, plaintext string) *gorm.DB {
		return db.Exec("UPDATE people SET email_ciphertext = @email", map[string]any{"email": field.New(plaintext)})
	})
	add(ormtest.NamedMap, "Set", func(db *gorm.DB, _ *ormPerson, plaintext string) *gorm.DB {
		return all(db).Clauses(clause.Set{{Column: clause.Column{Name: "email_ciphertext"}, Value: plaintext}}).Updates(map[string]any{"note": "x"})
	})
	for name, where := range map[string]func(db *gorm.DB, plaintext string) *gorm.DB{
		"text": func(db *gorm.DB, plaintext string) *gorm.DB { return db.Where("email_ciphertext = ?", plaintext) },
		"map":  func(db *gorm.DB, plaintext string) *gorm.DB { return db.Where(email(plaintext)) },
		"function": func(db *gorm.DB, plaintext string) *gorm.DB {
			return db.Where("lower(email_ciphertext) = ?", plaintext)
		},
		"struct": func(db *gorm.DB, plaintext string) *gorm.DB { return db.Where(&ormPerson{Email: field.New(plaintext)}) },
	} {
		add(ormtest.Condition, "Delete where "+name, func(db *gorm.DB, _ *ormPerson, plaintext string) *gorm.DB {
			return where(db, plaintext).Delete(&ormPerson{})
		})
	}
	read := func(name string, do func(db *gorm.DB) (any, error)) {
		forms = append(forms, ormtest.Form{Path: ormtest.CiphertextAsRow, Name: name, Read: func(ctx context.Context, id int64) (any, error) {
			return do(db.WithContext(ctx).Model(&ormPerson{}).Where("id = ?", id))
		}})
	}
	read("Pluck", func(db *gorm.DB) (any, error) {
		var texts []string
		return texts, db.Pluck("email_ciphertext", &texts).Error
	})
	read("Scan", func(db *gorm.DB) (any, error) {
		var other []struct{ EmailCiphertext string }
		return other, db.Scan(&other).Error
	})
	read("Take into a map", func(db *gorm.DB) (any, error) {
		row := map[string]any{}
		err := db.Take(&row).Error
		return row, err
	})
	return forms
}

// ormDB is this package for the suite of all libraries.
type ormDB struct {
	db *gorm.DB
	m  *field.Model[ormPerson]
}

func (d ormDB) New(id int64, v ormtest.Values) ormtest.Record {
	return ormtest.RecordOf(ormtest.NewPerson(id, v))
}

func (d ormDB) Insert(ctx context.Context, rows ...ormtest.Record) error {
	people := ormtest.People(rows)
	return d.db.WithContext(ctx).Create(&people).Error
}

func (d ormDB) Find(ctx context.Context, id int64) (ormtest.Record, error) {
	p := new(ormPerson)
	err := d.db.WithContext(ctx).First(p, id).Error
	return ormtest.RecordOf(p), err
}

func (d ormDB) FindOnly(ctx context.Context, id int64, columns ...string) (ormtest.Record, error) {
	p := new(ormPerson)
	err := d.db.WithContext(ctx).Select(columns).First(p, id).Error
	return ormtest.RecordOf(p), err
}

func (d ormDB) list(db *gorm.DB) ([]ormtest.Record, error) {
	var list []ormPerson
	err := db.Order("id").Find(&list).Error
	return ormtest.Records(field.Pointers(list)), err
}

func (d ormDB) All(ctx context.Context) ([]ormtest.Record, error) {
	return d.list(d.db.WithContext(ctx))
}

func (d ormDB) Lookup(ctx context.Context, name, value string) ([]ormtest.Record, error) {
	l := d.m.Lookup(name, value)
	found, err := d.list(d.db.WithContext(ctx).Where(kmsgorm.Matches(l)))
	return slices.DeleteFunc(found, func(r ormtest.Record) bool {
		hit, failure := l.Matches(ormtest.PersonOf(r)) // as the doc of Matches says
		err = errors.Join(err, failure)
		return !hit
	}), err
}

func (d ormDB) Update(ctx context.Context, r ormtest.Record) error {
	return d.db.WithContext(ctx).Save(ormtest.PersonOf(r)).Error
}

func (d ormDB) UpdateOnly(ctx context.Context, r ormtest.Record, columns ...string) error {
	return d.db.WithContext(ctx).Model(ormtest.PersonOf(r)).Select(columns).Updates(ormtest.PersonOf(r)).Error
}

func (d ormDB) Rename(ctx context.Context, id int64, name string) error {
	return d.db.WithContext(ctx).Model(&ormPerson{}).Where("id = ?", id).Updates(ormPerson{Name: name}).Error
}

func (d ormDB) Delete(ctx context.Context, r ormtest.Record) error {
	return d.db.WithContext(ctx).Delete(ormtest.PersonOf(r)).Error
}

func (d ormDB) Transaction(ctx context.Context, f func(ormtest.DB) error) error {
	return d.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return f(ormDB{tx, d.m}) })
}
