package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/race"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

type person struct {
	ID    int64             `db:"id"`
	Key   field.Key         `db:"encrypted_kms_key"`
	Email field.Of[string]  `db:"email_ciphertext"`
	Phone field.Of[*string] `db:"phone_ciphertext"`
}

type order struct {
	Tenant int64            `db:"tenant" kms:"id"`
	Number string           `db:"number" kms:"id"`
	Part   int32            `db:"part" kms:"id"`
	Key    field.Key        `db:"encrypted_kms_key"`
	Note   field.Of[string] `db:"note_ciphertext"`
}

type document struct {
	ID   uuid.UUID        `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Body field.Of[[]byte] `db:"body_ciphertext" kms:"binary"`
}

type setting struct {
	Name  string           `db:"name" kms:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Value field.Of[string] `db:"value_ciphertext"`
}

func TestStorePostgres(t *testing.T) { testStore(t, postgres) }
func TestStoreMariaDB(t *testing.T)  { testStore(t, mariadb) }
func TestStoreMySQL(t *testing.T)    { testStore(t, mysql) }
func TestStoreSQLite(t *testing.T)   { testStore(t, sqlite) }

func TestStoreMySQLish(t *testing.T)       { testSettings(t, mysqlLike) }
func TestStoreMariaDBLenient(t *testing.T) { testSettings(t, mariadb.with(lenient)) }
func TestStoreMySQLLenientCluster(t *testing.T) {
	testSettings(t, mysql.with(lenient).with(ofSeven))
}
func TestStoreMySQLishLenientCluster(t *testing.T) {
	testSettings(t, mysqlLike.with(lenient).with(ofSeven))
}

// testSettings is testStore on a database that differs from one above in its settings.
func testSettings(t *testing.T, d database) {
	if race.Detector {
		t.Skip("the same code of ours runs at the same time as on the other databases")
	}
	testStore(t, d)
}

// testStore runs what every database must pass. The race detector watches only what has
// several writers.
func testStore(t *testing.T, d database) {
	t.Parallel()
	tests := several
	if !race.Detector {
		tests = slices.Concat(several, alone)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // they wait for the database more than they compute
			test.run(t, d)
		})
	}
}

type storeTest struct {
	name string
	run  func(*testing.T, database)
}

var (
	several = []storeTest{
		{"many rows", func(t *testing.T, d database) { testPeople(t, d, 700) }},
		{"column set meanwhile", testNullColumn},
		{"rows come and go", testComeAndGo},
		{"shared", testShared},
		{"migrate beside an old program", testMigrateBesideOld},
		{"reindex beside a writer", testReindexBeside},
		{"limit and plan", testLimit},
		{"lost lease", testLostLease},
		{"pause", testPause},
	}
	alone = []storeTest{
		{"no row", func(t *testing.T, d database) { testPeople(t, d, 0) }},
		{"one row", func(t *testing.T, d database) { testPeople(t, d, 1) }},
		{"compound key", testCompound},
		{"uuid key", testUUID},
		{"text key", testText},
		{"bad rows", testBadRows},
		{"migrate", testMigrate},
		{"reindex", testReindex},
		{"complete", testComplete},
		{"heal", testHeal},
		{"put back", testPutBack},
		{"checks", testChecks},
		{"slices", testSlices},
		{"slices refused", testSlicesRefused},
		{"part", testPart},
		{"refused by the database", testRefused},
	}
)

func testPeople(t *testing.T, d database, n int) {
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i*i + 1), Email: field.New(fmt.Sprintf("p%d@example.org", i*i+1))}
		if i%2 == 0 {
			people[i].Phone.Set(new(fmt.Sprint(i)))
		}
	}
	rotateThrough(t, d, "people", "id bigint PRIMARY KEY", people, func(p person) bool {
		return p.Email.Must() == fmt.Sprintf("p%d@example.org", p.ID)
	})
}

func testCompound(t *testing.T, d database) {
	var orders []*order
	for i := range 600 {
		o := &order{Tenant: int64(i%7 + 1), Number: fmt.Sprintf("N-%d", i/14), Part: int32(i%14 + 1)}
		o.Note.Set(fmt.Sprint(o.Tenant, o.Number, o.Part))
		orders = append(orders, o)
	}
	rotateThrough(t, d, "orders", "tenant bigint, number "+d.id+", part int", orders, func(o order) bool {
		return o.Note.Must() == fmt.Sprint(o.Tenant, o.Number, o.Part)
	}, "PRIMARY KEY (tenant, number, part)")
}

