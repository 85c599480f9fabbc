package kment_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	kment "github.com/kmsencrypted/kmsencrypted/ent"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop/person"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/ormtest"
)

func TestORMSQLite(t *testing.T)   { t.Parallel(); ormtest.Run(t, ormtest.SQLite, openORM) }
func TestORMPostgres(t *testing.T) { t.Parallel(); ormtest.Run(t, ormtest.Postgres, openORM) }
func TestORMMariaDB(t *testing.T)  { t.Parallel(); ormtest.Run(t, ormtest.MariaDB, openORM) }

func openORM(t testing.TB, e *ormtest.Env) ormtest.Library {
	name := map[field.Dialect]string{field.Postgres: dialect.Postgres, field.MySQL: dialect.MySQL, field.SQLite: dialect.SQLite}[e.Dialect]
	m, err := field.NewModel[shop.Person](e.Box(t, 1), e.Config)
	must(t, err)
	log := func(args ...any) { e.Log.Printf("%s", fmt.Sprint(args...)) }
	driver, err := kment.Wrap(dialect.Debug(entsql.OpenDB(name, e.SQL), log), m)
	must(t, err)
	client := shop.NewClient(shop.Driver(driver))
	return ormtest.Library{
		DB: &ormDB{client: client, model: m},
		Absent: map[ormtest.Path]string{
			ormtest.UpdateByMap:   "ent has no updates by maps",
			ormtest.UpdateWithout: "nothing of package kment is a hook",
			ormtest.CreateByMap:   "ent has no inserts of maps",
			ormtest.NamedMap:      "ent has no maps of names",
		},
		Forms: ormForms(client, driver),
	}
}

// held is an entity as a program of ent holds it, with what the program is about to set
// in an update.
type held struct {
	stored *shop.Person // nil before Create
	draft  shop.Person
	set    map[string]bool
}

func (h *held) ID() int64 { return h.draft.ID }

func (h *held) Entity() any { return &h.draft }

func (h *held) change(column string) {
	if h.set == nil {
		h.set = make(map[string]bool)
	}
	h.set[column] = true
}

func (h *held) SetTenant(s string) { h.draft.TenantID = s; h.change(person.FieldTenantID) }
func (h *held) SetName(s string)   { h.draft.Name = s; h.change(person.FieldName) }
func (h *held) SetNote(s string)   { h.draft.Note = s; h.change(person.FieldNote) }
func (h *held) SetPhone(s *string) { h.draft.Phone.Set(s); h.change(person.FieldPhone) }

func (h *held) SetNickname(s *string) {
	h.draft.Nickname.Set(s)
	h.change(person.FieldNickname)
}

func (h *held) SetEmail(s *string) {
	h.change(person.FieldEmail)
	if s == nil {
		h.draft.Email.SetNull()
		return
	}
	h.draft.Email.Set(*s)
}

func (h *held) Values() (ormtest.Values, error) {
	v := ormtest.Values{Tenant: h.draft.TenantID, Name: h.draft.Name, Note: h.draft.Note}
	phone, err := h.draft.Phone.Get()
	nickname, failure := h.draft.Nickname.Get()
	v.Phone, v.Nickname, err = phone, nickname, errors.Join(err, failure)
	if !h.draft.Email.IsNull() {
		email, failure := h.draft.Email.Get()
		v.Email, err = &email, errors.Join(err, failure)
	}
	return v, err
}

// is takes over what ent returned.
func (h *held) is(p *shop.Person) { h.stored, h.draft, h.set = p, *p, nil }

func heldOf(p *shop.Person, err error) (ormtest.Record, error) {
	if err != nil {
		return nil, err
	}
	h := new(held)
	h.is(p)
	return h, nil
}

func heldAll(people []*shop.Person, err error) (all []ormtest.Record, _ error) {
	for _, p := range people {
		h, _ := heldOf(p, nil)
		all = append(all, h)
	}
	return all, err
}

type ormDB struct {
	client *shop.Client
	model  *field.Model[shop.Person]
	before map[*held]held // in a transaction, what entities were before it
}

// touch remembers an entity for a rollback.
func (db *ormDB) touch(h *held) {
	if _, ok := db.before[h]; db.before != nil && !ok {
		was := *h
		was.set = make(map[string]bool)
		for column := range h.set {
			was.set[column] = true
		}
		db.before[h] = was
	}
}

