package kmsgorm_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	gschema "gorm.io/gorm/schema"
	"gorm.io/plugin/optimisticlock"
	"gorm.io/plugin/soft_delete"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// openWith opens a database with a model, whose table GORM makes.
func openWith[R any](t *testing.T, table string) *gorm.DB {
	t.Helper()
	return openBox[R](t, kmstest.Box(t), table)
}

func openBox[R any](t *testing.T, box *kmsencrypted.Box, table string) *gorm.DB {
	t.Helper()
	raw := kmstest.Canary(t, "sqlite", filepath.Join(t.TempDir(), "a.db"), ada, grace)
	db, err := gorm.Open(sqlite.New(sqlite.Config{Conn: raw}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	model, err := field.NewModel[R](box, field.Config{Table: table})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Use(kmsgorm.New(model)), db.AutoMigrate(new(R))); err != nil {
		t.Fatal(err)
	}
	return db
}

// A condition of the program's that does not hold is no row, and no conflict.
func TestConditionalUpdateSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	before := d.columns(c.ID)
	nobody := d.db.Where("name = ?", "nobody")
	for what, result := range map[string]*gorm.DB{
		"plain column":     nobody.Session(&gorm.Session{}).Model(c).Updates(Customer{Name: "x"}),
		"encrypted column": nobody.Session(&gorm.Session{}).Model(c).Updates(Customer{Email: field.New(grace)}),
		"map":              nobody.Session(&gorm.Session{}).Model(c).Update("Email", grace),
	} {
		if result.Error != nil || result.RowsAffected != 0 {
			t.Errorf("%s: error %v, %d rows", what, result.Error, result.RowsAffected)
		}
	}
	c.Phone.SetNull()
	if r := nobody.Session(&gorm.Session{}).Updates(c); r.Error != nil || r.RowsAffected != 0 {
		t.Errorf("record: error %v, %d rows", r.Error, r.RowsAffected)
	}
	if after := d.columns(c.ID); after != before {
		t.Errorf("the row changed:\n%s\n%s", before, after)
	}
	// Save goes on to an upsert, as GORM has it.
	c.Name = "scoped"
	c.Email.Set(grace)
	result := d.db.Scopes(func(db *gorm.DB) *gorm.DB { return db.Where("name = ?", "nobody") }).Save(c)
	if result.Error != nil || result.RowsAffected != 1 {
		t.Errorf("Save under a scope: error %v, %d rows", result.Error, result.RowsAffected)
	}
	if got := d.read(c.ID); got.Name != "scoped" || got.Email.Must() != grace || !got.Phone.IsNull() {
		t.Errorf("Save under a scope wrote %q %q", got.Name, got.Email.Must())
	}
}

type Soft struct {
	ID        int64            `db:"id"`
	Name      string           `db:"name"`
	Key       field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Email     field.Of[string] `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text"`
	DeletedAt gorm.DeletedAt
}

// A record that was deleted softly meanwhile is saved as GORM saves a plain one.
func TestSaveOfSoftlyDeletedSQLite(t *testing.T) {
	t.Parallel()
	db := openWith[Soft](t, "softs")
	s := Soft{Name: "Ada", Email: field.New(ada)}
	var mine, now Soft
	err := errors.Join(db.Create(&s).Error, db.First(&mine, s.ID).Error, db.Delete(&Soft{}, s.ID).Error)
	if err != nil {
		t.Fatal(err)
	}
	if r := db.Model(&mine).Updates(Soft{Email: field.New(grace)}); r.Error != nil || r.RowsAffected != 0 {
		t.Errorf("Updates: error %v, %d rows", r.Error, r.RowsAffected)
	}
	mine.Name = "Lovelace"
	mine.Email.Set(grace)
	if r := db.Save(&mine); r.Error != nil || r.RowsAffected != 1 {
		t.Errorf("Save: error %v, %d rows", r.Error, r.RowsAffected)
	}
	if err := db.First(&now, s.ID).Error; err != nil || now.Name != "Lovelace" || now.Email.Must() != grace {
		t.Errorf("stored %q %q: %v", now.Name, now.Email.Must(), err)
	}
}

type Flagged struct {
	ID        int64                 `db:"id"`
	Name      string                `db:"name"`
	Key       field.Key             `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Email     field.Of[string]      `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text"`
	DeletedAt soft_delete.DeletedAt `gorm:"softDelete:flag"`
}

