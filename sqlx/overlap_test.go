package kmssqlx_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
	kmssqlx "github.com/kmsencrypted/kmsencrypted/sqlx"
)

// town0 to town3 are a table in the four releases of a migration.
type town0 struct {
	ID     int64   `db:"id"`
	Tenant string  `db:"tenant"`
	City   *string `db:"city"`
}

type town1 struct {
	ID      int64             `db:"id"`
	Tenant  string            `db:"tenant" kms:"context"`
	OldCity *string           `db:"city"`
	Key     field.Key         `db:"encrypted_kms_key"`
	Email   field.Of[string]  `db:"email_ciphertext" kms:"lockbox"`
	City    field.Of[*string] `db:"city_ciphertext" kms:"lockbox,migrating=OldCity"`
	Index   field.Index       `db:"city_bidx" kms:"of=City,algorithm=hmac_sha256"`
}

type town2 struct {
	ID      int64             `db:"id"`
	Tenant  string            `db:"tenant" kms:"context"`
	OldCity *string           `db:"city"`
	Key     field.Key         `db:"encrypted_kms_key"`
	Email   field.Of[string]  `db:"email_ciphertext" kms:"lockbox"`
	City    field.Of[*string] `db:"city_ciphertext" kms:"lockbox,migrated=OldCity"`
	Index   field.Index       `db:"city_bidx" kms:"of=City,algorithm=hmac_sha256"`
}

type town3 struct {
	ID     int64             `db:"id"`
	Tenant string            `db:"tenant" kms:"context"`
	Key    field.Key         `db:"encrypted_kms_key"`
	Email  field.Of[string]  `db:"email_ciphertext" kms:"lockbox"`
	City   field.Of[*string] `db:"city_ciphertext" kms:"lockbox"`
	Index  field.Index       `db:"city_bidx" kms:"of=City,algorithm=hmac_sha256"`
}

// townFields are the fields that a release reads and sets; it may lack some.
type townFields struct {
	tenant *string
	old    **string
	city   *field.Of[*string]
	email  *field.Of[string]
}

func (r *town1) fields() townFields { return townFields{&r.Tenant, &r.OldCity, &r.City, &r.Email} }
func (r *town2) fields() townFields { return townFields{&r.Tenant, &r.OldCity, &r.City, &r.Email} }
func (r *town3) fields() townFields { return townFields{&r.Tenant, nil, &r.City, &r.Email} }

// release is one version of a program.
type release interface {
	// step reads a row and writes it later; others write in between. It returns what
	// it read.
	step(t *testing.T, id int64, meanwhile func(), c change) (read *string, err error)
	insert(t *testing.T, c change) (id int64, err error)
}

// change is what a step does: set the city to a value or to NULL, or write other
// columns and leave the city alone.
type change struct {
	sets   bool
	city   *string
	old    bool // set the field of the old column instead
	all    bool // name every plain column
	tenant string
	by     func(func(db kmssqlx.Ext) error) error
}

func cityText(city *string) string {
	if city == nil {
		return "NULL"
	}
	return *city
}

// plainRelease is release 0, which knows the plain column alone.
type plainRelease struct{ *env }

func (e plainRelease) step(t *testing.T, id int64, meanwhile func(), c change) (*string, error) {
	var row town0
	must(t, e.db.Get(&row, e.db.Rebind("SELECT id, tenant, city FROM "+e.table+" WHERE id = ?"), id))
	meanwhile()
	if c.sets {
		must2(t)(e.db.Exec(e.db.Rebind("UPDATE "+e.table+" SET city = ? WHERE id = ?"), c.city, id))
	}
	return row.City, nil
}

func (e plainRelease) insert(t *testing.T, c change) (id int64, err error) {
	must2(t)(e.db.Exec(e.db.Rebind("INSERT INTO "+e.table+" (tenant, city) VALUES (?, ?)"), c.tenant, c.city))
	return id, e.db.Get(&id, "SELECT max(id) FROM "+e.table)
}

