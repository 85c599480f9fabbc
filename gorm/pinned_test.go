package kmsgorm_test

import (
	"errors"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
)

// conditions that name one record by its primary key, and others.
var pinning = map[string]func(db *gorm.DB, id int64) *gorm.DB{
	"text":         func(db *gorm.DB, id int64) *gorm.DB { return db.Where("id = ?", id) },
	"quoted":       func(db *gorm.DB, id int64) *gorm.DB { return db.Where("`customers`.`id`=?", id) },
	"column alone": func(db *gorm.DB, id int64) *gorm.DB { return db.Where("id", id) },
	"id alone":     func(db *gorm.DB, id int64) *gorm.DB { return db.Where(id) },
	"map":          func(db *gorm.DB, id int64) *gorm.DB { return db.Where(map[string]any{"id": id}) },
	"struct":       func(db *gorm.DB, id int64) *gorm.DB { return db.Where(&Customer{ID: id}) },
	"clause": func(db *gorm.DB, id int64) *gorm.DB {
		return db.Where(clause.Eq{Column: clause.PrimaryColumn, Value: id})
	},
	"group": func(db *gorm.DB, id int64) *gorm.DB {
		return db.Where(db.Session(&gorm.Session{NewDB: true}).Where("id = ?", id))
	},
	"and another": func(db *gorm.DB, id int64) *gorm.DB { return db.Where("name = ?", "Ada").Where("id = ?", id) },
	"int":         func(db *gorm.DB, id int64) *gorm.DB { return db.Where("id = ?", int(id)) },
}

var notPinning = map[string]func(db *gorm.DB, id int64) *gorm.DB{
	"another column": func(db *gorm.DB, _ int64) *gorm.DB { return db.Where("name = ?", "Ada") },
	"or":             func(db *gorm.DB, id int64) *gorm.DB { return db.Where("id = ?", id).Or("name = ?", "Ada") },
	"or in a text":   func(db *gorm.DB, id int64) *gorm.DB { return db.Where("id = ? OR name = 'Ada'", id) },
	"group with or": func(db *gorm.DB, id int64) *gorm.DB {
		return db.Where(db.Session(&gorm.Session{NewDB: true}).Where("id = ?", id).Or("name = ?", "Ada"))
	},
	"not":           func(db *gorm.DB, id int64) *gorm.DB { return db.Not("id = ?", id) },
	"two":           func(db *gorm.DB, id int64) *gorm.DB { return db.Where([]int64{id, id + 1}) },
	"greater":       func(db *gorm.DB, id int64) *gorm.DB { return db.Where("id >= ?", id) },
	"another table": func(db *gorm.DB, id int64) *gorm.DB { return db.Where("orders.id = ?", id) },
	"zero":          func(db *gorm.DB, _ int64) *gorm.DB { return db.Where("id = ?", 0) },
	"null":          func(db *gorm.DB, _ int64) *gorm.DB { return db.Where("id = ?", nil) },
	"subquery": func(db *gorm.DB, _ int64) *gorm.DB {
		return db.Where("id = (?)", db.Session(&gorm.Session{NewDB: true}).Model(&Customer{}).Select("max(id)"))
	},
	"an expression": func(db *gorm.DB, id int64) *gorm.DB { return db.Where("id = ?", gorm.Expr("? + 0", id)) },
	"none":          func(db *gorm.DB, _ int64) *gorm.DB { return db.Session(&gorm.Session{AllowGlobalUpdate: true}) },
}

// updating are the forms in which an update of no record of its own has new values,
// with or without gorm.G.
var updating = map[string]func(db *gorm.DB) *gorm.DB{
	"Update":  func(db *gorm.DB) *gorm.DB { return db.Update("Email", grace) },
	"Updates": func(db *gorm.DB) *gorm.DB { return db.Updates(Customer{Name: "Grace", Email: field.New(grace)}) },
	"map": func(db *gorm.DB) *gorm.DB {
		return db.Updates(map[string]any{"name": "Grace", "email_ciphertext": grace})
	},
	"Set": func(db *gorm.DB) *gorm.DB {
		set := clause.Assignments(map[string]any{"name": "Grace", "email_ciphertext": grace})
		return db.Clauses(set).Updates(map[string]any{})
	},
}

