package sqlstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/fakes/awskms"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// A plan and a run count the calls that the service gets: one for each key where
// it moves them itself, two where another context has to be committed to, and one
// more for each of the first, which are opened again.
func TestCallsCountedSQLite(t *testing.T) {
	t.Parallel()
	const n = 25
	byTenant := func(kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"tenant": "acme"}, nil
	}
	for name, tt := range map[string]struct {
		context kmsencrypted.ContextFunc // of the new version
		calls   int
	}{
		"the same context": {nil, 2 * n},
		"another context":  {byTenant, 3 * n},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := awskms.New()
			t.Cleanup(server.Close)
			key := func(id string) kmsencrypted.Provider {
				p, err := aws.New(server.Client(), server.AddKey(id), aws.Options{})
				must(t, err)
				return kmstest.Faulty(p) // which stands in front of it
			}
			versions := map[int]kmsencrypted.Version{1: {Provider: key("old")}, 2: {Provider: key("new"), Context: tt.context}}
			at := func(current int) *field.Model[person] {
				b, err := kmsencrypted.Config{Current: current, Versions: versions}.Box()
				must(t, err)
				return model[person](t, b, "people")
			}
			db := sqlite.open(t)
			create(t, sqlite, db, at(1), "id bigint PRIMARY KEY")
			people := make([]*person, n)
			for i := range people {
				people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprintf("p%d@example.org", i+1))}
			}
			insert(t, db, at(1), people)
			m := at(2)
			r := rotator(t, sqlite, db, m.Adapter().Box(), m, rotation.Options{})
			plan, err := r.Plan(t.Context())
			must(t, err)
			told := len(server.Calls("ReEncrypt", "Encrypt", "Decrypt"))
			result, err := r.Run(t.Context())
			must(t, err)
			made := len(server.Calls("ReEncrypt", "Encrypt", "Decrypt")) - told
			status, _, err := r.Status(t.Context())
			must(t, err)
			if made != tt.calls || plan.Calls != int64(made) || status.Calls != int64(made) || result.Written != n {
				t.Errorf("%d calls for %d records, planned %d, counted %d; want %d", made, result.Written, plan.Calls, status.Calls, tt.calls)
			}
		})
	}
}

// A service that takes batches bills a request for many keys. Plan, cost, status and
// history count requests, and a limiter admits as many.
func TestRequestsCountedSQLite(t *testing.T) {
	t.Parallel()
	const n = 3000
	for name, tt := range map[string]struct {
		limiter rotation.Limiter
		kind    rotation.Kind
		most    int64 // by hand: two requests for each of 64 shards, and proofs of each worker
	}{
		"no limit":        {nil, rotation.Rewrap, 2*64 + 4},
		"rekey":           {nil, rotation.Rekey, 2*64 + 4},
		"a generous rate": {rotation.NewLimiter(10_000), rotation.Rewrap, 2*64 + 4},
		"a low rate":      {rotation.NewLimiter(400), rotation.Rewrap, 2*64 + 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, current := kmstest.NewService(kmstest.Batches(kmstest.Memory(), 250)), kmstest.NewService(kmstest.Batches(kmstest.Memory(), 250))
			versions := map[int]kmsencrypted.Version{1: {Provider: old.Provider()}, 2: {Provider: current.Provider()}}
			at := func(n int) *field.Model[person] {
				b, err := kmsencrypted.Config{Current: n, Versions: versions}.Box()
				must(t, err)
				return model[person](t, b, "people")
			}
			db := sqlite.open(t)
			create(t, sqlite, db, at(1), "id bigint PRIMARY KEY")
			people := make([]*person, n)
			for i := range people {
				people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprintf("p%d@example.org", i+1))}
			}
			insert(t, db, at(1), people)
			m := at(2)
			r := rotator(t, sqlite, db, m.Adapter().Box(), m, rotation.Options{Kind: tt.kind, Calls: tt.limiter})
			plan, err := r.Plan(t.Context())
			must(t, err)
			cost, err := r.Cost(t.Context(), rotation.Prices{PerCall: 1})
			must(t, err)
			old.Forget()
			current.Forget()
			began := time.Now()
			result, err := r.Run(t.Context())
			must(t, err)
			took := time.Since(began)
			made := int64(len(old.Calls()) + len(current.Calls()))
			status, _, err := r.Status(t.Context())
			must(t, err)
			history, err := r.History(t.Context(), 1)
			must(t, err)
			if result.Written != n || status.Calls != made || history[0].Calls != made {
				t.Errorf("%d requests for %d records, %d in the status and %d in the history", made, result.Written, status.Calls, history[0].Calls)
			}
			if made > tt.most || plan.Calls < made*9/10 || plan.Calls > made*11/10 || cost.Calls != plan.Calls || cost.Price != float64(plan.Calls) {
				t.Errorf("%d requests, planned %d for a price of %v; want at most %d, and the plan within a tenth", made, plan.Calls, cost.Price, tt.most)
			}
			if limiter, ok := tt.limiter.(*rotation.RateLimiter); ok && float64(made)/took.Seconds() > 1.5*limiter.Rate() {
				t.Errorf("%d requests in %v, and the limit is %v a second", made, took, limiter.Rate())
			}
		})
	}
}