// modelRelease is one of the others.
type modelRelease[R any, P interface {
	*R
	fields() townFields
}] struct {
	*env
	*field.Model[R]
	columns string
}

func (e modelRelease[R, P]) step(t *testing.T, id int64, meanwhile func(), c change) (*string, error) {
	row := new(R)
	must(t, kmssqlx.Get(t.Context(), e.db, e.Model, row, "SELECT "+e.columns+" FROM "+e.table+" WHERE id = ?", id))
	f := P(row).fields()
	read := f.city.Must()
	meanwhile()
	f.email.Set(secret)
	*f.tenant = c.tenant
	c.set(f)
	return read, c.by(func(db kmssqlx.Ext) error { return kmssqlx.Update(t.Context(), db, e.Model, row, c.plain()...) })
}

func (e modelRelease[R, P]) insert(t *testing.T, c change) (int64, error) {
	row := new(R)
	f := P(row).fields()
	*f.tenant, c.sets = c.tenant, true
	c.set(f)
	err := c.by(func(db kmssqlx.Ext) error { return kmssqlx.Insert(t.Context(), db, e.Model, row) })
	return e.Adapter().IDValues(row)[0].(int64), err
}

func (c change) set(f townFields) {
	switch {
	case !c.sets:
	case c.old && f.old != nil:
		*f.old = c.city
	default:
		f.city.Set(c.city)
	}
}

func (c change) plain() []string {
	if c.all {
		return []string{"*"}
	}
	return []string{"tenant"}
}

// overlapping is a run of the releases.
type overlapping struct {
	*env
	releases []release
	first    *field.Model[town1]
	last     *field.Model[town3]
	ids      []int64
	cities   map[int64]*string
	tenants  []string
	random   *rand.Rand

	steps, reads, conflicts, moved int
}

// Random programs of two releases side by side, in the order of deployments of
// docs/database.md: no read returns anything older than the last write that was
// acknowledged, by whichever release, also where another one wrote between reading
// and writing, where a transaction was rolled back and repeated, where a deployment
// was taken back, and while rows are filled.
func releasesOverlap(t *testing.T, e *env) {
	tenants := map[string]kmsencrypted.Provider{"a": kmstest.Memory(), "b": kmstest.Memory()}
	for name, version := range map[string]kmsencrypted.Version{
		"native": {Provider: kmstest.Memory()},
		"ruby":   {Provider: kmstest.Memory(), Format: kmsencrypted.Ruby},
		"tenants": {ProviderFor: func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
			return tenants[townTenant(s.Record)], nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			own := *e
			own.table += "_" + name
			o := own.overlapping(t, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: version}})
			o.run(t)
		})
	}
}

func townTenant(record any) string {
	return *record.(interface{ fields() townFields }).fields().tenant
}

func (e *env) overlapping(t *testing.T, config kmsencrypted.Config) *overlapping {
	t.Helper()
	o := &overlapping{env: e, cities: make(map[int64]*string), tenants: []string{"a", "b"}}
	o.random = rand.New(rand.NewPCG(1, uint64(len(e.table)+len(e.name))))
	o.first, o.last = model[town1](t, e, config), model[town3](t, e, config)
	o.releases = []release{
		plainRelease{e},
		modelRelease[town1, *town1]{e, o.first, "*"},
		modelRelease[town2, *town2]{e, model[town2](t, e, config), "*"},
		modelRelease[town3, *town3]{e, o.last, "id, tenant, encrypted_kms_key, email_ciphertext, city_ciphertext, city_bidx"},
	}
	createTable(t, e, o.first, "id "+e.id+", tenant varchar(8) NOT NULL, city varchar(40)")
	for range 5 {
		o.insert(t, 0)
	}
	return o
}

