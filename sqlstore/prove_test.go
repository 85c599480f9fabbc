package sqlstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// A key service that answers two calls of three moves every record, those that are opened
// before they are committed included, and every request counts: also of batches that
// were not written.
func TestProofsMeetThrottlingSQLite(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{kmsencrypted.ErrThrottled, kmsencrypted.ErrUnavailable} {
		for _, kind := range []rotation.Kind{rotation.Rewrap, rotation.Rekey} {
			for _, perRecord := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v/%s/for each record %t", refusal, kind, perRecord), func(t *testing.T) {
					t.Parallel()
					first, second := keys(t, t.TempDir())
					old, next := kmstest.NewService(first), kmstest.NewService(second)
					versions := map[int]kmsencrypted.Version{1: {Provider: old.Provider()}, 2: {Provider: next.Provider()}}
					if perRecord {
						versions[2] = kmsencrypted.Version{ProviderFor: func(kmsencrypted.Subject, kmsencrypted.BoundContext) (kmsencrypted.Provider, error) {
							return next.Provider(), nil
						}}
					}
					at := func(current int) *field.Model[person] {
						b, err := kmsencrypted.Config{Current: current, Versions: versions}.Box()
						must(t, err)
						return model[person](t, b, "people")
					}
					db := sqlite.open(t)
					create(t, sqlite, db, at(1), "id bigint PRIMARY KEY")
					insert(t, db, at(1), numbered(40))
					old.Forget()
					next.Set(kmstest.Fail(refusal, 0.33))
					now := at(2)
					r := rotator(t, sqlite, db, now.Adapter().Box(), now, rotation.Options{Kind: kind, BatchSize: 25, Shards: 2, MaxWait: time.Minute})
					result, err := r.Run(t.Context())
					must(t, err)
					made := int64(len(old.Calls()) + len(next.Calls()))
					next.Set()
					status, _, err := r.Status(t.Context())
					must(t, err)
					if load(t, db, now); result.Written != 40 || result.Failed != 0 || !result.Done || status.Calls != made {
						t.Errorf("Run() = %+v with %d requests, of which the status counts %d", result, made, status.Calls)
					}
				})
			}
		}
	}
}

// A run that stops has made requests, too.
func TestRefusedCallsCountedSQLite(t *testing.T) {
	t.Parallel()
	for _, faults := range [][]kmstest.Fault{
		{kmstest.Revoke(30).On(kmsencrypted.OpWrap)},
		{kmstest.Revoke(1).On(kmsencrypted.OpUnwrap)}, // what was written cannot be opened
	} {
		first, second := keys(t, t.TempDir())
		old, next := kmstest.NewService(first), kmstest.NewService(second)
		at := func(current int) *field.Model[person] {
			b, err := kmsencrypted.Config{Current: current, Versions: map[int]kmsencrypted.Version{1: {Provider: old.Provider()}, 2: {Provider: next.Provider()}}}.Box()
			must(t, err)
			return model[person](t, b, "people")
		}
		db := sqlite.open(t)
		create(t, sqlite, db, at(1), "id bigint PRIMARY KEY")
		insert(t, db, at(1), numbered(100))
		old.Forget()
		next.Set(faults...)
		now := at(2)
		r := rotator(t, sqlite, db, now.Adapter().Box(), now, rotation.Options{BatchSize: 20, Workers: 2, Shards: 4})
		_, err := r.Run(t.Context())
		if !errors.Is(err, kmsencrypted.ErrDenied) {
			t.Errorf("Run() = %v, want ErrDenied", err)
		}
		made := int64(len(old.Calls()) + len(next.Calls()))
		status, _, err := r.Status(t.Context())
		must(t, err)
		if status.Calls != made || made == 0 {
			t.Errorf("%d requests, of which the status counts %d", made, status.Calls)
		}
	}
}
