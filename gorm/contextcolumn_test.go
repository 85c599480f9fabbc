package kmsgorm_test

import (
	"errors"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type client struct {
	ID     int64            `db:"id"`
	Name   string           `db:"name"`
	Tenant string           `db:"tenant_id" kms:"context" gorm:"column:tenant_id"`
	Key    field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Email  field.Of[string] `db:"email_ciphertext" gorm:"column:email_ciphertext;type:text"`
}

// clientName is another struct for the same table.
type clientName struct {
	ID       int64
	Name     string
	TenantID string
	Secret   string `gorm:"column:email_ciphertext"`
}

func (clientName) TableName() string { return "clients" }

// tenant has clients by a foreign key that is a column of their context.
type tenant struct {
	ID      string
	Title   string
	Clients []client `gorm:"foreignKey:Tenant"`
}

func TestContextColumnsSQLite(t *testing.T) {
	t.Parallel()
	raw := kmstest.Canary(t, "sqlite", t.TempDir()+"/a.db", ada, grace)
	testContextColumns(t, sqlite.New(sqlite.Config{Conn: raw}), "id integer PRIMARY KEY")
}

func TestContextColumnsPostgres(t *testing.T) {
	t.Parallel()
	raw := kmstest.Canary(t, "pgx", dbserver.Postgres(t), ada, grace)
	testContextColumns(t, dialectorOf(field.Postgres, raw), "id bigserial PRIMARY KEY")
}

func TestContextColumnsMariaDB(t *testing.T) {
	t.Parallel()
	raw := kmstest.Canary(t, "mysql", dbserver.MariaDB(t), ada, grace)
	testContextColumns(t, dialectorOf(field.MySQL, raw), autoID)
}

// A statement that would set a column of the encryption context without the data key
// is refused, and the row stays readable.
func testContextColumns(t *testing.T, dialector gorm.Dialector, id string) {
	d := &database{T: t}
	version := kmsencrypted.Version{Provider: kmstest.Memory(), Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"tenant": s.Record.(*client).Tenant}, nil
	}}
	box, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: version}}.Box()
	d.must(err)
	clients, err := field.NewModel[client](box, field.Config{Table: "clients"})
	d.must(err)
	d.db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	d.must(err)
	d.must(d.db.Use(kmsgorm.New(clients)))
	d.must(d.db.Exec("CREATE TABLE clients (" + id + ", name varchar(20), tenant_id varchar(20), encrypted_kms_key text, email_ciphertext text)").Error)
	d.must(d.db.Exec("CREATE TABLE tenants (id varchar(20) PRIMARY KEY, title varchar(20))").Error)
	d.refusesMoves()
	d.movesByUpdate()
	d.savesForeignKeys()
	d.movesLists()
	d.movesAfterSave()
	d.updatesPinned()
}

// client inserts a record of tenant a.
func (d *database) client() *client {
	d.Helper()
	c := &client{Name: "Ada", Tenant: "a", Email: field.New(ada)}
	d.must(d.db.Create(c).Error)
	return c
}

// wantClient reads a record, which must be one of the tenant.
func (d *database) wantClient(what string, id int64, tenant, email string) {
	d.Helper()
	var now client
	if err := d.db.First(&now, id).Error; err != nil || now.Tenant != tenant || now.Email.Must() != email {
		d.Errorf("%s: the row of tenant %q, want %q: %v", what, now.Tenant, tenant, err)
	}
}

