package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/requests"
	"github.com/kmsencrypted/kmsencrypted/internal/sleep"
)

// A key service, or a custom provider, that returns garbage would destroy every data
// key that it wraps. So before the commit, the first records under a provider are read
// back from the database and opened. This takes one call for each key, and permission
// to decrypt under the new key.

// errUnproven is the reason of a failure of a record that does not open after it was
// written.
var errUnproven = errors.New("the new wrapped key does not open")

// allowance waits until some of n more calls may be made, as in [rotation.Position].
type allowance func(ctx context.Context, n int) (some int, err error)

// unlimited is the allowance without a limiter.
func unlimited(_ context.Context, n int) (int, error) { return n, nil }

// bookProofs waits for the calls of prove before the transaction begins. SQLite
// needs that: a limiter in the same database cannot write while the transaction is
// open, and the transaction would wait for it.
func (b *batch[R]) bookProofs(ctx context.Context, w *swap, allow allowance) error {
	doubted, err := b.doubted(w, func(int) bool { return true })
	for left := len(doubted); left > 0 && err == nil; {
		var some int
		some, err = allow(ctx, left)
		left -= some
	}
	return err
}

// doubt is an update that sets keys under providers that are not trusted yet.
type doubt struct {
	update    int
	providers []provenKey
}

// doubted lists as many such updates as each provider needs.
func (b *batch[R]) doubted(w *swap, picks func(update int) bool) (doubted []doubt, err error) {
	if trusted, err := b.trusted(); err != nil || trusted {
		return nil, err
	}
	listed := make(map[provenKey]int)
	for i := range w.updates {
		if !picks(i) {
			continue
		}
		providers, err := b.providers(w, i)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(providers, func(p provenKey) bool { return listed[p] < b.store.trust.needs(p) }) {
			doubted = append(doubted, doubt{i, providers})
			for _, p := range providers {
				listed[p]++
			}
		}
	}
	return doubted, nil
}

// trusted reports whether every version that the run writes has one provider for all
// records, which is trusted.
func (b *batch[R]) trusted() (bool, error) {
	for _, key := range b.store.keys {
		version := b.store.targetOf(key, b.target)
		target, err := b.store.model.Box().Version(version)
		if err != nil || target.ProviderFor != nil || b.store.trust.needs(provenKey{version: version}) > 0 {
			return false, err
		}
	}
	return true, nil
}

// prove opens the doubted records after they were written, and counts the requests.
// Records that fail are an error of type leftOut.
func (b *batch[R]) prove(ctx context.Context, tx *sqlx.Tx, w *swap, allow allowance) error {
	doubted, err := b.doubted(w, func(i int) bool { return w.written[i] })
	if err != nil {
		return err
	}
	var refused field.Failures
	ctx, done := b.counting(ctx)
	defer done()
	for len(doubted) > 0 {
		some, err := allow(ctx, len(doubted))
		if err != nil {
			return err
		}
		failures, err := b.openStored(ctx, tx, w, doubted[:some])
		if err != nil {
			return err
		}
		refused = append(refused, failures...)
		b.store.trust.note(doubted[:some], failures)
		doubted = doubted[some:]
	}
	if refused != nil {
		return leftOut{refused}
	}
	return nil
}

// counting returns a context whose requests count as proofs of the batch, also if the
// transaction fails, and as those of ctx. The caller must call done at the end.
func (b *batch[R]) counting(ctx context.Context) (counted context.Context, done func()) {
	made := new(atomic.Int64)
	return requests.Counted(ctx, made), func() {
		b.proofs += made.Load()
		if outer := requests.Counter(ctx); outer != nil {
			outer.Add(made.Load())
		}
	}
}

// provenKey identifies a provider that a version chose. Its provider is nil if the
// version has one for all records.
type provenKey struct {
	version  int
	provider kmsencrypted.Provider
}

// proofs is the number of consecutive records that must open before a provider is
// trusted.
const proofs = 100

// Proofs returns the number of consecutive records that must open before the store
// trusts the provider that wrapped their keys. They are read back from the database
// before the commit. Each takes a call.
func (s *Store[R]) Proofs() int64 { return proofs }

// trust counts, for each provider, the consecutive records that have opened.
type trust struct {
	mu     sync.Mutex
	opened map[provenKey]int
}

// needs returns how many more records must open.
func (t *trust) needs(k provenKey) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, proofs-t.opened[k])
}

// note notes the records that were opened, and that some of them failed.
func (t *trust) note(opened []doubt, failures field.Failures) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opened == nil {
		t.opened = make(map[provenKey]int)
	}
	for _, d := range opened {
		for _, p := range d.providers {
			t.opened[p]++
		}
	}
	for _, d := range opened {
		if slices.ContainsFunc(failures, func(f field.Failure) bool { return f.Index == d.update }) {
			for _, p := range d.providers {
				t.opened[p] = 0
			}
		}
	}
}

