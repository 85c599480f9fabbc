package sqlstore_test

import (
	"bytes"
	"cmp"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// services are key services that count their calls.
type services []*kmstest.Service

func (s *services) add(provider kmsencrypted.Provider) kmsencrypted.Provider {
	service := kmstest.NewService(provider)
	*s = append(*s, service)
	return service.Provider()
}

func (s services) calls() (n int64) {
	for _, service := range s {
		n += int64(len(service.Calls()))
	}
	return n
}

func (s services) forget() {
	for _, service := range s {
		service.Forget()
	}
}

// tenant is the context of a record of one of seven tenants.
func tenant(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
	var id int
	if _, err := fmt.Sscan(s.ID[0], &id); err != nil {
		return nil, err
	}
	return kmsencrypted.Context{"tenant": fmt.Sprint(id % 7), "id": s.ID[0]}, nil
}

// byTenant makes a version with a service for each tenant.
func byTenant(s *services, provider func() kmsencrypted.Provider) kmsencrypted.Version {
	of := make(map[string]kmsencrypted.Provider)
	for i := range 7 {
		of[fmt.Sprint(i)] = s.add(provider())
	}
	return kmsencrypted.Version{Context: tenant, ProviderFor: func(_ kmsencrypted.Subject, ec kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
		pairs, err := ec.Map()
		return of[pairs["tenant"]], err
	}}
}

// byBranchKey makes a version with a branch key for each tenant, under the tenant itself
// or under a parent that several have.
func byBranchKey(t *testing.T, s *services, parents bool) func() kmsencrypted.Version {
	t.Helper()
	b, err := kmsencrypted.NewBox(s.add(kmstest.Memory()))
	must(t, err)
	store, err := branch.CreateDir(filepath.Join(t.TempDir(), "keys"), branch.Limits{})
	must(t, err)
	o := branch.Options{Of: func(ec kmsencrypted.BoundContext) (branch.Name, error) {
		pairs, err := ec.Map()
		name := branch.Name{Branch: pairs["tenant"]}
		if parents {
			name.Parent = "of " + string("ab"[len(name.Branch+pairs["id"])%2])
			name.Branch += " " + pairs["id"]
		}
		return name, err
	}}
	return func() kmsencrypted.Version { // in which no branch is open
		p, err := branch.Open(t.Context(), store, b, o)
		must(t, err)
		return kmsencrypted.Version{Context: tenant, Provider: p}
	}
}

// A plan says how many requests a run makes, and cost takes that number. Both are counted
// at the services: with one worker the numbers are equal.
func TestDemandSQLite(t *testing.T) {
	t.Parallel()
	const n = 140
	one := func(s *services) kmsencrypted.Version { return kmsencrypted.Version{Provider: s.add(kmstest.Memory())} }
	batches := func() kmsencrypted.Provider { return kmstest.Batches(kmstest.Memory(), 9) }
	three := func(s *services) kmsencrypted.Version {
		return kmsencrypted.Version{Provider: multi.New([]kmsencrypted.Provider{s.add(kmstest.Memory()), s.add(kmstest.Memory()), s.add(kmstest.Memory())}, multi.Options{Tags: []string{"a", "b", "c"}})}
	}
	of := func(recipe func(*services) kmsencrypted.Version) func(*services) func() kmsencrypted.Version {
		return func(s *services) func() kmsencrypted.Version {
			v := recipe(s)
			return func() kmsencrypted.Version { return v }
		}
	}
	tenants := of(func(s *services) kmsencrypted.Version { return byTenant(s, kmstest.Memory) })
	branches := func(s *services) func() kmsencrypted.Version { return byBranchKey(t, s, false) }
	for name, tt := range map[string]struct {
		from, to func(*services) func() kmsencrypted.Version
		want     int64 // by hand; 0 if it follows from how records share batches
	}{
		"one":              {of(one), of(one), 2*n + 100},
		"tenants":          {of(one), tenants, 2*n + n},
		"between tenants":  {tenants, tenants, 2*n + n},
		"tenants, batches": {of(one), of(func(s *services) kmsencrypted.Version { return byTenant(s, batches) }), n + 7*3 + 7*3},
		"several":          {of(one), of(three), n + 3*n + 100},
		"from several":     {of(three), of(one), 2*n + 100},
		"branches":         {of(one), branches, n + 2*7},
		"from branches":    {branches, of(one), n + 7 + 100},
		"between branches": {branches, branches, 7 + 2*7},
		"parents":          {of(one), func(s *services) func() kmsencrypted.Version { return byBranchKey(t, s, true) }, n + 2*2},
		"Ruby's": {of(one), of(func(s *services) kmsencrypted.Version {
			return kmsencrypted.Version{Provider: s.add(kmstest.Memory()), Format: kmsencrypted.Ruby}
		}), 2*n + 100},
	} {
		for _, kind := range []rotation.Kind{rotation.Rewrap, rotation.Rekey} {
			if name == "Ruby's" && kind == rotation.Rewrap {
				continue
			}
			t.Run(fmt.Sprint(name, "/", kind), func(t *testing.T) {
				t.Parallel()
				var s services
				from, to := tt.from(&s), tt.to(&s)
				at := func(current int) *field.Model[rubyPerson] {
					b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: from(), 2: to()}}.Box()
					must(t, err)
					return model[rubyPerson](t, b, "people")
				}
				db := sqlite.open(t)
				create(t, sqlite, db, at(1), "id bigint PRIMARY KEY")
				people := make([]*rubyPerson, n)
				for i := range people {
					people[i] = &rubyPerson{ID: int64(i + 1), Email: field.New("e")}
				}
				insert(t, db, at(1), people)
				plan := testDemand(t, db, at(2), rotation.Options{Kind: kind}, s, n, true)
				if plan.Calls != tt.want {
					t.Errorf("%d calls are planned, want %d", plan.Calls, tt.want)
				}
			})
		}
	}
}

