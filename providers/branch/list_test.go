package branch_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// All records move to another key service by one unwrap and one wrap for each branch
// key, and a reader and a writer go on meanwhile.
func TestMoveKeys(t *testing.T) {
	t.Parallel()
	eachStore(t, branch.Limits{}, func(t *testing.T, store branch.Store) {
		from, to := newService(t), newService(t)
		before := open(t, store, from, byTenant)
		const branches = 20
		wraps := make([][]byte, branches)
		for i := range branches {
			wraps[i] = wrap(t, before, tenant(t, fmt.Sprint("t", i)))
		}
		if _, err := before.Renew(t.Context(), branch.Name{Branch: "t3"}); err != nil {
			t.Fatal(err)
		}
		openBox := func(current int) *branch.Provider {
			box, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: from.Provider()}, 2: {Provider: to.Provider()}}}.Box()
			if err != nil {
				t.Fatal(err)
			}
			p, err := branch.Open(t.Context(), store, box, byTenant)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		from.Forget()
		mover := openBox(2)
		moved, err := mover.MoveKeys(t.Context())
		if err != nil || moved != branches+1 {
			t.Fatalf("MoveKeys() = %d, %v, want %d", moved, err, branches+1)
		}
		if u, w := len(from.Calls()), len(to.Calls()); u != branches+1 || w != branches+1 {
			t.Errorf("%d unwraps and %d wraps, want %d each", u, w, branches+1)
		}
		if again, err := mover.MoveKeys(t.Context()); again != 0 || err != nil {
			t.Errorf("MoveKeys() again = %d, %v", again, err)
		}
		// The old service is gone for good.
		after := open(t, store, to, byTenant)
		_, err = after.Encrypt(t.Context(), dataKey, tenant(t, "t1"))
		if err == nil {
			t.Error("a Box that lists only version 1 opens a key column of version 2")
		}
		from.Forget()
		reader := openBox(1)
		for i := range branches {
			opens(t, reader, wraps[i], tenant(t, fmt.Sprint("t", i)))
		}
		if got := len(from.Calls()); got != 0 {
			t.Errorf("%d calls to the old service after the move", got)
		}
		var listed []branch.Status
		for s, err := range reader.Branches(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			listed = append(listed, s)
		}
		if len(listed) != branches {
			t.Fatalf("Branches() yields %d, want %d", len(listed), branches)
		}
		for _, s := range listed {
			want := uint32(1)
			if s.Branch == "t3" {
				want = 2
			}
			if s.Current != want || s.Versions != int(want) || s.Created.IsZero() || s.Renewed.Before(s.Created) || !s.Erased.IsZero() {
				t.Errorf("Branches() yields %+v", s)
			}
		}
	})
}

// A row that was exchanged stays and is named, and all others move.
func TestMoveKeysBesideABadRow(t *testing.T) {
	t.Parallel()
	from, to := newService(t), newService(t)
	sqlite := databases[0]
	db := openDB(t, sqlite.driver, sqlite.dsn(t), sqlite.dialect, branch.Limits{})
	store := sqlStore(t, db, sqlite.dialect)
	p := open(t, store, from, byTenant)
	const branches = 15
	for i := range branches {
		wrap(t, p, tenant(t, fmt.Sprint("t", i)))
	}
	if _, err := db.Exec("UPDATE kms_branch_keys SET encrypted_kms_key = (SELECT encrypted_kms_key FROM kms_branch_keys WHERE branch = 't2') WHERE branch = 't1'"); err != nil {
		t.Fatal(err)
	}
	box, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{1: {Provider: from.Provider()}, 2: {Provider: to.Provider()}}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	mover, err := branch.Open(t.Context(), store, box, byTenant)
	if err != nil {
		t.Fatal(err)
	}
	moved, err := mover.MoveKeys(t.Context())
	if moved != branches-1 || !errors.Is(err, kmsencrypted.ErrDecrypt) && !errors.Is(err, kmsencrypted.ErrBinding) || !strings.Contains(err.Error(), "branch t1") {
		t.Errorf("MoveKeys() = %d, %v", moved, err)
	}
	for want, fault := range map[error]kmstest.Fault{kmsencrypted.ErrUnavailable: kmstest.Unavailable(1), kmsencrypted.ErrDenied: kmstest.Revoke(1)} {
		from.Set(fault)
		if _, err := mover.MoveKeys(t.Context()); !errors.Is(err, want) {
			t.Errorf("MoveKeys() = %v, want %v", err, want)
		}
	}
}