// providers returns the providers of the wrapped keys that an update sets.
func (b *batch[R]) providers(w *swap, i int) (providers []provenKey, err error) {
	row := &b.rows[w.indexes[i]]
	for _, key := range b.store.keys {
		if w.atSet(key.name) < 0 {
			continue
		}
		version := b.store.targetOf(key, b.target)
		place, err := b.store.model.Box().Place(version, b.store.model.Binding(key.name, row))
		if err != nil {
			return nil, err
		}
		if p := (provenKey{version, place.Provider()}); !slices.Contains(providers, p) {
			providers = append(providers, p)
		}
	}
	return providers, nil
}

// openStored opens records as they are stored in the transaction.
func (b *batch[R]) openStored(ctx context.Context, tx *sqlx.Tx, w *swap, doubted []doubt) (failures field.Failures, err error) {
	byKey := make(map[string]int, len(doubted))
	var keys []string
	for _, d := range doubted {
		key := encodeKey(w.updates[d.update].id)
		byKey[key], keys = d.update, append(keys, key)
	}
	for some, err := range b.store.byKeys(ctx, tx, keys) {
		if err != nil {
			return nil, err
		}
		errs, err := b.openKeys(ctx, field.Pointers(some.rows))
		if err != nil {
			return nil, err
		}
		for n, err := range errs {
			failures = append(failures, field.Failure{Index: byKey[encodeKey(some.records[n].id)], Err: fmt.Errorf("%w: %w", errUnproven, err)})
		}
	}
	return failures, nil
}

// openKeys opens the data keys of records. Under a Ruby key it also opens the columns,
// because the key has no commitment that shows whether it is the right one. The error
// concerns the whole batch. If each record may have its own key service, the only such
// error is that of ctx.
func (b *batch[R]) openKeys(ctx context.Context, rows []*R) (errs map[int]error, err error) {
	errs = make(map[int]error)
	left := make([]int, len(rows))
	for i := range left {
		left[i] = i
	}
	const tries = 6 // of a service that throttles
	for try := range tries {
		if left, err = b.openSome(ctx, rows, left, errs); err != nil {
			return nil, err
		}
		if len(left) == 0 || try == tries-1 {
			break
		}
		if err := sleep.For(ctx, 50*time.Millisecond<<try); err != nil {
			return nil, err
		}
	}
	for _, e := range errs {
		if kmsencrypted.Retryable(e) || kmsencrypted.ConcernsAll(e) || ctx.Err() != nil {
			err = worse(err, e)
		}
	}
	if b.perRecord && ctx.Err() == nil {
		return errs, nil
	}
	if kmsencrypted.ConcernsAll(err) {
		err = fmt.Errorf("what was written is opened before the first commit, which takes the right to decrypt under the new key: %w", err)
	}
	return errs, err
}

// openSome opens the records at some places, and notes the errors by place. It returns
// the places to try again.
func (b *batch[R]) openSome(ctx context.Context, rows []*R, places []int, errs map[int]error) (again []int, err error) {
	some := make([]*R, len(places))
	for n, i := range places {
		some[n] = rows[i]
	}
	found, err := b.openOnce(ctx, some)
	if err != nil {
		return nil, err
	}
	for n, i := range places {
		delete(errs, i)
		if e := found[n]; e != nil {
			errs[i] = e
			if kmsencrypted.Retryable(e) {
				again = append(again, i)
			}
		}
	}
	return again, nil
}

// openOnce returns the errors of records by place.
func (b *batch[R]) openOnce(ctx context.Context, rows []*R) (errs map[int]error, err error) {
	if b.store.targets(b.target, kmsencrypted.Ruby) {
		if errs, err = byRecord(b.open(ctx, rows...), len(rows)); err != nil || len(errs) > 0 {
			return errs, err
		}
	}
	errs = make(map[int]error) // a record without a value was not opened
	for _, key := range b.store.keys {
		keys, err := b.store.model.DataKeys(ctx, key.name, rows...)
		for i := range keys {
			keys[i].Wipe()
		}
		of, err := byRecord(err, len(rows))
		if err != nil {
			return nil, err
		}
		for i, e := range of {
			errs[i] = worse(errs[i], e)
		}
	}
	return errs, nil
}

// choosesProviders reports whether a version chooses a key service for each record,
// so that one that denies or does not answer concerns some records only.
func (s *Store[R]) choosesProviders() bool {
	box := s.model.Box()
	return slices.ContainsFunc(box.Versions(), func(n int) bool {
		v, err := box.Version(n)
		return err == nil && v.ProviderFor != nil
	})
}