func TestSoftDeletePluginSQLite(t *testing.T) {
	t.Parallel()
	db := openWith[Flagged](t, "flaggeds")
	f := Flagged{Name: "Ada", Email: field.New(ada)}
	if err := errors.Join(db.Create(&f).Error, db.Delete(&Flagged{}, f.ID).Error); err != nil {
		t.Fatal(err)
	}
	if r := db.Model(&f).Update("Email", grace); r.Error != nil || r.RowsAffected != 0 {
		t.Errorf("Update of a deleted record: error %v, %d rows", r.Error, r.RowsAffected)
	}
	if r := db.Unscoped().Model(&f).Update("Email", grace); r.Error != nil || r.RowsAffected != 1 {
		t.Errorf("Unscoped: error %v, %d rows", r.Error, r.RowsAffected)
	}
	var now Flagged
	if err := db.Unscoped().First(&now, f.ID).Error; err != nil || now.Email.Must() != grace || now.DeletedAt != 1 {
		t.Errorf("stored %q, deleted %d: %v", now.Email.Must(), now.DeletedAt, err)
	}
}

type Locked struct {
	ID      int64                  `db:"id"`
	Name    string                 `db:"name"`
	Key     field.Key              `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Email   field.Of[string]       `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text"`
	Version optimisticlock.Version `gorm:"type:bigint"`
}

func TestOptimisticLockSQLite(t *testing.T) {
	t.Parallel()
	updates := map[string]func(db *gorm.DB, l *Locked) *gorm.DB{
		"plain":     func(db *gorm.DB, l *Locked) *gorm.DB { return db.Model(l).Updates(Locked{Name: "x"}) },
		"encrypted": func(db *gorm.DB, l *Locked) *gorm.DB { return db.Model(l).Updates(Locked{Email: field.New(grace)}) },
		"map":       func(db *gorm.DB, l *Locked) *gorm.DB { return db.Model(l).Updates(map[string]any{"Email": grace}) },
		"update":    func(db *gorm.DB, l *Locked) *gorm.DB { return db.Model(l).Update("Email", grace) },
		"record":    func(db *gorm.DB, l *Locked) *gorm.DB { l.Email.Set(grace); return db.Updates(l) },
		"selected":  func(db *gorm.DB, l *Locked) *gorm.DB { l.Email.Set(grace); return db.Select("*").Updates(l) },
	}
	for name, update := range updates {
		t.Run(name, func(t *testing.T) {
			db := openWith[Locked](t, "lockeds")
			var mine, stale, now Locked
			l := Locked{Name: "Ada", Email: field.New(ada)}
			if err := errors.Join(db.Create(&l).Error, db.First(&mine, l.ID).Error, db.First(&stale, l.ID).Error); err != nil {
				t.Fatal(err)
			}
			if r := update(db, &mine); r.Error != nil || r.RowsAffected != 1 {
				t.Fatalf("error %v, %d rows", r.Error, r.RowsAffected)
			}
			if r := update(db, &stale); r.Error != nil || r.RowsAffected != 0 {
				t.Errorf("stale: error %v, %d rows", r.Error, r.RowsAffected)
			}
			want := ada
			if name != "plain" {
				want = grace
			}
			if err := db.First(&now, l.ID).Error; err != nil || now.Version.Int64 != 2 || now.Email.Must() != want {
				t.Errorf("stored %q, version %d: %v", now.Email.Must(), now.Version.Int64, err)
			}
		})
	}
}

type Doc struct {
	ID        int64            `db:"id"`
	Name      string           `db:"name"`
	UpdatedBy string           `db:"updated_by"`
	Count     int              `db:"count"`
	Key       field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Secret    field.Of[string] `db:"secret_ciphertext" gorm:"column:secret_ciphertext;type:text"`
	Rev       Rev              `db:"rev"`
}

// Rev is an optimistic lock that gives GORM its new values in a map.
type Rev int64

func (Rev) UpdateClauses(f *gschema.Field) []clause.Interface {
	return []clause.Interface{revClause{f}}
}

type revClause struct{ f *gschema.Field }

func (revClause) Name() string               { return "" }
func (revClause) Build(clause.Builder)       {}
func (revClause) MergeClause(*clause.Clause) {}

func (r revClause) ModifyStatement(s *gorm.Statement) {
	if s.SQL.Len() > 0 || s.Unscoped {
		return
	}
	if v, zero := r.f.ValueOf(s.Context, s.ReflectValue); !zero {
		s.AddClause(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: clause.Column{Table: clause.CurrentTable, Name: r.f.DBName}, Value: v}}})
	}
	if dest := reflect.Indirect(reflect.ValueOf(s.Dest)); dest.Kind() == reflect.Struct {
		selected, restricted := s.SelectAndOmitColumns(false, true)
		values := map[string]any{}
		for _, f := range s.Schema.Fields {
			if on, ok := selected[f.DBName]; f.DBName == "" || f == r.f || ok && !on || restricted && !on {
				continue
			}
			if v, zero := f.ValueOf(s.Context, dest); !zero {
				values[f.DBName] = v
			}
		}
		s.Dest = values
	}
	s.SetColumn(r.f.DBName, clause.Expr{SQL: s.Quote(r.f.DBName) + "+1"}, true)
}