// rubyPerson has a column of which both formats are known.
type rubyPerson struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext" kms:"lockbox"`
}

// testDemand compares the plan of a run with the run.
func testDemand[R any](t *testing.T, db *sqlx.DB, m *field.Model[R], o rotation.Options, s services, written int64, exact bool) rotation.Plan {
	t.Helper()
	o.Workers, o.Shards = cmp.Or(o.Workers, 1), cmp.Or(o.Shards, 1)
	o.WritersAreOurs, o.TargetTime = true, -1
	r := rotator(t, sqlite, db, m.Adapter().Box(), m, o)
	s.forget()
	plan, err := r.Plan(t.Context())
	must(t, err)
	cost, err := r.Cost(t.Context(), rotation.Prices{PerCall: 1})
	must(t, err)
	if asked := s.calls(); asked != 0 {
		t.Errorf("Plan() and Cost() made %d calls", asked)
	}
	result, err := r.Run(t.Context())
	must(t, err)
	made := s.calls()
	status, _, err := r.Status(t.Context())
	must(t, err)
	if result.Written != written || status.Calls != made || cost.Calls != plan.Calls || cost.Price != float64(plan.Calls) {
		t.Errorf("%d records and %d calls; want %d and %d; the cost is of %d", result.Written, status.Calls, written, made, cost.Calls)
	}
	if made > plan.Calls || exact && made < plan.Calls {
		t.Errorf("%d calls were made, and %d planned", made, plan.Calls)
	}
	return plan
}

