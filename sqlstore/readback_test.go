package sqlstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// What a database does behind an UPDATE of the row with the id 7.
var behind = []struct {
	name string
	d    database
	sql  []string
}{
	{name: "a trigger skips the row", d: postgres, sql: []string{
		"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 7 THEN RETURN NULL; END IF; RETURN NEW; END $$",
		"CREATE TRIGGER tr BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION f()"}},
	{name: "a trigger returns the old row", d: postgres, sql: []string{
		"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 7 THEN RETURN OLD; END IF; RETURN NEW; END $$",
		"CREATE TRIGGER tr BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION f()"}},
	{name: "a trigger puts the row back", d: postgres, sql: []string{
		"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 7 AND pg_trigger_depth() = 1 THEN UPDATE people SET encrypted_kms_key = OLD.encrypted_kms_key WHERE id = 7; END IF; RETURN NULL; END $$",
		"CREATE TRIGGER tr AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION f()"}},
	{name: "a deferred trigger puts the row back", d: postgres, sql: []string{
		"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 7 AND pg_trigger_depth() = 1 THEN UPDATE people SET encrypted_kms_key = OLD.encrypted_kms_key WHERE id = 7; END IF; RETURN NULL; END $$",
		"CREATE CONSTRAINT TRIGGER tr AFTER UPDATE ON people DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION f()"}},
	{name: "a deferred trigger refuses the row", d: postgres, sql: []string{
		"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 7 THEN RAISE EXCEPTION 'no'; END IF; RETURN NULL; END $$",
		"CREATE CONSTRAINT TRIGGER tr AFTER UPDATE ON people DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION f()"}},
	{name: "a trigger sets the old key", d: mariadb, sql: []string{
		"CREATE TRIGGER tr BEFORE UPDATE ON people FOR EACH ROW IF OLD.id = 7 THEN SET NEW.encrypted_kms_key = OLD.encrypted_kms_key; END IF"}},
	{name: "a trigger ignores the row", d: sqlite, sql: []string{
		"CREATE TRIGGER tr BEFORE UPDATE ON people WHEN OLD.id = 7 BEGIN SELECT RAISE(IGNORE); END"}},
	{name: "a trigger puts the row back", d: sqlite, sql: []string{
		"CREATE TRIGGER tr AFTER UPDATE ON people WHEN OLD.id = 7 BEGIN UPDATE people SET encrypted_kms_key = OLD.encrypted_kms_key WHERE id = OLD.id; END"}},
}

// A row of which the database does not keep what it is sent is a failure. It stays
// as it was, the others move, and the run ends.
func TestReadBack(t *testing.T) {
	t.Parallel()
	for _, tt := range behind {
		for _, kind := range []rotation.Kind{rotation.Rewrap, rotation.Rekey} {
			t.Run(fmt.Sprintf("%s/%s/%s", tt.d.driver, tt.name, kind), func(t *testing.T) {
				t.Parallel()
				dir, db := t.TempDir(), tt.d.open(t)
				m := model[person](t, box(t, dir, 1), "people")
				create(t, tt.d, db, m, "id bigint PRIMARY KEY")
				insert(t, db, m, numbered(20))
				for _, q := range tt.sql {
					_, err := db.Exec(q)
					must(t, err)
				}
				now := model[person](t, box(t, dir, 2), "people")
				r := rotator(t, tt.d, db, now.Adapter().Box(), now, rotation.Options{Kind: kind})
				checkLeft(t, r, 19, 1)
				if got := versions(t, db, "people"); got[1] != 1 || got[2] != 19 {
					t.Errorf("rows by version: %v", got)
				}
				load(t, db, now)
			})
		}
	}
}

// A session that is not strict would cut a key that is longer than its column.
func TestCutMariaDB(t *testing.T)  { testCut(t, mariadb.with(lenient)) }
func TestCutMySQL(t *testing.T)    { testCut(t, mysql.with(lenient)) }
func TestCutMySQLish(t *testing.T) { testCut(t, mysqlLike.with(lenient)) }

func testCut(t *testing.T, d database) {
	t.Parallel()
	for _, kind := range []rotation.Kind{rotation.Rewrap, rotation.Rekey} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			old, next := keys(t, t.TempDir())
			at := func(current int) *field.Model[person] {
				b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{
					1: {Provider: old}, 22: {Provider: next}, // whose keys are one character longer
				}}.Box()
				must(t, err)
				return model[person](t, b, "people")
			}
			people := numbered(20)
			must(t, at(1).SealNew(t.Context(), people...))
			key, err := people[0].Key.Value()
			must(t, err)
			db := d.open(t)
			_, err = db.Exec(fmt.Sprintf("CREATE TABLE people (id bigint PRIMARY KEY, encrypted_kms_key varchar(%d), email_ciphertext text, phone_ciphertext text)", len(key.(string))))
			must(t, err)
			must(t, insertSealed(t.Context(), db, at(1), people))
			now := at(22)
			r := rotator(t, d, db, now.Adapter().Box(), now, rotation.Options{Kind: kind})
			checkLeft(t, r, 0, 20)
			load(t, db, now)
		})
	}
}