// What other callbacks set is written, in whatever order they were registered.
func TestOtherCallbacksSQLite(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"before Use", "after Use", "after before_update"} {
		db, err := gorm.Open(sqlite.New(sqlite.Config{Conn: kmstest.Canary(t, "sqlite", filepath.Join(t.TempDir(), "a.db"), ada, grace)}), &gorm.Config{Logger: logger.Discard})
		if err != nil {
			t.Fatal(err)
		}
		audit := func(tx *gorm.DB) {
			tx.Statement.SetColumn("updated_by", "auditor", true)
			if _, ok := tx.Get("secret"); ok {
				tx.Statement.SetColumn("Secret", grace, true)
			}
		}
		update := db.Callback().Update()
		use := func() {
			model, err := field.NewModel[Doc](kmstest.Box(t), field.Config{Table: "docs"})
			if err := errors.Join(err, db.Use(kmsgorm.New(model))); err != nil {
				t.Fatal(err)
			}
		}
		switch order {
		case "before Use":
			err = update.Before("gorm:update").Register("audit", audit)
			use()
		case "after Use":
			use()
			err = update.Before("gorm:update").Register("audit", audit)
		default:
			use()
			err = update.After("gorm:before_update").Before("gorm:update").Register("audit", audit)
		}
		if err := errors.Join(err, db.AutoMigrate(&Doc{}), db.Create(&Doc{ID: 1, Name: "a", Secret: field.New(ada), Rev: 1}).Error); err != nil {
			t.Fatal(err)
		}
		for what, change := range map[string]func(d *Doc) *gorm.DB{
			"Save":            func(d *Doc) *gorm.DB { d.Name = "b"; return db.Save(d) },
			"Updates(struct)": func(d *Doc) *gorm.DB { return db.Model(d).Updates(Doc{Name: "c"}) },
			"Updates(map)": func(d *Doc) *gorm.DB {
				return db.Model(d).Updates(map[string]any{"name": "d", "count": gorm.Expr("count+1")})
			},
			"a secret too": func(d *Doc) *gorm.DB { return db.Set("secret", true).Model(d).Updates(Doc{Name: "e"}) },
		} {
			var d, now Doc
			if err := errors.Join(db.Exec("UPDATE docs SET updated_by = ''").Error, db.First(&d, 1).Error); err != nil {
				t.Fatal(err)
			}
			if r := change(&d); r.Error != nil || r.RowsAffected != 1 {
				t.Errorf("%s, %s: error %v, %d rows", order, what, r.Error, r.RowsAffected)
			}
			if err := db.First(&now, 1).Error; err != nil || now.UpdatedBy != "auditor" || what == "a secret too" && now.Secret.Must() != grace {
				t.Errorf("%s, %s: updated by %q, secret %q: %v", order, what, now.UpdatedBy, now.Secret.Must(), err)
			}
		}
	}
}

// A lock that turns the new values into a map.
func TestLockInAMapSQLite(t *testing.T) {
	t.Parallel()
	db := openWith[Doc](t, "docs")
	var a, b, now Doc
	if err := errors.Join(db.Create(&Doc{ID: 1, Name: "a", Secret: field.New(ada), Rev: 1}).Error, db.First(&a, 1).Error, db.First(&b, 1).Error); err != nil {
		t.Fatal(err)
	}
	if r := db.Model(&a).Updates(Doc{Name: "from a"}); r.Error != nil || r.RowsAffected != 1 {
		t.Errorf("a: error %v, %d rows", r.Error, r.RowsAffected)
	}
	if r := db.Model(&b).Updates(Doc{Name: "from stale b", Secret: field.New(grace)}); r.Error != nil || r.RowsAffected != 0 {
		t.Errorf("stale b: error %v, %d rows", r.Error, r.RowsAffected)
	}
	if err := db.First(&now, 1).Error; err != nil || now.Name != "from a" || now.Rev != 2 || now.Secret.Must() != ada {
		t.Errorf("stored %q rev %d: %v", now.Name, now.Rev, err)
	}
}

type Indexed struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Body  field.Of[string] `db:"body_ciphertext" gorm:"column:body_ciphertext;type:text"`
	BodyX field.Index      `db:"body_bidx" gorm:"column:body_bidx;type:text;uniqueIndex" kms:"of=Body,algorithm=hmac_sha256"`
}

// The key column of a stale record really changed.
func TestConflictUnderAConditionSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	stale := d.read(c.ID)
	rekeyed := d.read(c.ID)
	d.must(d.customers.Rekey(d.Context(), &rekeyed))
	d.must(d.db.Save(&rekeyed).Error)
	stale.Email.Set(grace)
	d.wantError("Updates", d.db.Where("name = ?", "Ada").Updates(&stale).Error, kmsencrypted.ErrConflict)
}