func (db *ormDB) New(id int64, v ormtest.Values) ormtest.Record {
	h := &held{draft: shop.Person{ID: id, TenantID: v.Tenant, Name: v.Name, Note: v.Note}}
	h.SetEmail(v.Email)
	h.SetPhone(v.Phone)
	h.SetNickname(v.Nickname)
	return h
}

func (db *ormDB) Insert(ctx context.Context, rows ...ormtest.Record) error {
	var given, assigned []*held // ent takes one kind at a time
	for _, r := range rows {
		if h := r.(*held); h.draft.ID != 0 {
			given = append(given, h)
		} else {
			assigned = append(assigned, h)
		}
	}
	if len(given) > 0 && len(assigned) > 0 && db.before == nil {
		return db.Transaction(ctx, func(tx ormtest.DB) error { return tx.Insert(ctx, rows...) })
	}
	return errors.Join(db.insert(ctx, given), db.insert(ctx, assigned))
}

func (db *ormDB) insert(ctx context.Context, rows []*held) error {
	var builders []*shop.PersonCreate
	for _, h := range rows {
		create := db.client.Person.Create().SetTenantID(h.draft.TenantID).SetName(h.draft.Name).SetNote(h.draft.Note)
		create.SetEmail(h.draft.Email).SetPhone(h.draft.Phone).SetNickname(h.draft.Nickname)
		if h.draft.ID != 0 {
			create.SetID(h.draft.ID)
		}
		builders = append(builders, create)
	}
	var made []*shop.Person
	var err error
	switch len(rows) {
	case 0:
		return nil
	case 1:
		var one *shop.Person
		one, err = builders[0].Save(ctx)
		made = append(made, one)
	default:
		made, err = db.client.Person.CreateBulk(builders...).Save(ctx)
	}
	if err != nil {
		return err
	}
	for i, h := range rows {
		db.touch(h)
		h.is(made[i])
	}
	return nil
}

func (db *ormDB) Find(ctx context.Context, id int64) (ormtest.Record, error) {
	return heldOf(db.client.Person.Get(ctx, id))
}

func (db *ormDB) FindOnly(ctx context.Context, id int64, columns ...string) (ormtest.Record, error) {
	return heldOf(db.client.Person.Query().Where(person.ID(id)).Select(columns...).Only(ctx))
}

func (db *ormDB) All(ctx context.Context) ([]ormtest.Record, error) {
	return heldAll(db.client.Person.Query().Order(shop.Asc(person.FieldID)).All(ctx))
}

func (db *ormDB) Lookup(ctx context.Context, name, value string) ([]ormtest.Record, error) {
	return heldAll(db.client.Person.Query().Where(kment.Lookup(db.model.Lookup(name, value))).Order(shop.Asc(person.FieldID)).All(ctx))
}

func (db *ormDB) Update(ctx context.Context, row ormtest.Record) error {
	h := row.(*held)
	update := db.client.Person.UpdateOne(h.stored)
	if h.set[person.FieldTenantID] {
		update.SetTenantID(h.draft.TenantID)
	}
	if h.set[person.FieldName] {
		update.SetName(h.draft.Name)
	}
	if h.set[person.FieldNote] {
		update.SetNote(h.draft.Note)
	}
	if h.set[person.FieldPhone] {
		update.SetPhone(h.draft.Phone)
	}
	if h.set[person.FieldNickname] {
		update.SetNickname(h.draft.Nickname)
	}
	switch {
	case h.set[person.FieldEmail] && h.draft.Email.IsNull():
		update.ClearEmail()
	case h.set[person.FieldEmail]:
		update.SetEmail(h.draft.Email)
	}
	now, err := update.Save(ctx)
	if err != nil {
		return err
	}
	db.touch(h)
	h.is(now)
	return nil
}

func (db *ormDB) UpdateOnly(ctx context.Context, row ormtest.Record, columns ...string) error {
	h := row.(*held)
	only := make(map[string]bool)
	for _, column := range columns {
		only[column] = h.set[column]
	}
	h.set = only
	return db.Update(ctx, row)
}

func (db *ormDB) Rename(ctx context.Context, id int64, name string) error {
	return db.client.Person.UpdateOneID(id).SetName(name).Exec(ctx)
}

func (db *ormDB) Delete(ctx context.Context, row ormtest.Record) error {
	return db.client.Person.DeleteOneID(row.ID()).Exec(ctx)
}

