package sqlstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// plainPatient is a table before encryption, patient while it is encrypted.
type plainPatient struct {
	ID     int64      `db:"id"`
	Name   *string    `db:"name"`
	Weight *float64   `db:"weight"`
	Born   *time.Time `db:"born"`
}

type patient struct {
	plainPatient
	Key          field.Key            `db:"encrypted_kms_key"`
	NameSealed   field.Of[*string]    `db:"name_ciphertext" kms:"migrating=Name"`
	WeightSealed field.Of[*float64]   `db:"weight_ciphertext" kms:"migrating=Weight"`
	BornSealed   field.Of[*time.Time] `db:"born_ciphertext" kms:"migrating=Born"`
	Note         field.Of[*string]    `db:"note_ciphertext"`
	NameIndex    field.Index          `db:"name_bidx" kms:"of=NameSealed,algorithm=pbkdf2_sha256"`
}

func patients(t testing.TB, b *kmsencrypted.Box, indexKey byte) *field.Model[patient] {
	t.Helper()
	key, err := blindindex.NewMasterKey(bytes.Repeat([]byte{indexKey}, blindindex.KeySize))
	must(t, err)
	m, err := field.NewModel[patient](b, field.Config{Table: "patients", IndexKey: key})
	must(t, err)
	return m
}

func createPatients(t testing.TB, d database, db *sqlx.DB, m *field.Model[patient]) {
	t.Helper()
	kinds := map[field.Dialect][3]string{
		field.Postgres: {"text", "double precision", "timestamptz"}, field.MySQL: {"varchar(100)", "double", "datetime(6)"}, field.SQLite: {"text", "real", "datetime"},
	}[d.dialect]
	create(t, d, db, m, "id bigint PRIMARY KEY", "name "+kinds[0], "weight "+kinds[1], "born "+kinds[2])
}