func (o *overlapping) run(t *testing.T) {
	const steps = 14
	deployments := [][]int{{0, 1}, {0} /* taken back */, {0, 1}, {1}, {1, 2}, {1}, {1, 2}, {2}, {2, 3}, {3}}
	for n, deployed := range deployments {
		if n == 4 { // release 0 has ended
			o.migrate(t)
			o.verify(t)
		}
		for range steps {
			which := deployed[o.random.IntN(len(deployed))]
			switch o.random.IntN(14) {
			case 0:
				o.insert(t, which)
			case 1:
				if n < 4 {
					o.migrate(t) // may begin early
				}
			default:
				o.step(t, which, func(id int64) {
					switch o.random.IntN(6) {
					case 0, 1:
						o.stepOn(t, deployed[o.random.IntN(len(deployed))], id, func(int64) {})
					case 2:
						if n < 4 {
							o.migrate(t)
						}
					}
				})
			}
		}
	}
	for id, want := range o.cities { // nothing was lost, and the index finds it
		var all []town3
		must(t, kmssqlx.Select(t.Context(), o.db, o.last, &all, "SELECT id, tenant, encrypted_kms_key, city_ciphertext, city_bidx FROM "+o.table+" WHERE id = ?", id))
		if got := all[0].City.Must(); cityText(got) != cityText(want) {
			t.Errorf("row %d holds %s, want %s", id, cityText(got), cityText(want))
		}
		if want == nil {
			continue
		}
		must(t, kmssqlx.Select(t.Context(), o.db, o.last, &all, "SELECT id, tenant, encrypted_kms_key, city_ciphertext, city_bidx FROM "+o.table+" WHERE city_bidx IN (?) AND id = ?", o.last.Lookup("City", *want), id))
		if len(all) != 1 {
			t.Errorf("the index does not find row %d", id)
		}
	}
	t.Logf("%d reads, none older than the last acknowledged write; %d conflicts, %d rows moved", o.reads, o.conflicts, o.moved)
	if o.moved == 0 || o.reads < 80 {
		t.Error("this tested nothing")
	}
}

func (o *overlapping) change() change {
	o.steps++
	c := change{sets: o.random.IntN(3) > 0, old: o.random.IntN(4) == 0, all: o.random.IntN(3) == 0, tenant: o.tenants[o.random.IntN(2)], by: directly(o.db)}
	if o.random.IntN(4) > 0 {
		c.city = new(fmt.Sprint("town", o.steps))
	}
	if o.random.IntN(3) == 0 {
		c.by = o.afterRollback
	}
	return c
}

func (o *overlapping) insert(t *testing.T, which int) {
	t.Helper()
	c := o.change()
	id, err := o.releases[which].insert(t, c)
	must(t, err)
	o.ids = append(o.ids, id)
	o.cities[id] = c.city
}

func (o *overlapping) step(t *testing.T, which int, meanwhile func(id int64)) {
	t.Helper()
	o.stepOn(t, which, o.ids[o.random.IntN(len(o.ids))], meanwhile)
}

func (o *overlapping) stepOn(t *testing.T, which int, id int64, meanwhile func(id int64)) {
	t.Helper()
	c := o.change()
	want := o.cities[id]
	read, err := o.releases[which].step(t, id, func() { meanwhile(id) }, c)
	o.reads++
	if cityText(read) != cityText(want) {
		t.Fatalf("step %d: release %d reads %s, want %s", o.steps, which, cityText(read), cityText(want))
	}
	switch {
	case errors.Is(err, kmsencrypted.ErrConflict):
		o.conflicts++
	case err != nil:
		t.Fatalf("step %d: release %d: %v", o.steps, which, err)
	case c.sets && (!c.old || which == 0 || which == 3 || cityText(c.city) != cityText(read)):
		o.cities[id] = c.city
	}
}

// migrate is `rotate run --kind migrate`.
func (o *overlapping) migrate(t *testing.T) {
	t.Helper()
	result, err := o.rotator(t).Run(t.Context())
	must(t, err)
	if !result.Done || result.Failed > 0 {
		t.Fatalf("Run() = %+v", result)
	}
	o.moved += int(result.Written)
}

// verify is `rotate verify --kind migrate`.
func (o *overlapping) verify(t *testing.T) {
	t.Helper()
	verified, err := o.rotator(t).Verify(t.Context(), rotation.VerifyOptions{Derived: true})
	must(t, err)
	if !verified.Clean(1) {
		t.Fatalf("Verify() = %+v", verified)
	}
}