// numbered are n people with the ids from 1.
func numbered(n int) []*person {
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprintf("p%d@example.org", i+1))}
	}
	return people
}

// checkLeft runs a rotation to its end and checks which rows it wrote and which it did not.
func checkLeft(t *testing.T, r *rotation.Rotator, written int64, failed int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := r.Run(ctx)
	must(t, err)
	failures, err := r.Failures(t.Context(), 0)
	must(t, err)
	if !result.Done || result.Written != written || len(failures) != failed {
		t.Errorf("%+v with failures %v, want %d written and %d failures", result, failures, written, failed)
	}
	for _, f := range failures {
		if f.Class != "database" {
			t.Errorf("failure %s of class %s: %v", f.Record, f.Class, f.Err)
		}
	}
}

// A key service that answers garbage destroys nothing, because what it wrapped is
// opened before it is committed.
func TestGarbageSQLite(t *testing.T) {
	t.Parallel()
	for _, kind := range []rotation.Kind{rotation.Rewrap, rotation.Rekey} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			old, next := keys(t, t.TempDir())
			service := kmstest.NewService(next)
			at := func(current int) *field.Model[person] {
				b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{
					1: {Provider: old}, 2: {Provider: service.Provider()},
				}}.Box()
				must(t, err)
				return model[person](t, b, "people")
			}
			db := sqlite.open(t)
			create(t, sqlite, db, at(1), "id bigint PRIMARY KEY")
			insert(t, db, at(1), numbered(400))
			service.Set(kmstest.Corrupt(0.3).On(kmsencrypted.OpWrap))
			now := at(2)
			var failed atomic.Int64 // in all passes
			r := rotator(t, sqlite, db, now.Adapter().Box(), now, rotation.Options{Kind: kind, BatchSize: 50, Observe: func(e rotation.Event) {
				if e.Type == rotation.EventFailure {
					failed.Add(1)
				}
			}})
			result, err := r.Run(t.Context())
			must(t, err)
			failures, err := r.Failures(t.Context(), 0)
			must(t, err)
			service.Set()
			if load(t, db, now); result.Written == 0 || failed.Load() == 0 || result.Failed != int64(len(failures)) {
				t.Errorf("%+v after %d failures, of which %d are left; want some written and some failed", result, failed.Load(), len(failures))
			}
		})
	}
}

// One tenant's key service that denies or does not answer holds up its own records.
func TestOneTenantSQLite(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{kmsencrypted.ErrDenied, kmsencrypted.ErrKeyUnusable, kmsencrypted.ErrThrottled, kmsencrypted.ErrUnavailable} {
		t.Run(refusal.Error(), func(t *testing.T) {
			t.Parallel()
			old, next := keys(t, t.TempDir())
			theirs := kmstest.NewService(old)
			at := func(current int) *field.Model[person] {
				b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{
					1: {ProviderFor: func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
						if s.Record.(*person).ID == 37 {
							return theirs.Provider(), nil
						}
						return old, nil
					}},
					2: {Provider: next},
				}}.Box()
				must(t, err)
				return model[person](t, b, "people")
			}
			db := sqlite.open(t)
			create(t, sqlite, db, at(1), "id bigint PRIMARY KEY")
			insert(t, db, at(1), numbered(200))
			theirs.Set(kmstest.Fail(refusal, 1))
			now := at(2)
			r := rotator(t, sqlite, db, now.Adapter().Box(), now, rotation.Options{MaxWait: time.Second})
			result, err := r.Run(t.Context())
			must(t, err)
			failures, err := r.Failures(t.Context(), 0)
			must(t, err)
			if !result.Done || result.Written != 199 || len(failures) != 1 || failures[0].Record != "id=37" {
				t.Errorf("%+v with failures %v", result, failures)
			}
		})
	}
}