func (d *database) refusesMoves() {
	d.Helper()
	onConflict := func(set clause.Set) *gorm.DB {
		return d.db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: set})
	}
	all := d.db.Clauses(clause.OnConflict{UpdateAll: true}).Session(&gorm.Session{})
	byName := d.db.Table("clients").Where("name = ?", "Ada").Session(&gorm.Session{})
	to := map[string]any{"tenant_id": "b"}
	for what, write := range map[string]func(c *client) *gorm.DB{
		"Update":               func(*client) *gorm.DB { return byName.Update("tenant_id", "b") },
		"Update in capitals":   func(*client) *gorm.DB { return byName.Update("clients.TENANT_ID", "b") },
		"Update with SQL":      func(*client) *gorm.DB { return byName.Update("tenant_id", gorm.Expr("'b'")) },
		"UpdateColumn":         func(*client) *gorm.DB { return byName.UpdateColumn("tenant_id", "b") },
		"Updates":              func(*client) *gorm.DB { return byName.Updates(to) },
		"UpdateColumns":        func(*client) *gorm.DB { return byName.UpdateColumns(to) },
		"Updates of the model": func(*client) *gorm.DB { return byName.Updates(&client{Tenant: "b"}) },
		"Updates of another":   func(*client) *gorm.DB { return byName.Updates(&clientName{TenantID: "b"}) },
		"Update of another":    func(*client) *gorm.DB { return byName.Model(&clientName{}).Update("TenantID", "b") },
		"Update of the model":  func(*client) *gorm.DB { return byName.Model(&client{}).Update("Tenant", "b") },
		"Save of another":      func(c *client) *gorm.DB { return d.db.Save(&clientName{ID: c.ID, Name: "x"}) },
		"Set": func(c *client) *gorm.DB {
			return d.db.Model(c).Clauses(clause.Assignments(to)).Updates(map[string]any{})
		},
		"Update of a record with SQL": func(c *client) *gorm.DB { return d.db.Model(c).Update("tenant_id", gorm.Expr("'b'")) },
		"Update with a subquery": func(c *client) *gorm.DB {
			return d.db.Model(c).Update("tenant_id", d.db.Table("tenants").Select("max(id)"))
		},
		"upsert without target": func(c *client) *gorm.DB {
			return d.db.Clauses(clause.OnConflict{DoUpdates: clause.Assignments(to)}).Create(&client{ID: c.ID})
		},
		"upsert": func(c *client) *gorm.DB { return onConflict(clause.Assignments(to)).Create(&client{ID: c.ID}) },
		"upsert of excluded": func(c *client) *gorm.DB {
			return onConflict(clause.AssignmentColumns([]string{"name", "tenant_id"})).Create(&client{ID: c.ID, Tenant: "b"})
		},
		"upsert of another": func(c *client) *gorm.DB {
			return onConflict(clause.AssignmentColumns([]string{"tenant_id"})).Create(&clientName{ID: c.ID, TenantID: "b"})
		},
		"upsert of a map": func(c *client) *gorm.DB {
			return onConflict(clause.AssignmentColumns([]string{"tenant_id"})).Table("clients").Create(map[string]any{"id": c.ID, "tenant_id": "b"})
		},
		"UpdateAll":                 func(c *client) *gorm.DB { return all.Create(&client{ID: c.ID, Tenant: "b", Email: field.New(grace)}) },
		"UpdateAll without a value": func(c *client) *gorm.DB { return all.Create(&client{ID: c.ID, Tenant: "b"}) },
		"UpdateAll of plain columns": func(c *client) *gorm.DB {
			return all.Select("id", "tenant_id").Create(&client{ID: c.ID, Tenant: "b"})
		},
		"UpdateAll of another": func(c *client) *gorm.DB { return all.Create(&clientName{ID: c.ID, Name: "x"}) },
		"UpdateAll of a map": func(c *client) *gorm.DB {
			return all.Model(&client{}).Create(map[string]any{"id": c.ID, "tenant_id": "b"})
		},
	} {
		c := d.client()
		d.wantError(what, write(c).Error, errors.ErrUnsupported)
		d.wantClient(what, c.ID, "a", ada)
	}
	secret := d.db.Model(&clientName{}).Where("name = ?", "Ada").Update("Secret", "no plaintext")
	d.wantError("Update of another's encrypted column", secret.Error, kmsencrypted.ErrUnsealed)
	c := d.client()
	emptied := d.db.Omit("tenant_id").Save(&clientName{ID: c.ID, Name: "x"})
	d.wantError("Save of another's empty encrypted column", emptied.Error, kmsencrypted.ErrUnsealed)
	d.must(byName.Update("name", "new").Error)
	d.must(d.db.Omit("tenant_id", "email_ciphertext").Save(&clientName{ID: c.ID, Name: "x"}).Error)
	d.must(d.db.Table("clients").Create(map[string]any{"name": "y", "tenant_id": "b"}).Error)
	d.must(d.db.Omit("email_ciphertext").Create(&clientName{Name: "z", TenantID: "b"}).Error)
}