func testUUID(t *testing.T, d database) {
	documents := make([]*document, 500)
	for i := range documents {
		id := uuid.New()
		documents[i] = &document{ID: id, Body: field.New(append([]byte{0, 0xff, '\\', '"'}, id[:]...))}
	}
	id := d.id
	if d.dialect == field.Postgres {
		id = "uuid"
	}
	rotateThrough(t, d, "documents", "id "+id+" PRIMARY KEY", documents, func(r document) bool {
		return strings.HasSuffix(string(r.Body.Must()), string(r.ID[:]))
	})
}

func testText(t *testing.T, d database) {
	settings := make([]*setting, 500)
	for i := range settings {
		name := fmt.Sprintf("%x\\\"{é, 'ß'} %d", i*7919, i)
		settings[i] = &setting{Name: name, Value: field.New("value of " + name)}
	}
	rotateThrough(t, d, "settings", "name "+d.id+" PRIMARY KEY", settings, func(s setting) bool {
		return s.Value.Must() == "value of "+s.Name
	})
}

// rotateThrough rewraps rows to version 2 and rekeys them to version 3.
func rotateThrough[R any](t *testing.T, d database, table, id string, rows []*R, intact func(R) bool, constraints ...string) {
	t.Helper()
	dir, db := t.TempDir(), d.open(t)
	old := model[R](t, box(t, dir, 1), table)
	create(t, d, db, old, id, constraints...)
	insert(t, db, old, rows)
	for _, step := range []struct {
		version int
		kind    rotation.Kind
	}{{2, rotation.Rewrap}, {3, rotation.Rekey}} {
		b := box(t, dir, step.version)
		m := model[R](t, b, table)
		r := rotator(t, d, db, b, m, rotation.Options{Kind: step.kind, Shards: 5, BatchSize: 64, Workers: 3})
		result, err := r.Run(t.Context())
		must(t, err)
		if want := (rotation.Outcome{Written: int64(len(rows))}); result.Outcome != want || !result.Done {
			t.Fatalf("Run(%s) = %+v, want %+v and done", step.kind, result, want)
		}
		if got := versions(t, db, table); len(rows) > 0 && !maps.Equal(got, map[int]int{step.version: len(rows)}) {
			t.Fatalf("versions after %s = %v", step.kind, got)
		}
		for _, row := range load(t, db, m) {
			if !intact(row) {
				t.Errorf("after %s a row holds something else: %+v", step.kind, row)
			}
		}
		v, err := r.Verify(t.Context(), rotation.VerifyOptions{})
		must(t, err)
		if !v.Clean(step.version) || v.Opened != int64(len(rows)) {
			t.Errorf("Verify() = %+v, want %d opened and clean", v, len(rows))
		}
	}
	var journal int
	must(t, db.Get(&journal, "SELECT count(*) FROM kms_rotation_journal"))
	if journal != 2*len(rows) {
		t.Errorf("journal has %d keys, want %d of each run", journal, len(rows))
	}
}