// Where each tenant has a key service, one that wraps and may not unwrap concerns
// its own records only: they are opened before they are committed.
func TestOneTenantEncryptOnlySQLite(t *testing.T) {
	t.Parallel()
	old, next := keys(t, t.TempDir())
	theirs := kmstest.NewService(next)
	at := func(current int) *field.Model[person] {
		b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{
			1: {Provider: old},
			2: {ProviderFor: func(s kmsencrypted.Subject, _ kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
				if s.Record.(*person).ID == 37 {
					return theirs.Provider(), nil
				}
				return next, nil
			}},
		}}.Box()
		must(t, err)
		return model[person](t, b, "people")
	}
	db := sqlite.open(t)
	create(t, sqlite, db, at(1), "id bigint PRIMARY KEY")
	insert(t, db, at(1), numbered(50))
	theirs.Set(kmstest.Fail(kmsencrypted.ErrDenied, 1).On(kmsencrypted.OpUnwrap))
	now := at(2)
	r := rotator(t, sqlite, db, now.Adapter().Box(), now, rotation.Options{})
	result, err := r.Run(t.Context())
	must(t, err)
	failures, err := r.Failures(t.Context(), 0)
	must(t, err)
	if !result.Done || result.Written != 49 || len(failures) != 1 || failures[0].Record != "id=37" || failures[0].Class != "denied" {
		t.Errorf("%+v with failures %v", result, failures)
	}
	theirs.Set()
	load(t, db, now)
}

// counting is a limiter that waits for nobody.
type counting struct{ n atomic.Int64 }

func (c *counting) Burst() int { return 7 }

func (c *counting) Wait(_ context.Context, n int) error {
	if n > c.Burst() {
		return fmt.Errorf("%d calls at once, and a burst is %d", n, c.Burst())
	}
	c.n.Add(int64(n))
	return nil
}

// Every call to the key service is allowed by the limiter, those for opening the
// first records again too.
func TestProofsAreLimited(t *testing.T) {
	t.Parallel()
	for _, d := range []database{sqlite, postgres, mariadb} {
		t.Run(d.driver, func(t *testing.T) {
			t.Parallel()
			old, next := keys(t, t.TempDir())
			service := kmstest.NewService(next)
			at := func(current int) *field.Model[person] {
				b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: old}, 2: {Provider: service.Provider()}}}.Box()
				must(t, err)
				return model[person](t, b, "people")
			}
			db := d.open(t)
			create(t, d, db, at(1), "id bigint PRIMARY KEY")
			insert(t, db, at(1), numbered(40))
			now, limiter := at(2), new(counting)
			r := rotator(t, d, db, now.Adapter().Box(), now, rotation.Options{Calls: limiter})
			result, err := r.Run(t.Context())
			must(t, err)
			opened := service.Values(kmsencrypted.OpUnwrap)
			if made := int64(40 + service.Values(kmsencrypted.OpWrap) + opened); result.Written != 40 || opened != 40 || limiter.n.Load() != made {
				t.Errorf("%d calls allowed and %d made, %d of them for opening 40 records again", limiter.n.Load(), made, opened)
			}
		})
	}
}

// A table whose rows are hidden by row level security does not count as empty.
func TestHiddenRowsPostgres(t *testing.T) {
	t.Parallel()
	dir, dsn := t.TempDir(), postgres.dsn(t)
	db := postgres.connect(t, dsn)
	m := model[person](t, box(t, dir, 1), "people")
	create(t, postgres, db, m, "id bigint PRIMARY KEY")
	insert(t, db, m, numbered(3))
	now := model[person](t, box(t, dir, 2), "people")
	rotator(t, postgres, db, now.Adapter().Box(), now, rotation.Options{}) // makes the tables
	role := "ops_" + strings.ToLower(rand.Text())
	for _, q := range []string{
		"ALTER TABLE people ENABLE ROW LEVEL SECURITY",
		"CREATE ROLE " + role, "GRANT ALL ON ALL TABLES IN SCHEMA public TO " + role,
		"ALTER DATABASE " + dsn[strings.LastIndexByte(dsn, '/')+1:strings.IndexByte(dsn+"?", '?')] + " SET role TO " + role,
	} {
		_, err := db.Exec(q)
		must(t, err)
	}
	t.Cleanup(func() { _, _ = db.Exec("RESET ROLE; DROP OWNED BY " + role + "; DROP ROLE " + role) })
	theirs := postgres.connect(t, dsn)
	s, err := sqlstore.New(t.Context(), theirs.DB, field.Postgres, now, sqlstore.Options{})
	must(t, err)
	r, err := rotation.New(now.Adapter().Box(), s, rotation.Options{})
	must(t, err)
	_, planned := r.Plan(t.Context())
	_, ran := r.Run(t.Context())
	_, verified := r.Verify(t.Context(), rotation.VerifyOptions{})
	_, retired := r.Retirable(t.Context(), 1)
	for what, err := range map[string]error{"plan": planned, "run": ran, "verify": verified, "retire": retired} {
		if !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", what, err)
		}
	}
}