// Plaintext columns are filled, and rows that were filled are moved: rows without
// any key, without some columns, at an old version, at the target with a column to
// fill, and one that an old program changes meanwhile.
func testMigrate(t *testing.T, d database) {
	const n = 300
	dir, db := t.TempDir(), d.open(t)
	old := patients(t, box(t, dir, 1), 'x')
	createPatients(t, d, db, old)
	born := time.Date(1815, 12, 10, 1, 2, 3, 456789000, time.UTC)
	name := func(id int64) string { return fmt.Sprint("Ada ", id) }
	for i := range int64(n) {
		p := &patient{plainPatient: plainPatient{ID: i + 1}}
		if i%3 > 0 {
			p.Name = new(name(p.ID))
		}
		if i%3 > 1 {
			p.Weight, p.Born = new(0.1+float64(i)/3), new(born.Add(time.Duration(i)*time.Hour))
		}
		_, err := db.NamedExec("INSERT INTO patients (id, name, weight, born) VALUES (:id, :name, :weight, :born)", p)
		must(t, err)
	}
	seal := func(m *field.Model[patient], id int64) { // only the note, as if the migration stood still
		p := &patient{plainPatient: plainPatient{ID: id}}
		p.Note.Set(new("note"))
		must(t, m.SealNew(t.Context(), p))
		_, err := db.Exec(db.Rebind("UPDATE patients SET encrypted_kms_key = ?, note_ciphertext = ? WHERE id = ?"), p.Key, p.Note, id)
		must(t, err)
	}
	b := box(t, dir, 3)
	m := patients(t, b, 'x')
	seal(old, 3)
	seal(m, 6)
	r := rotator(t, d, db, b, m, rotation.Options{Kind: rotation.Migrate, BatchSize: 40, Shards: 3, Workers: 2})
	plan, err := r.Plan(t.Context())
	must(t, err)
	const filled = n * 2 / 3
	// Each takes a call: a new key is wrapped, and that at the target is unwrapped. That at
	// version 1 takes two.
	if plan.Records != filled || plan.Calls != filled+1+min(filled, 100) {
		t.Errorf("Plan() = %+v, want %d records", plan, filled)
	}
	result, err := r.Run(t.Context())
	must(t, err)
	if result.Outcome != (rotation.Outcome{Written: filled}) || !result.Done || result.Pass != 1 {
		failures, _ := r.Failures(t.Context(), 2)
		t.Errorf("Run() = %+v, want %d written in one pass; %v", result, filled, failures)
	}
	if got := versions(t, db, "patients"); got[3] != filled || got[0] != n-filled {
		t.Errorf("versions = %v", got)
	}
	for _, p := range load(t, db, m) {
		i := p.ID - 1
		has := p.NameSealed.Must() != nil && *p.NameSealed.Must() == name(p.ID)
		weight, at := p.WeightSealed.Must(), p.BornSealed.Must()
		switch {
		case i%3 == 0 && p.NameSealed.Must() != nil, i%3 > 0 && !has,
			i%3 == 2 && (weight == nil || *weight != 0.1+float64(i)/3 || at == nil || !at.Equal(born.Add(time.Duration(i)*time.Hour))):
			t.Errorf("patient %d = %v %v %v", p.ID, p.NameSealed.Must(), weight, at)
		}
		if note := p.Note.Must(); (p.ID == 3 || p.ID == 6) != (note != nil) {
			t.Errorf("patient %d: note %v", p.ID, note)
		}
		if index, err := p.NameIndex.Value(); err != nil || (index != nil) != (i%3 > 0) {
			t.Errorf("patient %d: index %v, %v", p.ID, index, err)
		}
		if !m.Migrated(&p) {
			t.Errorf("patient %d is not migrated", p.ID)
		}
	}
	derived := func(m *field.Model[patient]) map[string]string {
		t.Helper()
		var passed int64
		r := rotator(t, d, db, b, m, rotation.Options{BatchSize: 40, Workers: 1, Observe: func(e rotation.Event) {
			if e.Type == rotation.EventOpened {
				if e.Planned != n || e.Passed < passed {
					t.Errorf("verified %d of %d after %d of %d", e.Passed, e.Planned, passed, n)
				}
				passed = e.Passed
			}
		}})
		v, err := r.Verify(t.Context(), rotation.VerifyOptions{Derived: true})
		must(t, err)
		if passed != n {
			t.Errorf("Verify() told of %d records, want %d", passed, n)
		}
		classes := make(map[string]string)
		for _, f := range v.Failures {
			classes[f.Record] = f.Class
			if strings.Contains(f.Err.Error(), "Ada") || strings.Contains(f.Err.Error(), "Countess") {
				t.Errorf("failure of %s holds a value", f.Record)
			}
		}
		return classes
	}
	if got := derived(m); len(got) != 0 {
		t.Errorf("Verify() of a migrated table = %v", got)
	}
	db.MustExec("UPDATE patients SET name = 'Countess' WHERE id = 2")
	db.MustExec("UPDATE patients SET name_bidx = NULL WHERE id = 3")
	want := map[string]string{"id=2": "not-migrated", "id=3": "stale-index"}
	if got := derived(m); !maps.Equal(got, want) {
		t.Errorf("Verify() = %v, want %v", got, want)
	}
	v, err := r.Verify(t.Context(), rotation.VerifyOptions{})
	must(t, err)
	if v.Clean(3) || len(v.Failures) != 1 || !errors.Is(v.Failures[0].Err, kmsencrypted.ErrNotMigrated) {
		t.Errorf("Verify() of a migration, after an old program wrote = %v, want one record", v.Failures)
	}
	if result, err = r.Run(t.Context()); err != nil || result.Outcome != (rotation.Outcome{Written: 1}) {
		t.Errorf("Run() of a migration, again = %+v, %v, want one written", result, err)
	}
	if v, err = r.Verify(t.Context(), rotation.VerifyOptions{}); err != nil || !v.Clean(3) {
		t.Errorf("Verify() of a migration, again = %v, %v", v.Failures, err)
	}
	if got := derived(m); !maps.Equal(got, map[string]string{"id=3": "stale-index"}) {
		t.Errorf("Verify() after another run = %v", got)
	}
	if got := derived(patients(t, b, 'y')); len(got) != filled || got["id=5"] != "stale-index" {
		t.Errorf("Verify() under another index key = %d failures, want %d", len(got), filled)
	}
	var journal int
	must(t, db.Get(&journal, "SELECT count(*) FROM kms_rotation_journal"))
	if journal != 1 {
		t.Errorf("journal has %d keys, want that of the row at version 1", journal)
	}
}