// Of 10,000 records 50 are damaged in different ways. All others are moved, each
// of the 50 is listed with its reason, and the next run moves those that were mended.
func testBadRows(t *testing.T, d database) {
	const n, bad = 2_000, 50
	dir, db := t.TempDir(), d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New("secret")}
	}
	insert(t, db, old, people)
	value := func(v any, err error) string { must(t, err); return v.(string) }
	damages := []struct {
		column, class string
		damage        func(email, key, other string) string
	}{
		{"email_ciphertext", "decrypt", func(email, _, _ string) string { return flipped(email) }},
		{"email_ciphertext", "not-ciphertext", func(string, string, string) string { return "plain text" }},
		{"encrypted_kms_key", "malformed", func(_, key, _ string) string { return key[:20] }},
		{"encrypted_kms_key", "version-not-active", func(_, key, _ string) string { return "v9" + key[2:] }},
		{"encrypted_kms_key", "decrypt", func(_, _, other string) string { return other }},
	}
	want, undo := make(map[string]string), make([]func(), 0, bad)
	for i := range bad {
		p, damage := people[i*37+5], damages[i%len(damages)]
		email, key := value(p.Email.Value()), value(p.Key.Value())
		before := key
		if damage.column == "email_ciphertext" {
			before = email
		}
		set := func(v string) {
			_, err := db.Exec(db.Rebind("UPDATE people SET "+damage.column+" = ? WHERE id = ?"), v, p.ID)
			must(t, err)
		}
		set(damage.damage(email, key, value(people[i*37+6].Key.Value())))
		undo = append(undo, func() { set(before) })
		want[fmt.Sprintf("id=%d", p.ID)] = damage.class
	}
	b := box(t, dir, 3)
	m := model[person](t, b, "people")
	r := rotator(t, d, db, b, m, rotation.Options{Kind: rotation.Rekey, BatchSize: 200, Shards: 4})
	result, err := r.Run(t.Context())
	must(t, err)
	if good := int64(n - len(want)); result.Written != good || !result.Done {
		t.Errorf("Run() = %+v, want %d written and done", result, good)
	}
	failures, err := r.Failures(t.Context(), 0)
	must(t, err)
	got := make(map[string]string)
	for _, f := range failures {
		got[f.Record] = f.Class
		if strings.Contains(f.Err.Error(), "secret") {
			t.Errorf("failure holds a value: %v", f.Err)
		}
	}
	if !maps.Equal(got, want) || len(failures) != len(want) {
		t.Errorf("Failures() = %v, want %v", got, want)
	}
	for _, mend := range undo {
		mend()
	}
	result, err = r.Run(t.Context())
	must(t, err)
	if result.Outcome != (rotation.Outcome{Written: int64(len(want))}) || !result.Done {
		t.Errorf("second Run() = %+v, want the %d mended ones written", result, len(want))
	}
	_, err = db.Exec("UPDATE people SET encrypted_kms_key = NULL WHERE id = 1")
	must(t, err)
	v, err := r.Verify(t.Context(), rotation.VerifyOptions{})
	must(t, err)
	if len(v.Failures) != 1 || v.Failures[0].Class != "no-data-key" || v.Opened != n-1 {
		t.Errorf("Verify() = %d opened, failures %v, want one without key", v.Opened, v.Failures)
	}
	_, err = rotator(t, d, db, box(t, dir, 2), model[person](t, box(t, dir, 2), "people"),
		rotation.Options{MaxFailures: 1}).Run(t.Context())
	must(t, err) // nothing fails any more, so one more version back is a rotation too
	if got := versions(t, db, "people"); !maps.Equal(got, map[int]int{0: 1, 2: n - 1}) {
		t.Errorf("versions after going back = %v", got)
	}
}

// flipped changes a bit in the middle of a base64 text.
func flipped(text string) string {
	raw := []byte(text)
	if i := len(raw) * 3 / 4; raw[i] == 'A' {
		raw[i] = 'B'
	} else {
		raw[i] = 'A'
	}
	return string(raw)
}

// A column that was NULL when a rekey read it, and is set before it writes, is
// sealed under the old data key. The rekey must not write over that.
func testNullColumn(t *testing.T, d database) {
	dir, db := t.TempDir(), d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	rows := []*person{{ID: 1, Email: field.New("a@example.org")}, {ID: 2, Email: field.New("b@example.org")}}
	insert(t, db, old, rows)
	m := model[person](t, box(t, dir, 3), "people")
	s, err := sqlstore.New(t.Context(), db.DB, d.dialect, m, sqlstore.Options{})
	must(t, err)
	must(t, s.CreateTables(t.Context()))
	must(t, s.Start(t.Context(), rotation.Run{ID: "r", Kind: rotation.Rekey, Target: 3, Pass: 1, State: rotation.RunActive}, []rotation.Range{{}}))
	shard, _, err := s.Take(t.Context(), "r", "me", rotation.AnyShard, 1e10)
	must(t, err)
	b, err := s.Read(t.Context(), rotation.Selection{Limit: 10, Kind: rotation.Rekey, Target: 3})
	must(t, err)
	must(t, b.Rotate(t.Context(), 0, 2))

	rows[0].Phone.Set(new("123"))
	must(t, old.Seal(t.Context(), rows[0]))
	_, err = db.Exec(db.Rebind("UPDATE people SET phone_ciphertext = ? WHERE id = 1"), rows[0].Phone)
	must(t, err)

	outcome, err := b.Write(t.Context(), rotation.Position{Shard: shard, After: b.Last(), Done: true, Lease: 1e10})
	must(t, err)
	if want := (rotation.Outcome{Written: 1, Conflicts: 1}); outcome != want {
		t.Errorf("Write() = %+v, want %+v", outcome, want)
	}
	for _, p := range load(t, db, m) {
		if phone := p.Phone.Must(); p.ID == 1 && (phone == nil || *phone != "123") {
			t.Errorf("row 1: phone is lost")
		}
	}
}

