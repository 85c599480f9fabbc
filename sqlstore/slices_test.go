package sqlstore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// peopleAt inserts n people at version 1 and returns a model of them at another.
func peopleAt(t testing.TB, d database, dir string, n, version int) (*kmsencrypted.Box, *field.Model[person], func(rotation.Options) *rotation.Rotator) {
	t.Helper()
	db := d.open(t)
	old := model[person](t, box(t, dir, 1), "people")
	create(t, d, db, old, "id bigint PRIMARY KEY")
	people := make([]*person, n)
	for i := range people {
		people[i] = &person{ID: int64(i + 1), Email: field.New(fmt.Sprint("person ", i+1))}
	}
	insert(t, db, old, people)
	b := box(t, dir, version)
	m := model[person](t, b, "people")
	return b, m, func(o rotation.Options) *rotation.Rotator { return rotator(t, d, db, b, m, o) }
}

// A run is done in slices by programs that know no more than its name: any free
// shard, or one shard each.
func testSlices(t *testing.T, d database) {
	const n, shards = 400, 5
	for _, anyShard := range []bool{true, false} {
		_, _, newRotator := peopleAt(t, d, t.TempDir(), n, 2)
		run, err := newRotator(rotation.Options{Shards: shards}).Begin(t.Context())
		must(t, err)
		if run.Shards != shards || run.Planned != n {
			t.Fatalf("Begin() = %+v, want %d shards and %d keys", run, shards, n)
		}
		var workers sync.WaitGroup
		var mu sync.Mutex
		var written int64
		var slices int
		for number := range shards {
			r := newRotator(rotation.Options{BatchSize: 30})
			if anyShard {
				number = rotation.AnyShard
			}
			workers.Go(func() {
				for {
					s, err := r.Work(t.Context(), run.ID, number, time.Nanosecond)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					written += s.Written
					slices++
					mu.Unlock()
					switch s.Next {
					case rotation.NextNothing:
						return
					case rotation.NextWait:
						time.Sleep(5 * time.Millisecond)
					}
				}
			})
		}
		workers.Wait()
		r := newRotator(rotation.Options{})
		status, _, err := r.Status(t.Context())
		must(t, err)
		if written != n || status.State != rotation.RunDone || status.Written != n || status.Pass != 2 || slices < n/30 {
			t.Errorf("%d written in %d slices, %+v, want %d and done in two passes", written, slices, status, n)
		}
		if s, err := r.Work(t.Context(), run.ID, 0, time.Second); err != nil || s.Next != rotation.NextNothing {
			t.Errorf("Work() of a run that is done = %+v, %v", s, err)
		}
	}
}

// Slices of a paused run, of another kind of run and of a cancelled one do nothing.
func testSlicesRefused(t *testing.T, d database) {
	_, _, newRotator := peopleAt(t, d, t.TempDir(), 10, 2)
	r := newRotator(rotation.Options{})
	run, err := r.Begin(t.Context())
	must(t, err)
	if again, err := r.Begin(t.Context()); err != nil || again.ID != run.ID || again.Shards != run.Shards {
		t.Errorf("second Begin() = %+v, %v, want the same run", again, err)
	}
	must(t, r.Pause(t.Context()))
	if s, err := r.Work(t.Context(), run.ID, 0, time.Second); !errors.Is(err, rotation.ErrPaused) || s.Written != 0 {
		t.Errorf("Work() of a paused run = %+v, %v, want ErrPaused", s, err)
	}
	must(t, r.Resume(t.Context()))
	other := newRotator(rotation.Options{Kind: rotation.Rekey})
	if _, err := other.Work(t.Context(), run.ID, 0, time.Second); !errors.Is(err, kmsencrypted.ErrConflict) || strings.Contains(err.Error(), kmsencrypted.ErrConflict.Error()) {
		t.Errorf("Work() of another kind = %v, want ErrConflict in words that are not those of a row", err)
	}
	must(t, r.Cancel(t.Context()))
	if s, err := r.Work(t.Context(), run.ID, 0, time.Second); err != nil || s.Next != rotation.NextNothing || s.Written != 0 {
		t.Errorf("Work() of a cancelled run = %+v, %v, want nothing", s, err)
	}
}