// A record takes every spelling of a column and a zero along.
func (d *database) movesByUpdate() {
	d.Helper()
	for what, values := range map[string]map[string]any{
		"field":     {"Tenant": "b"},
		"column":    {"tenant_id": "b"},
		"in a dot":  {"clients.tenant_id": "b"},
		"capitals":  {"TENANT_ID": "b"},
		"zero":      {"tenant_id": ""},
		"and value": {"Tenant": "b", "Email": grace},
	} {
		c, tenant, email := d.client(), "b", ada
		d.must(d.db.Model(c).Updates(values).Error)
		if what == "zero" {
			tenant = ""
		}
		if what == "and value" {
			email = grace
		}
		d.wantClient(what, c.ID, tenant, email)
	}
}

// GORM's upsert of associations sets the foreign key of records that are there.
func (d *database) savesForeignKeys() {
	d.Helper()
	a := tenant{ID: "a", Clients: []client{{Name: "new", Email: field.New(ada)}}}
	d.must(d.db.Create(&a).Error)
	d.must(d.db.Preload("Clients", "name = ?", "new").First(&a, "id = ?", "a").Error)
	a.Title = "A"
	d.must(d.db.Save(&a).Error)
	d.wantClient("Save of its tenant", a.Clients[0].ID, "a", ada)
	b := tenant{ID: "b", Clients: []client{a.Clients[0]}}
	d.wantError("Create of another tenant", d.db.Create(&b).Error, errors.ErrUnsupported)
	d.wantClient("Create of another tenant", a.Clients[0].ID, "a", ada)
}

// Save moves the records of a list, to several tenants and beside those that stay.
func (d *database) movesLists() {
	d.Helper()
	list := []client{*d.client(), *d.client(), *d.client()}
	stale := []client{list[0], list[1]}
	list[0].Tenant, list[1].Tenant = "b", "c"
	list[1].Email.Set(grace)
	failed := errors.New("rolled back")
	d.wantError("rollback", d.db.Transaction(func(tx *gorm.DB) error { d.must(tx.Save(&list).Error); return failed }), failed)
	d.wantClient("rollback", list[0].ID, "a", ada)
	list[1].Email.Set(grace)
	d.must(d.db.Save(&list).Error)
	d.must(d.db.Save(&list).Error)
	d.wantClient("Save of a list", list[0].ID, "b", ada)
	d.wantClient("Save of a list", list[1].ID, "c", grace)
	d.wantClient("Save of a list", list[2].ID, "a", ada)
	stale[0].Tenant = "d"
	d.wantError("Save of a stale list", d.db.Save(&stale).Error, kmsencrypted.ErrConflict)
	d.wantClient("Save of a stale list", list[0].ID, "b", ada)
	d.must(d.db.Order("id").Find(&list, []int64{list[0].ID, list[1].ID}).Error)
	list[0].Tenant = "a"
	d.must(d.db.Save(&list).Error)
	d.wantClient("Save of a list that was read", list[0].ID, "a", ada)
}

// A record that this program created and saved moves by Update.
func (d *database) movesAfterSave() {
	d.Helper()
	c := d.client()
	c.Name = "Lovelace"
	c.Email.Set(grace)
	d.must(d.db.Save(c).Error)
	d.must(d.db.Model(c).Update("Tenant", "b").Error)
	d.wantClient("Update of a saved record", c.ID, "b", grace)
}
