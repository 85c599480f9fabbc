package sqlstore_test

import (
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// byBranch is a provider with a key for each branch: "a" of the records with odd ids, and "A".
type byBranch struct{ kmsencrypted.Provider }

func (byBranch) Branch(ec kmsencrypted.BoundContext) (store, branch string) {
	pairs, err := ec.Map()
	if err != nil || pairs["model_id"] == "" {
		return "", ""
	}
	var id int
	_, _ = fmt.Sscan(pairs["model_id"], &id)
	return "keys of 2026", []string{"A", "a"}[id%2]
}

// The journal knows the branch of what it keeps, so that an erasure of a branch takes that
// along and nothing else.
func TestForgetBranch(t *testing.T) {
	t.Parallel()
	for _, d := range []database{sqlite, postgres, mariadb} {
		for _, perRecord := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/for each record %t", d.driver, perRecord), func(t *testing.T) {
				t.Parallel()
				old := byBranch{kmstest.Memory()}
				versions := map[int]kmsencrypted.Version{1: {Provider: old}, 2: {Provider: kmstest.Memory()}}
				if perRecord {
					versions[1] = kmsencrypted.Version{ProviderFor: func(kmsencrypted.Subject, kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
						return kmstest.Faulty(old), nil // behind a decorator
					}}
				}
				at := func(current int) *field.Model[person] {
					b, err := kmsencrypted.Config{Current: current, Versions: versions}.Box()
					must(t, err)
					return model[person](t, b, "people")
				}
				db := d.open(t)
				create(t, d, db, at(1), "id bigint PRIMARY KEY")
				insert(t, db, at(1), numbered(15))
				m := at(2)
				if result, err := rotator(t, d, db, m.Adapter().Box(), m, rotation.Options{}).Run(t.Context()); err != nil || result.Written != 15 {
					t.Fatalf("Run() = %+v, %v", result, err)
				}
				s, err := sqlstore.New(t.Context(), db.DB, d.dialect, m, sqlstore.Options{})
				must(t, err)
				for branch, keys := range map[string]int64{"A": 7, "a": 8} {
					of := rotation.Erasure{Store: "keys of 2026", Erased: func(text string) bool { return text == branch }, DryRun: true}
					if done, err := s.EraseBranches(t.Context(), of); err != nil || done.Journal != keys {
						t.Errorf("EraseBranches(dry run of %s) = %+v, %v, want %d keys in the journal", branch, done, err, keys)
					}
				}
				for _, step := range []struct {
					store, branch string
					erased        int64
				}{{"keys of 2027", "a", 0}, {"keys of 2026", "b", 0}, {"keys of 2026", "a", 8}, {"keys of 2026", "a", 0}, {"keys of 2026", "A", 7}} {
					if erased, err := s.ForgetBranch(t.Context(), db, step.store, step.branch); err != nil || erased != step.erased {
						t.Errorf("ForgetBranch(%s, %s) = %d, %v, want %d", step.store, step.branch, erased, err, step.erased)
					}
				}
			})
		}
	}
}