// A worker whose lease is over writes nothing.
func testLostLease(t *testing.T, d database) {
	dir, db := t.TempDir(), d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	insert(t, db, old, []*person{{ID: 1, Email: field.New("a@example.org")}})
	s, err := sqlstore.New(t.Context(), db.DB, d.dialect, model[person](t, box(t, dir, 2), "people"), sqlstore.Options{})
	must(t, err)
	must(t, s.CreateTables(t.Context()))
	run := rotation.Run{ID: "r", Kind: rotation.Rewrap, Target: 2, Pass: 1, State: rotation.RunActive}
	must(t, s.Start(t.Context(), run, []rotation.Range{{}}))
	run.ID = "other"
	if err := s.Start(t.Context(), run, []rotation.Range{{}}); !errors.Is(err, kmsencrypted.ErrConflict) {
		t.Errorf("second Start() = %v, want ErrConflict", err)
	}
	slow, offer, err := s.Take(t.Context(), "r", "slow", rotation.AnyShard, 0)
	must(t, err)
	if offer != rotation.OfferShard {
		t.Fatalf("Take() = %v, want a shard", offer)
	}
	b, err := s.Read(t.Context(), rotation.Selection{Limit: 10, Kind: rotation.Rewrap, Target: 2})
	must(t, err)
	must(t, b.Rotate(t.Context(), 0, 1))
	for { // a lease of 0 is over with the next millisecond
		_, offer, err = s.Take(t.Context(), "r", "quick", rotation.AnyShard, 1e10)
		must(t, err)
		if offer == rotation.OfferShard {
			break
		}
	}
	if err := s.Keep(t.Context(), slow, 1e10); !errors.Is(err, rotation.ErrLeaseLost) {
		t.Errorf("Keep() = %v, want ErrLeaseLost", err)
	}
	_, err = b.Write(t.Context(), rotation.Position{Shard: slow, After: b.Last(), Done: true, Lease: 1e10})
	if !errors.Is(err, rotation.ErrLeaseLost) {
		t.Errorf("Write() = %v, want ErrLeaseLost", err)
	}
	if got := versions(t, db, "people"); got[1] != 1 {
		t.Errorf("versions = %v, want the row as it was", got)
	}
}

// Rows are inserted, by old writers too, and deleted while a run goes on.
func testComeAndGo(t *testing.T, d database) {
	const n = 1500
	dir, db := t.TempDir(), d.open(t)
	before, after := model[person](t, box(t, dir, 1), "people"), model[person](t, box(t, dir, 3), "people")
	create(t, d, db, before, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, db, before, people)
	r := rotator(t, d, db, box(t, dir, 3), after, rotation.Options{
		Kind: rotation.Rekey, BatchSize: 100, Workers: 2, Calls: rotation.NewLimiter(6000),
	})
	var others sync.WaitGroup
	var inserted, deleted atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	others.Go(func() {
		for i := range 150 {
			m := after
			if i < 20 {
				m = before
			}
			id := int64(n + i + 1)
			if i%2 == 0 {
				id = -id
			}
			p := &person{ID: id, Email: field.New(fmt.Sprint("person ", id))}
			if err := errors.Join(m.SealNew(ctx, p), insertSealed(ctx, db, m, []*person{p})); err != nil {
				t.Errorf("insert: %v", err)
				return
			}
			inserted.Add(1)
		}
	})
	others.Go(func() {
		for range 150 {
			result, err := db.ExecContext(ctx, fmt.Sprintf("DELETE FROM people WHERE id = %d", rand.IntN(n)+1))
			if err != nil {
				t.Errorf("delete: %v", err)
				return
			}
			gone, _ := result.RowsAffected()
			deleted.Add(gone)
		}
	})
	result, err := r.Run(t.Context())
	others.Wait()
	stop()
	must(t, err)
	if !result.Done || result.Failed != 0 {
		t.Errorf("Run() = %+v, want done", result)
	}
	// An old writer may have inserted behind the last pass.
	_, err = r.Run(t.Context())
	must(t, err)
	left := int(n + inserted.Load() - deleted.Load())
	if got := versions(t, db, "people"); got[3] != left || len(got) != 1 {
		t.Errorf("versions = %v, want %d at 3", got, left)
	}
	for _, p := range load(t, db, after) {
		if want := fmt.Sprint("person ", p.ID); p.Email.Must() != want {
			t.Errorf("row %d = %q, want %q", p.ID, p.Email.Must(), want)
		}
	}
}