// An update by conditions that pin the primary key writes that record as one that
// has been read, and no other.
func TestPinnedSQLite(t *testing.T) {
	t.Parallel()
	for form, update := range updating {
		for name, where := range pinning {
			d := setup(t)
			c, other := d.ada(), d.ada()
			before := d.columns(other.ID)
			r := update(where(d.db.Model(Customer{}), c.ID))
			if r.Error != nil || r.RowsAffected != 1 {
				t.Errorf("%s where %s: %d rows, %v", form, name, r.RowsAffected, r.Error)
				continue
			}
			got := d.read(c.ID)
			if got.Email.Must() != grace || *got.Phone.Must() != phone || form != "Update" && got.Name != "Grace" {
				t.Errorf("%s where %s: %q %q %q", form, name, got.Name, got.Email.Must(), *got.Phone.Must())
			}
			var found Customer
			d.must(d.db.Where(kmsgorm.Matches(d.customers.Lookup("Email", grace))).First(&found).Error)
			if found.ID != c.ID || d.columns(other.ID) != before {
				t.Errorf("%s where %s wrote another record, or no index", form, name)
			}
		}
		for name, where := range notPinning {
			d := setup(t)
			c := d.ada()
			before := d.columns(c.ID)
			r := update(where(d.db.Model(Customer{}), c.ID))
			if !errors.Is(r.Error, kmsencrypted.ErrUnsealed) && !errors.Is(r.Error, errors.ErrUnsupported) || d.columns(c.ID) != before {
				t.Errorf("%s where %s: %d rows, %v", form, name, r.RowsAffected, r.Error)
			}
		}
		d := setup(t)
		c := d.ada()
		before := d.columns(c.ID)
		for name, tx := range map[string]*gorm.DB{
			"no such row":       d.db.Model(Customer{}).Where("id = ?", c.ID+1),
			"another condition": d.db.Model(Customer{}).Where("id = ?", c.ID).Where("name = ?", "Eve"),
			"two ids":           d.db.Model(Customer{}).Where("id = ?", c.ID).Where("id = ?", c.ID+1),
		} {
			if r := update(tx); r.Error != nil || r.RowsAffected != 0 || d.columns(c.ID) != before {
				t.Errorf("%s, %s: %d rows, %v", form, name, r.RowsAffected, r.Error)
			}
		}
	}
}

// A SET of the program's own keeps what it has to refuse.
func TestPinnedSetSQLite(t *testing.T) {
	t.Parallel()
	d := setup(t)
	c := d.ada()
	before := d.columns(c.ID)
	email := clause.Assignment{Column: clause.Column{Name: "email_ciphertext"}, Value: grace}
	for name, set := range map[string]clause.Set{
		"an id":          {email, {Column: clause.Column{Name: "id"}, Value: 7}},
		"the key":        {email, {Column: clause.Column{Name: "encrypted_kms_key"}, Value: nil}},
		"an index":       {{Column: clause.Column{Name: "email_bidx"}, Value: grace}},
		"a column twice": {email, {Column: clause.Column{Name: "Email"}, Value: ada}},
		"SQL":            {{Column: clause.Column{Name: "email_ciphertext"}, Value: gorm.Expr("lower(?)", grace)}},
	} {
		r := d.db.Model(Customer{}).Where("id = ?", c.ID).Clauses(set).Updates(map[string]any{})
		if !errors.Is(r.Error, kmsencrypted.ErrUnsealed) && !errors.Is(r.Error, errors.ErrUnsupported) || d.columns(c.ID) != before {
			t.Errorf("Set of %s: %d rows, %v", name, r.RowsAffected, r.Error)
		}
	}
	// GORM does not name the rows by the model where the program has a SET.
	r := d.db.Model(c).Where("1 = 1").Clauses(clause.Set{email}).Updates(map[string]any{})
	d.wantError("Set of a model", r.Error, kmsencrypted.ErrUnsealed)
}

// updatesPinned updates a record that conditions name: its encryption context is
// that of the row.
func (d *database) updatesPinned() {
	d.Helper()
	c := d.client()
	byID := func() *gorm.DB { return d.db.Model(client{}).Where("id = ?", c.ID) }
	for what, r := range map[string]*gorm.DB{
		"Updates": byID().Updates(map[string]any{"name": "Grace", "Email": grace}),
		"Set":     byID().Clauses(clause.Assignments(map[string]any{"name": "Grace", "email_ciphertext": grace})).Updates(map[string]any{}),
	} {
		if r.Error != nil || r.RowsAffected != 1 {
			d.Errorf("%s: %d rows, %v", what, r.RowsAffected, r.Error)
		}
	}
	d.wantClient("Updates", c.ID, "a", grace)
	if r := byID().Updates(map[string]any{"tenant_id": "b", "Email": ada}); r.Error != nil || r.RowsAffected != 1 {
		d.Errorf("Updates with a move: %d rows, %v", r.RowsAffected, r.Error)
	}
	d.wantClient("Updates with a move", c.ID, "b", ada)
}