// Models with two keys, of which each may have a version of its own, and of which one may
// be at the target already.
func TestDemandOfKeysSQLite(t *testing.T) {
	t.Parallel()
	const n = 60
	for _, kind := range []rotation.Kind{rotation.Rewrap, rotation.Rekey} {
		for name, tt := range map[string]struct {
			before, after map[string]int // Config.KeyVersions
			current       int            // after
			keys, calls   int64
		}{
			"both":                       {nil, nil, 2, 2 * n, 2*2*n + 2*n},
			"each its own":               {nil, map[string]int{"phone": 3}, 2, 2 * n, 2*2*n + 2*n},
			"each its own, with several": {nil, map[string]int{"phone": 4}, 2, 2 * n, 2*n + 3*n + 2*n},
			"one is there already":       {map[string]int{"phone": 2}, nil, 2, 2 * n, 2*2*n + 2*n},
			"only its own":               {map[string]int{"phone": 2}, map[string]int{"phone": 3}, 1, 2 * n, 2*2*n + 2*n},
		} {
			t.Run(fmt.Sprint(name, "/", kind), func(t *testing.T) {
				t.Parallel()
				var s services
				native := func() kmsencrypted.Version { return kmsencrypted.Version{Provider: s.add(kmstest.Memory())} }
				versions := map[int]kmsencrypted.Version{1: native(), 2: native(), 3: native(), 4: {
					Provider: multi.New([]kmsencrypted.Provider{s.add(kmstest.Memory()), s.add(kmstest.Memory())}, multi.Options{Tags: []string{"a", "b"}}),
				}}
				at := func(current int, keys map[string]int) *field.Model[twoKeys] {
					b, err := kmsencrypted.Config{Current: current, Versions: versions}.Box()
					must(t, err)
					m, err := field.NewModel[twoKeys](b, field.Config{Table: "people", KeyVersions: keys})
					must(t, err)
					return m
				}
				before := at(1, tt.before)
				db := sqlite.open(t)
				create(t, sqlite, db, before, "id bigint PRIMARY KEY")
				people := make([]*twoKeys, n)
				for i := range people {
					people[i] = &twoKeys{ID: int64(i + 1), Email: field.New("e"), Phone: field.New("p")}
				}
				insert(t, db, before, people)
				plan := testDemand(t, db, at(tt.current, tt.after), rotation.Options{Kind: kind}, s, n, true)
				if plan.Keys != tt.keys || plan.Calls != tt.calls {
					t.Errorf("%d keys and %d calls are planned, want %d and %d", plan.Keys, plan.Calls, tt.keys, tt.calls)
				}
			})
		}
	}
}

type twoKeys struct {
	ID       int64            `db:"id"`
	Key      field.Key        `db:"encrypted_kms_key"`
	Email    field.Of[string] `db:"email_ciphertext"`
	PhoneKey field.Key        `db:"encrypted_kms_key_phone" kms:"name=phone"`
	Phone    field.Of[string] `db:"phone_ciphertext" kms:"key=phone"`
}

// Kinds for which a record may lack nothing: the plan is the most that they take, and no
// more than that if it lacks something.
func TestDemandOfOtherKindsSQLite(t *testing.T) {
	t.Parallel()
	const n = 50
	key, err := blindindex.NewMasterKey(bytes.Repeat([]byte{1}, 32))
	must(t, err)
	for _, tt := range []struct {
		kind    rotation.Kind
		change  string // makes work
		written int64
		calls   int64 // planned
		exact   bool
	}{
		{rotation.Reindex, "UPDATE subscribers SET note_bidx = 'x'", n, n, true},
		{rotation.Reindex, "UPDATE subscribers SET note_bidx = 'x' WHERE id <= 10", 10, n, true},
		{rotation.Complete, "", 0, n + 2*n + n, false},
	} {
		t.Run(fmt.Sprint(tt.kind, tt.written), func(t *testing.T) {
			t.Parallel()
			var s services
			b, err := kmsencrypted.NewBox(s.add(kmstest.Memory()))
			if tt.kind == rotation.Complete {
				b, err = kmsencrypted.NewBox(multi.New([]kmsencrypted.Provider{s.add(kmstest.Memory()), s.add(kmstest.Memory())}, multi.Options{Tags: []string{"a", "b"}}))
			}
			must(t, err)
			m, err := field.NewModel[subscriber](b, field.Config{Table: "subscribers", IndexKey: key})
			must(t, err)
			db := sqlite.open(t)
			create(t, sqlite, db, m, "id bigint PRIMARY KEY")
			rows := make([]*subscriber, n)
			for i := range rows {
				rows[i] = &subscriber{ID: int64(i + 1), Email: "e", Note: field.New(new("n"))}
			}
			insert(t, db, m, rows)
			if tt.change != "" {
				db.MustExec(tt.change)
			}
			plan := testDemand(t, db, m, rotation.Options{Kind: tt.kind}, s, tt.written, tt.exact)
			if plan.Calls != tt.calls {
				t.Errorf("%d calls are planned, want %d", plan.Calls, tt.calls)
			}
		})
	}
}