// Two rotators share one run.
func testShared(t *testing.T, d database) {
	const n = 1200
	dir, db := t.TempDir(), d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New("secret")}
	}
	insert(t, db, old, people)
	b := box(t, dir, 2)
	m := model[person](t, b, "people")
	var runs sync.WaitGroup
	results := make([]rotation.Result, 2)
	for i := range results {
		r := rotator(t, d, db, b, m, rotation.Options{BatchSize: 20, Workers: 2, Shards: 16})
		runs.Go(func() {
			var err error
			if results[i], err = r.Run(t.Context()); err != nil {
				t.Errorf("Run() = %v", err)
			}
		})
	}
	runs.Wait()
	if sum := results[0].Written + results[1].Written; sum != n {
		t.Errorf("two runs wrote %d + %d, want %d together", results[0].Written, results[1].Written, n)
	}
	if results[0].Run != results[1].Run {
		t.Logf("the second began when the first was done")
	}
}

// A pause by another process stops a run within a batch, and it goes on later.
func testPause(t *testing.T, d database) {
	const n = 500
	dir, db := t.TempDir(), d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New("secret")}
	}
	insert(t, db, old, people)
	b := box(t, dir, 2)
	m := model[person](t, b, "people")
	other := rotator(t, d, db, b, m, rotation.Options{})
	var paused sync.Once
	r := rotator(t, d, db, b, m, rotation.Options{BatchSize: 10, Workers: 1, Shards: 4, Observe: func(e rotation.Event) {
		if e.Type == rotation.EventBatch {
			paused.Do(func() {
				if err := other.Pause(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}})
	result, err := r.Run(t.Context())
	if !errors.Is(err, rotation.ErrPaused) || result.Written != 10 {
		t.Errorf("Run() = %+v, %v, want ErrPaused after 10", result, err)
	}
	must(t, other.Resume(t.Context()))
	result, err = other.Run(t.Context())
	must(t, err)
	if result.Written != n-10 || !result.Done {
		t.Errorf("Run() after Resume = %+v, want %d written", result, n-10)
	}
}

// A row that the database itself refuses is a failure like any other.
func testRefused(t *testing.T, d database) {
	const n = 300
	dir, db := t.TempDir(), d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY", "CONSTRAINT frozen CHECK (id NOT IN (7, 200) OR encrypted_kms_key LIKE 'v1:%')")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New("secret")}
	}
	insert(t, db, old, people)
	b := box(t, dir, 3)
	m := model[person](t, b, "people")
	r := rotator(t, d, db, b, m, rotation.Options{Kind: rotation.Rekey, BatchSize: 100, Shards: 2})
	for _, written := range []int64{n - 2, 0} {
		result, err := r.Run(t.Context())
		must(t, err)
		if result.Written != written || !result.Done {
			t.Errorf("Run() = %+v, want %d written and done", result, written)
		}
		failures, err := r.Failures(t.Context(), 0)
		must(t, err)
		if len(failures) != 2 || failures[0].Record != "id=7" || failures[1].Record != "id=200" || failures[0].Class != "database" {
			t.Errorf("Failures() = %v, want rows 7 and 200", failures)
		}
	}
	load(t, db, m)
	if got := versions(t, db, "people"); got[1] != 2 || got[3] != n-2 {
		t.Errorf("versions = %v", got)
	}
}

func testLimit(t *testing.T, d database) {
	const n = 300
	dir, db := t.TempDir(), d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1)}
		if i >= 10 {
			people[i].Email.Set("secret")
		}
	}
	insert(t, db, old, people)
	b := box(t, dir, 2)
	r := rotator(t, d, db, b, model[person](t, b, "people"), rotation.Options{Limit: 100, Workers: 1})
	plan, err := r.Plan(t.Context())
	must(t, err)
	if plan.Keys != n-10 || plan.Calls != 2*(n-10)+100 || len(plan.Versions) != 2 {
		t.Errorf("Plan() = %+v, want %d keys at version 1 and 10 rows without", plan, n-10)
	}
	dry, err := r.Verify(t.Context(), rotation.VerifyOptions{OnlyOld: true})
	must(t, err)
	if dry.Opened != n-10 || len(dry.Failures) != 0 {
		t.Errorf("dry run = %+v, want %d opened", dry, n-10)
	}
	result, err := r.Run(t.Context())
	must(t, err)
	if result.Written != 100 || result.Done {
		t.Errorf("Run() = %+v, want 100 written and more to do", result)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run(cancelled) = %v", err)
	}
	must(t, r.Cancel(t.Context()))
	status, found, err := r.Status(t.Context())
	must(t, err)
	if !found || status.State != rotation.RunCanceled || status.Written != 100 {
		t.Errorf("Status() = %+v, %v, want cancelled after 100", status, found)
	}
}
