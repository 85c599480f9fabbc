package sqlstore_test

import (
	"fmt"
	"testing"

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