// swapping reads all that a kind selects, rotates it in memory, lets somebody
// change the rows, and writes.
func swapping[R any](t *testing.T, s *sqlstore.Store[R], kind rotation.Kind, meanwhile func()) rotation.Outcome {
	t.Helper()
	must(t, s.CreateTables(t.Context()))
	run := rotation.Run{ID: "r", Kind: kind, Target: 3, Pass: 1, State: rotation.RunActive}
	must(t, s.Start(t.Context(), run, []rotation.Range{{}}))
	shard, _, err := s.Take(t.Context(), "r", "me", 0, 1e10)
	must(t, err)
	b, err := s.Read(t.Context(), rotation.Selection{Limit: 100, Kind: kind, Target: 3})
	must(t, err)
	must(t, b.Rotate(t.Context(), 0, b.Len()))
	meanwhile()
	o, err := b.Write(t.Context(), rotation.Position{Shard: shard, After: b.Last(), Done: true, Lease: 1e10})
	must(t, err)
	return o
}

// A program that only knows the plain columns changes one of them meanwhile: the
// row is left to the next pass.
func testMigrateBesideOld(t *testing.T, d database) {
	db := d.open(t)
	m := patients(t, box(t, t.TempDir(), 3), 'x')
	createPatients(t, d, db, m)
	for id := range 4 {
		p := plainPatient{ID: int64(id + 1), Name: new("Ada"), Weight: new(1.0 / 3), Born: new(time.Unix(1e9, 0).UTC())}
		_, err := db.NamedExec("INSERT INTO patients (id, name, weight, born) VALUES (:id, :name, :weight, :born)", p)
		must(t, err)
	}
	s, err := sqlstore.New(t.Context(), db.DB, d.dialect, m, sqlstore.Options{})
	must(t, err)
	o := swapping(t, s, rotation.Migrate, func() {
		db.MustExec("UPDATE patients SET name = 'Countess' WHERE id = 1")
		db.MustExec("UPDATE patients SET weight = weight + 0.000001 WHERE id = 2")
		_, err := db.Exec(db.Rebind("UPDATE patients SET born = ? WHERE id = 3"), time.Unix(1e9, 1000).UTC())
		must(t, err)
	})
	if want := (rotation.Outcome{Written: 1, Conflicts: 3}); o != want {
		t.Errorf("Write() = %+v, want %+v", o, want)
	}
}