func (o *overlapping) rotator(t *testing.T) *rotation.Rotator {
	t.Helper()
	store, err := sqlstore.New(t.Context(), o.db.DB, o.dialect, o.first, sqlstore.Options{})
	must(t, err)
	must(t, store.CreateTables(t.Context()))
	r, err := rotation.New(o.first.Adapter().Box(), store, rotation.Options{Kind: rotation.Migrate, WritersAreOurs: true})
	must(t, err)
	return r
}

func directly(db kmssqlx.Ext) func(func(kmssqlx.Ext) error) error {
	return func(write func(kmssqlx.Ext) error) error { return write(db) }
}

// afterRollback writes in a transaction that is rolled back, and once more.
func (e *env) afterRollback(write func(kmssqlx.Ext) error) error {
	tx, err := e.db.BeginTxx(context.Background(), nil)
	if err != nil {
		return err
	}
	err = write(tx)
	if undo := tx.Rollback(); err != nil || undo != nil {
		return errors.Join(err, undo)
	}
	return e.inTransaction(write)
}

func (e *env) inTransaction(write func(kmssqlx.Ext) error) error {
	tx, err := e.db.BeginTxx(context.Background(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := write(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// A repeated write does not revert what a program of before wrote to the old
// column after the first one was committed.
func resendKeepsOld(t *testing.T, e *env) {
	m := e.migration(t, 1)
	id := m.ids(t)[0]
	row := m.get(t, id)
	row.City.Set(new("Rome"))
	write := func(db kmssqlx.Ext) error { return kmssqlx.Update(t.Context(), db, m.Model, &row) }
	must(t, m.inTransaction(write))
	must(t, m.inTransaction(write)) // as after an error of COMMIT
	m.asBefore(t, id, "Oslo")
	wantError(t, "a write repeated after somebody else's", m.inTransaction(write), kmsencrypted.ErrConflict)
	if got := m.get(t, id); *got.City.Must() != "Oslo" {
		t.Errorf("read %s, want Oslo", *got.City.Must())
	}
}

// While a column is migrating its value cannot be read without the old one.
func migratingReadsBoth(t *testing.T, e *env) {
	m := e.migration(t, 1)
	id := m.ids(t)[0]
	const part = "SELECT id, encrypted_kms_key, city_ciphertext FROM "
	var row moving
	wantError(t, "Get", kmssqlx.Get(t.Context(), e.db, m.Model, &row, part+m.table+" WHERE id = ?", id), kmsencrypted.ErrNotLoaded)
	var rows []moving
	wantError(t, "Select", kmssqlx.Select(t.Context(), e.db, m.Model, &rows, part+m.table), kmsencrypted.ErrNotLoaded)
	if row.ID != 0 || rows != nil {
		t.Error("a query that was refused returned a row")
	}
	must(t, kmssqlx.Get(t.Context(), e.db, m.Model, &row, "SELECT id, encrypted_kms_key, email_ciphertext FROM "+m.table+" WHERE id = ?", id))
}

// A program that still sets the old field writes both columns.
func migratingOldSet(t *testing.T, e *env) {
	m := e.migration(t, 1)
	id := m.ids(t)[0]
	row := m.get(t, id)
	row.OldCity = new("Rome")
	must(t, kmssqlx.Update(t.Context(), e.db, m.Model, &row))
	fresh := moving{OldCity: new("Bern")}
	must(t, kmssqlx.Insert(t.Context(), e.db, m.Model, &fresh))
	if got := m.columns(t, id) + ", " + m.columns(t, fresh.ID); got != "Rome Rome, Bern Bern" {
		t.Errorf("the columns hold %s", got)
	}
}

// Fields that are opened when they are asked for take the old value as well.
func migratingLazily(t *testing.T, e *env) {
	m := e.migration(t, 2)
	filled := m.get(t, m.ids(t)[0])
	must(t, kmssqlx.Update(t.Context(), e.db, m.Model, &filled))
	m.asBefore(t, filled.ID, "Oslo")
	var rows []moving
	must(t, e.db.Select(&rows, "SELECT * FROM "+m.table+" ORDER BY id"))
	m.OpenLazily(field.Pointers(rows)...)
	for i, want := range []string{"Oslo", "city1"} {
		if got, err := rows[i].City.Plain(t.Context()); err != nil || cityText(got) != want {
			t.Errorf("Plain() = %s, %v, want %s", cityText(got), err, want)
		}
	}
}

// The old column is not written alone: what cannot write both is refused before a
// statement.
func migratingWritesBoth(t *testing.T, e *env) {
	m := e.migration(t, 1)
	id := m.ids(t)[0]
	filled := m.get(t, id)
	must(t, kmssqlx.Update(t.Context(), e.db, m.Model, &filled))
	refused := func(what, columns string, want error, plain ...string) {
		t.Helper()
		var row moving
		must(t, e.db.Get(&row, e.db.Rebind("SELECT "+columns+" FROM "+m.table+" WHERE id = ?"), id))
		row.OldCity = new("Rome")
		rec := e.recorder()
		wantError(t, what, kmssqlx.Update(t.Context(), rec, m.Model, &row, plain...), want)
		if len(rec.sent) > 0 {
			t.Errorf("%s: sent %v", what, rec.sent)
		}
	}
	refused("a new column that was not read", "id, city", kmsencrypted.ErrNotLoaded, "city")
	refused("a new column that was not opened", "*", kmsencrypted.ErrNotOpened, "*")
	if got := m.columns(t, id); got != "city0 city0" {
		t.Errorf("the columns hold %s", got)
	}

	// A program that may not decrypt inserts, and cannot set the city of a stored row.
	version := m.config.Versions[1]
	version.EncryptOnly = true
	writer := model[moving](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: version}})
	fresh := moving{City: field.New(new("Bern"))}
	must(t, kmssqlx.Insert(t.Context(), e.db, writer, &fresh))
	if got := m.columns(t, fresh.ID); got != "Bern Bern" {
		t.Errorf("after an insert without decrypting the columns hold %s", got)
	}
	var row moving
	must(t, e.db.Get(&row, e.db.Rebind("SELECT * FROM "+m.table+" WHERE id = ?"), id))
	row.City.Set(new("Rome"))
	rec := e.recorder()
	wantError(t, "an update without decrypting", kmssqlx.Update(t.Context(), rec, writer, &row), kmsencrypted.ErrNeedsDecrypt)
	if len(rec.sent) > 0 {
		t.Errorf("an update without decrypting sent %v", rec.sent)
	}
}

// A column that is NULL takes the value of an encrypted one only when that is open.
func migratingLazilyFromEncrypted(t *testing.T, e *env) {
	type between struct {
		ID   int64             `db:"id"`
		Key  field.Key         `db:"encrypted_kms_key"`
		Old  field.Of[*string] `db:"old_ciphertext"`
		City field.Of[*string] `db:"city_ciphertext" kms:"migrating=Old"`
	}
	m := model[between](t, e, kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: kmstest.Memory()}}})
	createTable(t, e, m, "id "+e.id)
	row := between{City: field.New(new("Bern"))}
	must(t, kmssqlx.Insert(t.Context(), e.db, m, &row))
	must2(t)(e.db.Exec("UPDATE " + e.table + " SET city_ciphertext = NULL"))
	var read between
	must(t, e.db.Get(&read, "SELECT * FROM "+e.table))
	m.OpenLazily(&read)
	_, err := read.City.Get()
	wantError(t, "Get before Plain", err, kmsencrypted.ErrNotOpened)
	if got, err := read.City.Plain(t.Context()); err != nil || cityText(got) != "Bern" {
		t.Errorf("Plain() = %s, %v", cityText(got), err)
	}
	if got, err := read.City.Get(); err != nil || cityText(got) != "Bern" {
		t.Errorf("Get() after Plain = %s, %v", cityText(got), err)
	}
}
