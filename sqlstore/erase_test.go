package sqlstore_test

import (
	"fmt"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// subjectRow is a record of a subject, whose branch is named by it.
type subjectRow struct {
	ID      int64            `db:"id"`
	Subject string           `db:"subject" kms:"context"`
	Key     field.Key        `db:"encrypted_kms_key"`
	Email   field.Of[string] `db:"email_ciphertext"`
	Index   field.Index      `db:"email_bidx" kms:"of=Email,algorithm=hmac_sha256"`
}

// bySubject has a key for each subject.
type bySubject struct{ kmsencrypted.Provider }

func (bySubject) Branch(ec kmsencrypted.BoundContext) (store, branch string) {
	subject, _ := ec.Value("subject")
	return "keys", subject
}

// subjectRows returns the model with version 1 under one key, and version 2 under a key for each
// subject, which some of the records have at a provider chosen for each record.
func subjectRows(t testing.TB, plain, keeper kmsencrypted.Provider, current int) *field.Model[subjectRow] {
	t.Helper()
	chosen := func(kmsencrypted.Subject, kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
		return kmstest.Faulty(keeper), nil // behind a decorator
	}
	b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{
		1: {Provider: plain}, 2: {Provider: keeper}, 3: {ProviderFor: chosen},
	}}.Box()
	must(t, err)
	var key blindindex.MasterKey
	key, err = blindindex.NewMasterKey(make([]byte, blindindex.KeySize))
	must(t, err)
	m, err := field.NewModel[subjectRow](b, field.Config{Table: "patients", IndexKey: key, Context: func(s kmsencrypted.Subject) (kmsencrypted.EncryptionContext, error) {
		return kmsencrypted.Context{"subject": s.Record.(*subjectRow).Subject, "id": s.ID[0]}, nil
	}})
	must(t, err)
	return m
}

// What an erasure of keys leaves in a table goes, for the branches that are erased and no others: index
// values, the journal, and wrapped keys outside the branch.
func TestEraseBranches(t *testing.T) {
	t.Parallel()
	for _, d := range []database{sqlite, postgres, mariadb, mariadb.with(lenient), mysqlLike} {
		t.Run(d.driver, func(t *testing.T) {
			t.Parallel()
			plain, keeper := kmstest.Memory(), bySubject{kmstest.Memory()}
			at := func(current int) *field.Model[subjectRow] { return subjectRows(t, plain, keeper, current) }
			db := d.open(t)
			create(t, d, db, at(1), "id bigint PRIMARY KEY", "subject "+d.id)
			subjects := []string{"a", "A", "a ", "b", "\u00e4", "a\u0308"}
			// Versions 1 to 3 in turn, and then some that came from version 1 by a rotation.
			fill := func(m *field.Model[subjectRow], from, n int) {
				rows := make([]*subjectRow, n)
				for i := range rows {
					id := from + i
					rows[i] = &subjectRow{ID: int64(id), Subject: subjects[id%len(subjects)], Email: field.New(fmt.Sprintf("p%d@example.org", id))}
				}
				insert(t, db, m, rows, "subject")
			}
			fill(at(1), 1, 60)
			if result, err := rotator(t, d, db, at(2).Adapter().Box(), at(2), rotation.Options{}).Run(t.Context()); err != nil || result.Written != 60 {
				t.Fatalf("Run() = %+v, %v", result, err)
			}
			fill(at(2), 101, 60)
			fill(at(3), 201, 60)
			fill(at(1), 301, 6) // outside: one of each
			for _, query := range []string{
				"UPDATE patients SET email_bidx = NULL WHERE id = 102", // one of a has none
				"DELETE FROM patients WHERE id = 6",                    // of a; what the journal has of it stays
			} {
				_, err := db.Exec(query)
				must(t, err)
			}

			s, err := sqlstore.New(t.Context(), db.DB, d.dialect, at(3), sqlstore.Options{})
			must(t, err)
			e := rotation.Erasure{Store: "keys", Erased: func(branch string) bool { return branch == "a" || branch == "b" }, DryRun: true}
			stored := func() (list []subjectRow) {
				must(t, db.Select(&list, "SELECT * FROM patients ORDER BY id"))
				return list
			}
			before := fmt.Sprint(stored())
			want := rotation.Erased{Table: "patients", Records: 61, Indexes: 58, Journal: 19, Moved: 19, Left: 2}
			if got, err := s.EraseBranches(t.Context(), e); err != nil || got != want {
				t.Errorf("EraseBranches(dry run) = %+v, %v, want %+v", got, err, want)
			}
			if fmt.Sprint(stored()) != before {
				t.Error("a dry run changed something")
			}
			e.DryRun = false
			if got, err := s.EraseBranches(t.Context(), e); err != nil || got != want {
				t.Errorf("EraseBranches() = %+v, %v, want %+v", got, err, want)
			}
			for _, p := range stored() {
				index, err := p.Index.Value()
				must(t, err)
				if p.ID > 300 && (p.Key.IsNull() || index == nil) {
					t.Errorf("record %d, outside its branch, lost its key or index", p.ID)
				}
			}
			e.DropOutside = true
			want = rotation.Erased{Table: "patients", Records: 61, Indexes: 2, Outside: 2}
			if got, err := s.EraseBranches(t.Context(), e); err != nil || got != want {
				t.Errorf("EraseBranches(drop outside) = %+v, %v, want %+v", got, err, want)
			}
			for _, p := range stored() {
				ours := p.Subject == "a" || p.Subject == "b"
				index, err := p.Index.Value()
				must(t, err)
				if gone := index == nil; gone != (ours || p.ID == 102) {
					t.Errorf("record %d of %q: its index is gone: %t", p.ID, p.Subject, gone)
				}
				if gone := p.Key.IsNull(); gone != (ours && p.ID > 300) {
					t.Errorf("record %d of %q: its key is gone: %t", p.ID, p.Subject, gone)
				}
			}
			var left int
			must(t, db.Get(&left, "SELECT count(*) FROM kms_rotation_journal"))
			if left != 60-19 {
				t.Errorf("%d keys in the journal, want %d", left, 60-19)
			}
			again, err := s.EraseBranches(t.Context(), e)
			if want := (rotation.Erased{Table: "patients", Records: 61}); err != nil || again != want {
				t.Errorf("EraseBranches() again = %+v, %v, want %+v", again, err, want)
			}

			_, err = db.Exec("DELETE FROM patients")
			must(t, err)
			fill(at(1), 401, 6)
			for _, e.DryRun = range []bool{true, false} {
				e.DropOutside = false
				left, err := s.EraseBranches(t.Context(), e)
				if want := (rotation.Erased{Table: "patients", Records: 2, Left: 2}); err != nil || left != want {
					t.Errorf("EraseBranches() of records that are all outside = %+v, %v, want %+v", left, err, want)
				}
			}
		})
	}
}