// All indexes get another key. Rows whose index is right are not written, one
// whose source is damaged is listed.
func testReindex(t *testing.T, d database) {
	const n = 120
	dir, db := t.TempDir(), d.open(t)
	b := box(t, dir, 3)
	old, m := patients(t, b, 'x'), patients(t, b, 'y')
	createPatients(t, d, db, old)
	var rows []*patient
	for i := range int64(n) {
		p := &patient{plainPatient: plainPatient{ID: i + 1}}
		p.NameSealed.Set(new(fmt.Sprint("Ada ", p.ID)))
		rows = append(rows, p)
	}
	insert(t, db, m, rows[:20], "name")
	insert(t, db, old, rows[20:], "name")
	db.MustExec("UPDATE patients SET name_bidx = NULL WHERE id = 50")
	db.MustExec("UPDATE patients SET name_ciphertext = 'no ciphertext' WHERE id = 60")
	before := versionsOf(t, db)
	r := rotator(t, d, db, b, m, rotation.Options{Kind: rotation.Reindex, BatchSize: 30, Shards: 2, Workers: 2})
	plan, err := r.Plan(t.Context())
	must(t, err)
	if plan.Records != n || plan.Calls != n {
		t.Errorf("Plan() = %+v, want a call for each of %d records", plan, n)
	}
	result, err := r.Run(t.Context())
	must(t, err)
	if result.Outcome != (rotation.Outcome{Written: n - 20 - 1, Failed: 1}) || !result.Done || result.Pass != 1 {
		t.Errorf("Run() = %+v, want all but 20 and the bad one written in one pass", result)
	}
	for column, index := range map[string]int{"Ada 7": 7, "Ada 50": 50, "Ada 119": 119} {
		var found []int
		query, args, err := sqlx.In("SELECT id FROM patients WHERE name_bidx IN (?)", blindColumns(t, m.Lookup("NameSealed", column)))
		must(t, err)
		must(t, db.Select(&found, db.Rebind(query), args...))
		if len(found) != 1 || found[0] != index {
			t.Errorf("look-up of %s finds %v, want %d", column, found, index)
		}
	}
	if after := versionsOf(t, db); after != before {
		t.Error("a reindex changed a key column")
	}
	create(t, d, db, model[person](t, b, "people"), "id bigint PRIMARY KEY")
	if _, err := rotator(t, d, db, b, model[person](t, b, "people"), rotation.Options{Kind: rotation.Reindex}).Run(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("reindex of a model without an index = %v, want ErrConfig", err)
	}
}

func blindColumns(t testing.TB, l field.Lookup) (values []blindindex.Column) {
	t.Helper()
	must(t, l.Err())
	return l.Columns
}

// versionsOf is all wrapped keys in one text.
func versionsOf(t testing.TB, db *sqlx.DB) string {
	t.Helper()
	var keys []string
	must(t, db.Select(&keys, "SELECT encrypted_kms_key FROM patients ORDER BY id"))
	return strings.Join(keys, "\n")
}

// If another program changes a field, it has written the index too; that index is not overwritten.
func testReindexBeside(t *testing.T, d database) {
	db := d.open(t)
	b := box(t, t.TempDir(), 3)
	old, m := patients(t, b, 'x'), patients(t, b, 'y')
	createPatients(t, d, db, old)
	rows := []*patient{{plainPatient: plainPatient{ID: 1}}, {plainPatient: plainPatient{ID: 2}}}
	for _, p := range rows {
		p.NameSealed.Set(new("Ada"))
	}
	insert(t, db, old, rows, "name")
	s, err := sqlstore.New(t.Context(), db.DB, d.dialect, m, sqlstore.Options{})
	must(t, err)
	o := swapping(t, s, rotation.Reindex, func() {
		p := patient{}
		must(t, db.Get(&p, "SELECT * FROM patients WHERE id = 2"))
		must(t, m.Open(t.Context(), &p))
		p.NameSealed.Set(new("Countess"))
		must(t, m.Seal(t.Context(), &p))
		_, err := db.Exec(db.Rebind("UPDATE patients SET name_ciphertext = ?, name_bidx = ? WHERE id = 2"), p.NameSealed, p.NameIndex)
		must(t, err)
	})
	if want := (rotation.Outcome{Written: 1, Conflicts: 1}); o != want {
		t.Errorf("Write() = %+v, want %+v", o, want)
	}
}