func (db *ormDB) Transaction(ctx context.Context, f func(ormtest.DB) error) error {
	tx, err := db.client.Tx(ctx)
	if err != nil {
		return err
	}
	in := &ormDB{tx.Client(), db.model, make(map[*held]held)}
	err = f(in)
	if err == nil {
		err = tx.Commit()
	} else {
		err = errors.Join(err, tx.Rollback())
	}
	for h, was := range in.before {
		if err != nil {
			*h = was
		} else if h.stored != nil {
			// An entity of a transaction is bound to it.
			h.stored = h.stored.Unwrap()
		}
	}
	return err
}

// ormForms are the ways around an entity that ent has.
func ormForms(client *shop.Client, driver dialect.Driver) (forms []ormtest.Form) {
	const mail = person.FieldEmail
	type do func(ctx context.Context, p *shop.Person, plaintext string) error
	add := func(path ormtest.Path, name string, f do) {
		forms = append(forms, ormtest.Form{Path: path, Name: name, Do: func(ctx context.Context, r ormtest.Record, plaintext string) error {
			return f(ctx, r.(*held).stored, plaintext)
		}})
	}
	read := func(name string, f func(ctx context.Context, id int64) (any, error)) {
		forms = append(forms, ormtest.Form{Path: ormtest.CiphertextAsRow, Name: name, Read: f})
	}
	build := entsql.Dialect(driver.Dialect())
	send := func(ctx context.Context, b entsql.Querier) error {
		query, args := b.Query()
		return driver.Exec(ctx, query, args, nil)
	}
	forms = append(forms, ormtest.Form{Path: ormtest.UpdateOfColumn, Name: "UpdateOneID", Seals: true, Do: func(ctx context.Context, r ormtest.Record, plaintext string) error {
		return client.Person.UpdateOneID(r.ID()).SetEmail(field.New(plaintext)).Exec(ctx)
	}})
	add(ormtest.UpdateOfColumn, "Update of many", func(ctx context.Context, _ *shop.Person, plaintext string) error {
		return client.Person.Update().SetEmail(field.New(plaintext)).Exec(ctx)
	})
	add(ormtest.UpdateOfColumn, "Update of many, sealed", func(ctx context.Context, p *shop.Person, _ string) error {
		return client.Person.Update().SetEmail(p.Email).Exec(ctx)
	})
	add(ormtest.UpdateOfColumn, "a context column of many", func(ctx context.Context, _ *shop.Person, _ string) error {
		return client.Person.Update().SetTenantID("b").Exec(ctx)
	})
	add(ormtest.UpdateOfColumn, "Modify of many", func(ctx context.Context, _ *shop.Person, plaintext string) error {
		return client.Person.Update().Modify(func(u *entsql.UpdateBuilder) { u.Set(mail, plaintext) }).Exec(ctx)
	})
	add(ormtest.UpdateOfColumn, "Modify of one", func(ctx context.Context, p *shop.Person, plaintext string) error {
		return p.Update().SetName("x").Modify(func(u *entsql.UpdateBuilder) { u.Set(mail, plaintext) }).Exec(ctx)
	})
	add(ormtest.UpdateOfColumn, "Modify beside a change", func(ctx context.Context, p *shop.Person, plaintext string) error {
		return p.Update().ClearPhone().Modify(func(u *entsql.UpdateBuilder) { u.Set(mail, plaintext) }).Exec(ctx)
	})
	add(ormtest.UpdateOfColumn, "Modify that loses the key", func(ctx context.Context, p *shop.Person, _ string) error {
		return p.Update().Modify(func(u *entsql.UpdateBuilder) { u.SetNull(person.FieldEncryptedKmsKey) }).Exec(ctx)
	})
	add(ormtest.UpdateOfColumn, "the entity itself", func(ctx context.Context, p *shop.Person, plaintext string) error {
		p.Email.Set(plaintext)
		return p.Update().ClearPhone().Exec(ctx)
	})
	on := entsql.ConflictColumns(person.FieldID)
	create := func(p *shop.Person, plaintext string) *shop.PersonCreate {
		return client.Person.Create().SetID(p.ID).SetTenantID("a").SetName("x").SetNote("").SetEmail(field.New(plaintext))
	}
	add(ormtest.UpsertAssigns, "UpdateNewValues", func(ctx context.Context, p *shop.Person, plaintext string) error {
		return create(p, plaintext).OnConflict(on).UpdateNewValues().Exec(ctx)
	})
	add(ormtest.UpsertAssigns, "Update", func(ctx context.Context, p *shop.Person, plaintext string) error {
		return create(p, plaintext).OnConflict(on).Update(func(u *shop.PersonUpsert) { u.SetEmail(field.New(plaintext)) }).Exec(ctx)
	})
	add(ormtest.UpsertAssigns, "ResolveWith", func(ctx context.Context, p *shop.Person, plaintext string) error {
		return create(p, plaintext).OnConflict(on, entsql.ResolveWith(func(u *entsql.UpdateSet) { u.Set(mail, plaintext) })).Exec(ctx)
	})
	add(ormtest.UpsertAssigns, "CreateBulk", func(ctx context.Context, p *shop.Person, plaintext string) error {
		return client.Person.CreateBulk(create(p, plaintext)).OnConflict(on).UpdateNewValues().Exec(ctx)
	})
	add(ormtest.TableByName, "a builder's UPDATE", func(ctx context.Context, _ *shop.Person, plaintext string) error {
		return send(ctx, build.Update(ormtest.Table).Set(mail, plaintext))
	})
	add(ormtest.TableByName, "a builder's INSERT", func(ctx context.Context, _ *shop.Person, plaintext string) error {
		return send(ctx, build.Insert(ormtest.Table).Columns("tenant_id", "name", "note", mail).Values("a", "x", "", plaintext))
	})
	mark := map[string]string{dialect.Postgres: "$1", dialect.MySQL: "?", dialect.SQLite: "?"}[driver.Dialect()]
	add(ormtest.Exec, "ExecContext", func(ctx context.Context, _ *shop.Person, plaintext string) error {
		_, err := client.ExecContext(ctx, "UPDATE people SET email_ciphertext = "+mark, plaintext)
		return err
	})
	forms = append(forms, ormtest.Form{Path: ormtest.Exec, Name: "ExecContext of constants", Wall: true, Do: func(ctx context.Context, _ ormtest.Record, plaintext string) error {
		_, err := client.ExecContext(ctx, "UPDATE people SET note = '"+plaintext+"', email_ciphertext = lower('"+plaintext+"')")
		return err
	}})
	read("Strings", func(ctx context.Context, id int64) (any, error) {
		return client.Person.Query().Where(person.ID(id)).Select(mail).Strings(ctx)
	})
	read("Scan", func(ctx context.Context, id int64) (any, error) {
		var rows []struct {
			Mail *string `sql:"email_ciphertext"`
		}
		err := client.Person.Query().Where(person.ID(id)).Select(mail).Scan(ctx, &rows)
		return len(rows), err
	})
	read("GroupBy", func(ctx context.Context, id int64) (any, error) {
		return client.Person.Query().Where(person.ID(id)).GroupBy(mail).Strings(ctx)
	})
	read("a dynamic value", func(ctx context.Context, id int64) (any, error) {
		p, err := client.Person.Query().Where(person.ID(id)).Modify(func(s *entsql.Selector) { s.AppendSelectAs(s.C(mail), "other") }).Only(ctx)
		return fmt.Sprint(p), err
	})
	for name, p := range map[string]func(plaintext string) func(*entsql.Selector){
		"EmailEQ":  func(s string) func(*entsql.Selector) { return person.EmailEQ(field.New(s)) },
		"EmailIn":  func(s string) func(*entsql.Selector) { return person.EmailIn(field.New(s)) },
		"FieldEQ":  func(s string) func(*entsql.Selector) { return entsql.FieldEQ(mail, s) },
		"Contains": func(s string) func(*entsql.Selector) { return entsql.FieldContains(mail, s) },
		"index":    func(s string) func(*entsql.Selector) { return entsql.FieldEQ(person.FieldEmailBidx, s) },
	} {
		add(ormtest.Condition, "Query with "+name, func(ctx context.Context, _ *shop.Person, plaintext string) error {
			_, err := client.Person.Query().Where(p(plaintext)).All(ctx)
			return err
		})
		add(ormtest.Condition, "Delete with Not "+name, func(ctx context.Context, _ *shop.Person, plaintext string) error {
			_, err := client.Person.Delete().Where(person.Not(p(plaintext))).Exec(ctx)
			return err
		})
		add(ormtest.Condition, "UpdateOne with "+name, func(ctx context.Context, one *shop.Person, plaintext string) error {
			return one.Update().Where(p(plaintext)).SetName("x").ClearEmail().Exec(ctx)
		})
	}
	return forms
}
