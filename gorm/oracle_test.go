package kmsgorm_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/plugin/optimisticlock"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/dbserver"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// The oracle is GORM itself: one program of random calls runs on a plain struct and
// on an encrypted one. Results, RowsAffected and rows are equal, or ours was refused
// and nothing changed.

type plainRow struct {
	ID        int64
	Name      string
	Email     string
	Note      *string
	Touched   int
	DeletedAt gorm.DeletedAt
	Version   optimisticlock.Version
}

func (plainRow) TableName() string            { return "plain_rows" }
func (r *plainRow) BeforeSave(*gorm.DB) error { r.Touched++; return nil }

type sealedRow struct {
	ID        int64             `db:"id"`
	Name      string            `db:"name"`
	Key       field.Key         `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
	Email     field.Of[string]  `db:"email" gorm:"column:email;type:text"`
	Note      field.Of[*string] `db:"note" gorm:"column:note;type:text"`
	Touched   int               `db:"touched"`
	DeletedAt gorm.DeletedAt
	Version   optimisticlock.Version
}

func (sealedRow) TableName() string            { return "sealed_rows" }
func (r *sealedRow) BeforeSave(*gorm.DB) error { r.Touched++; return nil }

// content is a row as both sides have it.
type content struct {
	ID          int64
	Name        string
	Email, Note string
	Touched     int
	Deleted     bool
	Version     int64
}

// side is one of the two.
type side struct {
	of      func(content) any  // a new record
	content func(any) content  // what is in one
	set     func(any, content) // values that are not empty
	list    func([]any) any    // records that can be changed
	patch   func(content) any  // new values for Updates
	held    map[int64]any      // records in memory
}

func note(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func plainSide() *side {
	s := &side{held: make(map[int64]any)}
	s.of = func(c content) any { return &plainRow{ID: c.ID, Name: c.Name, Email: c.Email, Note: note(c.Note)} }
	s.patch = func(c content) any { return plainRow{Name: c.Name, Email: c.Email, Note: note(c.Note)} }
	s.set = func(v any, c content) {
		r := v.(*plainRow)
		r.Name, r.Email, r.Note = c.Name, c.Email, note(c.Note)
	}
	s.content = func(v any) content {
		r := v.(*plainRow)
		c := content{ID: r.ID, Name: r.Name, Email: r.Email, Touched: r.Touched, Deleted: r.DeletedAt.Valid, Version: r.Version.Int64}
		if r.Note != nil {
			c.Note = *r.Note
		}
		return c
	}
	s.list = func(records []any) any {
		list := make([]*plainRow, len(records))
		for i, r := range records {
			list[i] = r.(*plainRow)
		}
		return &list
	}
	return s
}

func sealedSide() *side {
	s := &side{held: make(map[int64]any)}
	s.of = func(c content) any {
		return &sealedRow{ID: c.ID, Name: c.Name, Email: field.New(c.Email), Note: field.New(note(c.Note))}
	}
	s.patch = func(c content) any {
		r := sealedRow{Name: c.Name}
		if c.Email != "" {
			r.Email.Set(c.Email)
		}
		if c.Note != "" {
			r.Note.Set(note(c.Note))
		}
		return r
	}
	s.set = func(v any, c content) {
		r := v.(*sealedRow)
		r.Name = c.Name
		r.Email.Set(c.Email)
		r.Note.Set(note(c.Note))
	}
	s.content = func(v any) content {
		r := v.(*sealedRow)
		c := content{ID: r.ID, Name: r.Name, Email: r.Email.Must(), Touched: r.Touched, Deleted: r.DeletedAt.Valid, Version: r.Version.Int64}
		if n := r.Note.Must(); n != nil {
			c.Note = *n
		}
		return c
	}
	s.list = func(records []any) any {
		list := make([]*sealedRow, len(records))
		for i, r := range records {
			list[i] = r.(*sealedRow)
		}
		return &list
	}
	return s
}

// step is a call of a program, for either side.
type step struct {
	what string
	id   int64
	do   func(s *side, db *gorm.DB) *gorm.DB
}

// generator makes steps. Every text is new, so that every write changes its row:
// MySQL counts those.
type generator struct {
	*rand.Rand
	n int
}

func (g *generator) text() string { g.n++; return fmt.Sprint("text ", g.n) }

func (g *generator) content(id int64) content {
	c := content{ID: id, Name: g.text(), Email: g.text()}
	if g.IntN(2) == 0 {
		c.Note = g.text()
	}
	return c
}

// condition is one that holds or does not.
func (g *generator) condition() func(*gorm.DB) *gorm.DB {
	switch g.IntN(6) {
	case 0:
		return func(db *gorm.DB) *gorm.DB { return db.Where("name = ?", "nobody") }
	case 1:
		return func(db *gorm.DB) *gorm.DB { return db.Where("touched < ?", 2) }
	case 2:
		return func(db *gorm.DB) *gorm.DB {
			return db.Scopes(func(db *gorm.DB) *gorm.DB { return db.Where("name LIKE ?", "text %") })
		}
	case 3:
		return func(db *gorm.DB) *gorm.DB { return db.Unscoped() }
	}
	return func(db *gorm.DB) *gorm.DB { return db.Session(&gorm.Session{}) }
}

func (g *generator) step() step {
	id := int64(1 + g.IntN(5))
	c, other, when := g.content(id), g.content(id%5+1), g.condition()
	held := func(s *side, db *gorm.DB, do func(record any) *gorm.DB) *gorm.DB {
		record := s.held[id]
		if record == nil {
			record = s.of(content{})
			if r := db.First(record, id); r.Error != nil {
				return r
			}
			s.held[id] = record
		}
		return do(record)
	}
	change := func(what string, do func(s *side, db *gorm.DB, record any) *gorm.DB) step {
		return step{what, id, func(s *side, db *gorm.DB) *gorm.DB {
			return held(s, db, func(record any) *gorm.DB { return do(s, when(db), record) })
		}}
	}
	values := func() map[string]any {
		m := map[string]any{"name": c.Name, "email": c.Email}
		if c.Note == "" {
			m["Note"] = nil
		}
		return m
	}
	// One record that conditions name; those in memory do not know.
	byID := func(what string, do func(s *side, db *gorm.DB) *gorm.DB) step {
		return step{what + " by id", 0, func(s *side, db *gorm.DB) *gorm.DB {
			return do(s, when(db).Model(reflect.ValueOf(s.of(content{})).Elem().Interface()).Where("id = ?", id))
		}}
	}
	switch g.IntN(21) {
	case 0:
		return step{"Create", id, func(s *side, db *gorm.DB) *gorm.DB { return db.Create(s.of(c)) }}
	case 1:
		c.ID, other.ID = 0, 0
		return step{"Create list", 0, func(s *side, db *gorm.DB) *gorm.DB { return db.Create(s.list([]any{s.of(c), s.of(other)})) }}
	case 2, 3:
		return change("Save", func(s *side, db *gorm.DB, r any) *gorm.DB { s.set(r, c); return db.Save(r) })
	case 4:
		return change("Save as read", func(s *side, db *gorm.DB, r any) *gorm.DB { return db.Save(r) })
	case 5:
		return change("Updates(record)", func(s *side, db *gorm.DB, r any) *gorm.DB {
			if c.Note == "" {
				c.Note = "never NULL: GORM takes it for nothing to write"
			}
			s.set(r, c)
			return db.Updates(r)
		})
	case 6:
		return change("Updates(struct)", func(s *side, db *gorm.DB, r any) *gorm.DB { return db.Model(r).Updates(s.patch(c)) })
	case 7:
		return change("Updates(map)", func(s *side, db *gorm.DB, r any) *gorm.DB { return db.Model(r).Updates(values()) })
	case 8:
		return change("Update", func(s *side, db *gorm.DB, r any) *gorm.DB { return db.Model(r).Update("email", c.Email) })
	case 9:
		return change("UpdateColumns", func(s *side, db *gorm.DB, r any) *gorm.DB { return db.Model(r).UpdateColumns(values()) })
	case 10:
		return change("Select name", func(s *side, db *gorm.DB, r any) *gorm.DB { return db.Model(r).Select("name").Updates(s.patch(c)) })
	case 11:
		return change("Omit", func(s *side, db *gorm.DB, r any) *gorm.DB {
			return db.Model(r).Omit("Email", "Note").Updates(s.patch(c))
		})
	case 12:
		return step{"Updates of many", 0, func(s *side, db *gorm.DB) *gorm.DB {
			return when(db).Model(s.of(content{})).Where("id < ?", 4).Updates(map[string]any{"name": c.Name})
		}}
	case 13:
		return step{"encrypted Updates of many", 0, func(s *side, db *gorm.DB) *gorm.DB {
			return when(db).Model(reflect.New(reflect.TypeOf(s.of(content{})).Elem()).Interface()).Where("id < ?", 4).Updates(s.patch(c))
		}}
	case 14:
		return step{"Delete", id, func(s *side, db *gorm.DB) *gorm.DB { return when(db).Delete(s.of(content{ID: id})) }}
	case 15:
		return byID("Updates(struct)", func(s *side, db *gorm.DB) *gorm.DB { return db.Updates(s.patch(c)) })
	case 16:
		return byID("Updates(map)", func(s *side, db *gorm.DB) *gorm.DB { return db.Updates(values()) })
	case 17:
		return byID("Update", func(s *side, db *gorm.DB) *gorm.DB { return db.Update("email", c.Email) })
	case 18: // as gorm.G does it
		return byID("Set", func(s *side, db *gorm.DB) *gorm.DB {
			return db.Clauses(clause.Assignments(values())).Updates(map[string]any{})
		})
	case 19:
		return step{"DoNothing", id, func(s *side, db *gorm.DB) *gorm.DB {
			return db.Clauses(clause.OnConflict{DoNothing: true}).Create(s.of(c))
		}}
	default:
		return step{"upsert", -1, func(s *side, db *gorm.DB) *gorm.DB {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(s.list([]any{s.of(c), s.of(other)}))
		}}
	}
}

// rows reads all rows of a side.
func (s *side) rows(t *testing.T, db *gorm.DB) (all []content) {
	t.Helper()
	list := s.list(nil)
	if err := db.Unscoped().Order("id").Find(list).Error; err != nil {
		t.Fatal(err)
	}
	records := reflect.ValueOf(list).Elem()
	for i := range records.Len() {
		all = append(all, s.content(records.Index(i).Interface()))
	}
	return all
}

// forget drops what is in memory of a record whose row another statement wrote, or
// that a statement did not write.
func (s *side) forget(id int64) {
	if id <= 0 {
		clear(s.held)
	}
	delete(s.held, id)
}

// isStale reports whether the record in memory is not what the row is by now. GORM
// leaves the values of an update that wrote nothing in the record, we do not.
func (st step) isStale(r *gorm.DB) bool {
	return r.RowsAffected == 0 || r.Error != nil || st.id <= 0 || st.what == "Delete"
}

// oracle runs programs on one database.
type oracle struct {
	*testing.T
	db                    *gorm.DB
	plain, sealed         *side
	steps, refused, wrote int
}

var errRollback = errors.New("rolled back")

func (o *oracle) program(seed uint64) {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 14))}
	o.plain, o.sealed = plainSide(), sealedSide()
	if err := errors.Join(o.db.Exec("DELETE FROM plain_rows").Error, o.db.Exec("DELETE FROM sealed_rows").Error); err != nil {
		o.Fatal(err)
	}
	history := ""
	first := []content{g.content(1), g.content(2), g.content(3), g.content(4)}
	for _, s := range []*side{o.sealed, o.plain} {
		var records []any
		for _, c := range first {
			records = append(records, s.of(c))
		}
		if err := o.db.Create(s.list(records)).Error; err != nil {
			o.Fatal(err)
		}
	}
	for range 12 {
		if g.IntN(5) > 0 {
			if !o.step(g.step(), o.db, o.db, &history, seed) {
				return
			}
			continue
		}
		// Each side has a transaction of its own, one after the other.
		steps, commit := []step{g.step(), g.step(), g.step()}, g.IntN(2) == 0
		o.transaction(steps, commit, &history)
		if !o.compare(history, seed) {
			return
		}
	}
}

func (o *oracle) transaction(steps []step, commit bool, history *string) {
	run := func(s *side) (outcome string) {
		err := o.db.Transaction(func(tx *gorm.DB) error {
			for _, st := range steps {
				r := st.do(s, tx.Session(&gorm.Session{}))
				if outcome += fmt.Sprint(" ", r.RowsAffected, r.Error == nil); r.Error != nil {
					return r.Error
				}
				if st.isStale(r) {
					s.forget(st.id)
				}
			}
			if !commit {
				return errRollback
			}
			return nil
		})
		clear(s.held)
		return outcome + fmt.Sprint(err == nil)
	}
	*history += fmt.Sprintf("transaction of %s, %s, %s; ", steps[0].what, steps[1].what, steps[2].what)
	for _, st := range steps {
		if st.what == "encrypted Updates of many" { // ours refuses it
			return
		}
	}
	if ours, theirs := run(o.sealed), run(o.plain); ours != theirs {
		o.Errorf("%s: ours has %s, GORM %s", *history, ours, theirs)
	}
	o.steps += len(steps)
}

func (o *oracle) step(st step, ours, theirs *gorm.DB, history *string, seed uint64) bool {
	*history += fmt.Sprintf("%s of %d; ", st.what, st.id)
	before := o.sealed.rows(o.T, ours)
	mine := st.do(o.sealed, ours)
	o.steps++
	if errors.Is(mine.Error, errors.ErrUnsupported) || errors.Is(mine.Error, kmsencrypted.ErrUnsealed) {
		o.refused++
		if after := o.sealed.rows(o.T, ours); !reflect.DeepEqual(before, after) {
			o.Errorf("seed %d: %s: refused, and yet the rows changed", seed, *history)
			return false
		}
		o.plain.forget(st.id)
		o.sealed.forget(st.id)
		return true
	}
	other := st.do(o.plain, theirs)
	if mine.RowsAffected != other.RowsAffected || (mine.Error == nil) != (other.Error == nil) {
		o.Errorf("seed %d: %s: %d rows and %v, GORM has %d and %v", seed, *history, mine.RowsAffected, mine.Error, other.RowsAffected, other.Error)
		return false
	}
	if mine.RowsAffected > 0 {
		o.wrote++
	}
	if st.isStale(mine) {
		o.plain.forget(st.id)
		o.sealed.forget(st.id)
	}
	return o.compare(*history, seed)
}

func (o *oracle) compare(history string, seed uint64) bool {
	ours, theirs := o.sealed.rows(o.T, o.db), o.plain.rows(o.T, o.db)
	if !reflect.DeepEqual(ours, theirs) {
		o.Errorf("seed %d: %s\nours %v\nGORM %v", seed, history, ours, theirs)
		return false
	}
	return true
}

// testOracle runs a third of the programs.
func testOracle(t *testing.T, driver, dsn string, dialector func(*sql.DB) gorm.Dialector) {
	programs := 300
	if n, err := strconv.Atoi(os.Getenv("KMSENCRYPTED_GORM_PROGRAMS")); err == nil {
		programs = n
	}
	raw, err := sql.Open(driver, dsn) // the plain side writes plaintexts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	db, err := gorm.Open(dialector(raw), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	model, err := field.NewModel[sealedRow](kmstest.Box(t), field.Config{Table: "sealed_rows"})
	if err := errors.Join(err, db.Use(kmsgorm.New(model))); err != nil {
		t.Fatal(err)
	}
	id := map[string]string{"postgres": "bigserial PRIMARY KEY", "mysql": autoID[3:], "sqlite": "integer PRIMARY KEY AUTOINCREMENT"}[db.Dialector.Name()]
	stamp := map[string]string{"postgres": "timestamptz", "mysql": "datetime(3)", "sqlite": "datetime"}[db.Dialector.Name()]
	for _, table := range []string{"plain_rows", "sealed_rows"} {
		ddl := "CREATE TABLE " + table + " (id " + id + ", name text, encrypted_kms_key text, email text, note text, touched integer, version bigint, deleted_at " + stamp + ")"
		if err := errors.Join(db.Exec("DROP TABLE IF EXISTS "+table).Error, db.Exec(ddl).Error); err != nil {
			t.Fatal(err)
		}
		if db.Dialector.Name() == "postgres" { // ids of the program do not meet those of the sequence
			db.Exec("ALTER SEQUENCE " + table + "_id_seq RESTART WITH 100")
		}
	}
	o := &oracle{T: t, db: db}
	for seed := range uint64(programs / 3) {
		o.program(seed)
		if t.Failed() {
			return
		}
	}
	t.Logf("counted: %d programs of GORM calls on %s: %d steps, %d of them wrote, %d refused", programs/3, db.Dialector.Name(), o.steps, o.wrote, o.refused)
}

func TestOracleSQLite(t *testing.T) {
	t.Parallel()
	testOracle(t, "sqlite", t.TempDir()+"/a.db?_pragma=synchronous(0)", func(raw *sql.DB) gorm.Dialector { return sqlite.New(sqlite.Config{Conn: raw}) })
}

func TestOraclePostgres(t *testing.T) {
	t.Parallel()
	testOracle(t, "pgx", dbserver.Postgres(t), func(raw *sql.DB) gorm.Dialector { return dialectorOf(field.Postgres, raw) })
}

func TestOracleMariaDB(t *testing.T) {
	t.Parallel()
	testOracle(t, "mysql", dbserver.MariaDB(t)+"&parseTime=true", func(raw *sql.DB) gorm.Dialector { return dialectorOf(field.MySQL, raw) })
}