// A writer that does not compare the key column loses values in a rekey. Verify
// finds them and changes nothing; heal mends them with the journal's keys, of the
// run that it is told and of no other row.
func testHeal(t *testing.T, d database) {
	const n, strays = 200, 7
	dir, db := t.TempDir(), d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, db, old, people)
	b := box(t, dir, 3)
	m := model[person](t, b, "people")
	s, err := sqlstore.New(t.Context(), db.DB, d.dialect, m, sqlstore.Options{})
	must(t, err)
	must(t, s.CreateTables(t.Context()))
	var passes atomic.Int64
	r, err := rotation.New(b, s, rotation.Options{
		Kind: rotation.Rekey, WritersAreOurs: true, BatchSize: 30, Shards: 3,
		Observe: func(e rotation.Event) {
			if e.Type == rotation.EventPassDone {
				passes.Add(1)
			}
		},
	})
	must(t, err)
	run, err := r.Run(t.Context())
	must(t, err)
	if got := passes.Load(); got != int64(run.Pass) {
		t.Errorf("the workers told %d times that a pass is done, want once for each of %d", got, run.Pass)
	}
	for _, p := range people[:strays] { // as Rails does, with what it read before
		p.Phone.Set(new(fmt.Sprint("phone ", p.ID)))
		must(t, old.Seal(t.Context(), p))
		_, err := db.Exec(db.Rebind("UPDATE people SET phone_ciphertext = ? WHERE id = ?"), p.Phone, p.ID)
		must(t, err)
	}
	db.MustExec("UPDATE people SET email_ciphertext = 'no ciphertext' WHERE id = 100")
	verify := func(want int) {
		t.Helper()
		v, err := r.Verify(t.Context(), rotation.VerifyOptions{Note: true})
		must(t, err)
		if len(v.Failures) != want || v.Clean(3) != (want == 0) {
			t.Fatalf("Verify() = %v, want %d failures", v.Failures, want)
		}
	}
	verify(strays + 1)
	if status, _, err := r.Status(t.Context()); err != nil || !status.Verified.IsZero() {
		t.Errorf("Status() = %+v, %v: verified, and it was not clean", status, err)
	}
	dry, err := r.Heal(t.Context(), run.Run, rotation.HealOptions{DryRun: true})
	must(t, err)
	verify(strays + 1)
	for name, h := range map[string]rotation.Healing{"dry": dry, "other run": heal(t, r, "another")} {
		if (name == "dry") != (h.Mended == strays && h.Looked == n && len(h.Failures) == 1) {
			t.Errorf("Heal(%s) = %+v", name, h)
		}
	}
	if h := heal(t, r, run.Run); h.Mended != strays || h.Looked != n || h.Conflicts != 0 || len(h.Failures) != 1 || h.Failures[0].Record != "id=100" {
		t.Errorf("Heal() = %+v, want %d mended and row 100 failed", h, strays)
	}
	verify(1)
	_, err = db.Exec(db.Rebind("UPDATE people SET email_ciphertext = NULL WHERE id = 100"))
	must(t, err)
	verify(0)
	var all []person
	must(t, db.Select(&all, "SELECT * FROM people"))
	must(t, m.Open(t.Context(), field.Pointers(all)...))
	for _, p := range all {
		if phone := p.Phone.Must(); (p.ID <= strays) != (phone != nil && *phone == fmt.Sprint("phone ", p.ID)) {
			t.Errorf("row %d has phone %v", p.ID, phone)
		}
	}
	retireAndForget(t, r, s, db)
}

func heal(t *testing.T, r *rotation.Rotator, run string) rotation.Healing {
	t.Helper()
	h, err := r.Heal(t.Context(), run, rotation.HealOptions{})
	must(t, err)
	return h
}

