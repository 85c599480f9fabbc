package branch_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/requests"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// What a Box sees: an event for each record with its branch, the calls that a branch took
// and no more, and records of two branches under two keys.
func TestUnderABox(t *testing.T) {
	t.Parallel()
	service := newService(t)
	store := newDir(t, branch.Limits{})
	versions := make(map[string]int)
	newBox := func() *kmsencrypted.Box {
		box, err := kmsencrypted.Config{
			Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: open(t, store, service, byTenant)}},
			Observer: func(_ context.Context, e kmsencrypted.Event) { versions[e.KeyVersion]++ },
		}.Box()
		if err != nil {
			t.Fatal(err)
		}
		return box
	}
	of := func(tenant string) kmsencrypted.Binding {
		return kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"7"}, Context: kmsencrypted.Context{"tenant": tenant}}
	}
	box := newBox()
	k := kmsencrypted.NewDataKey()
	column, err := box.Wrap(t.Context(), k, of("a/b"))
	if err != nil {
		t.Fatal(err)
	}
	clear(versions)
	service.Forget()
	box = newBox()
	var counted atomic.Int64
	const reads = 50
	for range reads {
		if _, err := box.Unwrap(requests.Counted(t.Context(), &counted), column, of("a/b")); err != nil {
			t.Fatal(err)
		}
	}
	if versions["a%2Fb 1"] != reads || len(versions) != 1 {
		t.Errorf("events with the branches %v, want %d of a%%2Fb", versions, reads)
	}
	if counted.Load() != 1 || len(service.Calls()) != 1 {
		t.Errorf("%d calls counted, %d made, want 1", counted.Load(), len(service.Calls()))
	}
	one, err1 := box.Place(1, of("a"))
	two, err2 := box.Place(1, of("b"))
	same, err3 := box.Place(1, of("a"))
	if err := errors.Join(err1, err2, err3); err != nil || one.SameProvider(two) || !one.SameProvider(same) {
		t.Errorf("two branches are one key, or one branch is two: %v", err)
	}
	if _, err := box.Unwrap(t.Context(), column, of("b")); !errors.Is(err, branch.ErrMissing) {
		t.Errorf("a record moved to a branch without a key: %v, want ErrMissing", err)
	}
}

// A pool whose connections are all in transactions gives an error, and does not hang.
func TestExhaustedPool(t *testing.T) {
	t.Parallel()
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := openDB(t, d.driver, d.dsn(t), d.dialect, branch.Limits{})
			store, service := sqlStore(t, db, d.dialect), newService(t)
			p := open(t, store, service, branch.Options{StoreTimeout: 300 * time.Millisecond})
			patient := open(t, store, service, branch.Options{StoreTimeout: time.Minute})
			db.SetMaxOpenConns(1)
			tx, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Encrypt(t.Context(), dataKey, kmsencrypted.BoundContext{})
			if !errors.Is(err, kmsencrypted.ErrUnavailable) || !strings.Contains(err.Error(), "pool of its own") {
				t.Errorf("Encrypt inside a transaction on the only connection = %v, want ErrUnavailable that says why", err)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			wrap(t, patient, kmsencrypted.BoundContext{})
		})
	}
}