// retireAndForget goes on where the table is clean at version 3, with a journal of
// keys at version 1.
func retireAndForget(t *testing.T, r *rotation.Rotator, s *sqlstore.Store[person], db *sqlx.DB) {
	t.Helper()
	entries := func() (n int) {
		must(t, db.Get(&n, "SELECT count(*) FROM kms_rotation_journal"))
		return n
	}
	before := entries()
	must(t, s.Forget(t.Context(), db, &person{ID: 5}, &person{ID: 1000}))
	if got := entries(); got != before-1 {
		t.Errorf("journal has %d keys after a record was forgotten, want %d", got, before-1)
	}
	retirement, err := r.Retirable(t.Context(), 1)
	must(t, err)
	if !errors.Is(retirement.Err(), rotation.ErrNotRetirable) || retirement.Journal != int64(before-1) || retirement.Rows != 0 || len(retirement.Unseen) == 0 {
		t.Errorf("Retirable(1) = %+v, want the journal in the way", retirement)
	}
	if _, err := r.Retirable(t.Context(), 3); !errors.Is(err, rotation.ErrNotRetirable) {
		t.Errorf("Retirable(current) = %v", err)
	}
	if n, err := r.ClearJournal(t.Context(), time.Hour); err != nil || n != 0 {
		t.Errorf("ClearJournal within the grace time = %d, %v", n, err)
	}
	if _, err := r.ClearJournal(t.Context(), -1); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("ClearJournal(-1) = %v", err)
	}
	if n, err := r.ClearJournal(t.Context(), 0); err != nil || n != int64(before-1) || entries() != 0 {
		t.Errorf("ClearJournal() = %d, %v, %d left", n, err, entries())
	}
	if retirement, err = r.Retirable(t.Context(), 1); err != nil || retirement.Err() != nil || retirement.Verified.IsZero() {
		t.Errorf("Retirable(1) = %+v, %v, want yes", retirement, err)
	}
	// Another run that finds nothing to move leaves all as it was verified.
	if _, err := r.Run(context.Background()); err != nil {
		t.Error(err)
	}
	if after, err := r.Retirable(t.Context(), 1); err != nil || after.Err() != nil || !after.Verified.Equal(retirement.Verified) {
		t.Errorf("Retirable(1) after a run that moved nothing = %+v, %v, want yes", after, err)
	}
	history, err := r.History(t.Context(), 0)
	must(t, err)
	if len(history) != 2 || history[0].Written != 0 || history[1].Written != 200 || history[1].Verified.IsZero() || history[1].Ended.Before(history[1].Started) ||
		history[1].Calls < 400+100 || history[1].Calls > 600 || history[1].Busy <= 0 || history[1].Stages.Read <= 0 || history[1].Stages.Rotate <= 0 || history[1].Stages.Write <= 0 || history[1].Rate() <= 0 || time.Since(history[1].Started).Abs() > time.Hour {
		t.Errorf("History() = %+v", history)
	}
	if short, err := r.History(t.Context(), 1); err != nil || len(short) != 1 || short[0].ID != history[0].ID {
		t.Errorf("History(1) = %+v, %v", short, err)
	}
	// A verification that finds a damaged record takes back what those before it
	// said, also of a sample; one that finds none gives it again.
	key := "SELECT encrypted_kms_key FROM people WHERE id = 2"
	var was string
	must(t, db.Get(&was, key))
	damage := func(stored string) {
		_, err := db.Exec(db.Rebind("UPDATE people SET encrypted_kms_key = ? WHERE id = 2"), stored)
		must(t, err)
	}
	verify := func(o rotation.VerifyOptions) error {
		o.Note = true
		_, err := r.Verify(context.Background(), o)
		must(t, err)
		retirement, err := r.Retirable(t.Context(), 1)
		must(t, err)
		return retirement.Err()
	}
	damage(was[:len(was)-8] + "AAAAAAA=")
	if err := verify(rotation.VerifyOptions{Sample: 1}); !errors.Is(err, rotation.ErrNotRetirable) {
		t.Errorf("Retirable(1) with a record that does not open: %v", err)
	}
	damage(was)
	if err := verify(rotation.VerifyOptions{Sample: 0.5}); !errors.Is(err, rotation.ErrNotRetirable) {
		t.Errorf("Retirable(1) after a sample was clean: %v", err)
	}
	if err := verify(rotation.VerifyOptions{}); err != nil {
		t.Error(err)
	}
	// After a run that met a record, what was verified before says nothing any more,
	// and a run that finds nothing does not bring it back.
	for _, stored := range []string{"v1:no key", was} {
		damage(stored)
		if _, err := r.Run(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if retirement, err = r.Retirable(t.Context(), 1); err != nil || !errors.Is(retirement.Err(), rotation.ErrNotRetirable) || retirement.Rows != 0 || !retirement.Verified.IsZero() {
		t.Errorf("Retirable(1) after a run that failed at a record = %+v, %v, want unverified", retirement, err)
	}
}
