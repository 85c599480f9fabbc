package rotation

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// A plan foretells the requests of a run: it counts the values that each key service
// gets, and the branch keys that are opened, and divides them into the batches of a run.

// demand is what a run asks of key services.
type demand struct {
	values map[route]int64 // that a key service gets
	// branches are the branch keys that are used.
	branches map[[2]string]branchDemand
	unseen   float64 // branches that a sample does not show
	// proofs are keys by target and column, some of which the store opens again.
	proofs map[proof]int64
}

// branchDemand is how many values a branch key is for, and whether any of them is under it
// already.
type branchDemand struct {
	values int64
	exists bool
}

type proof struct {
	route
	column string
}

// route is a provider that gets values of one kind, in requests of their own.
type route struct {
	version int
	chosen  kmsencrypted.Provider // by Version.ProviderFor; otherwise nil
	op      kmsencrypted.Op
}

// KeyMove says where a run moves a data key of a record.
type KeyMove struct {
	Column  string
	HasKey  bool // false: the record has no such key yet
	Version int  // that the key is at
	Target  int  // that it goes to
	// From and To are where these versions wrap it.
	From, To kmsencrypted.Place
}

// placing is a store that tells for each key of the selected records where it comes from
// and goes to, without a call to a key service. The limit of the selection is the number of
// records to look at, from all over the table if that is cheap; 0 means all. Keys that no
// version can place are left out.
type placing interface {
	Moves(ctx context.Context, s Selection) iter.Seq2[KeyMove, error]
}

// keyCounting is a store that counts the keys of the selected records, also those that
// are at the target already.
type keyCounting interface {
	Keys(ctx context.Context, s Selection) ([]VersionCount, error)
}

func newDemand() *demand {
	return &demand{values: make(map[route]int64), branches: make(map[[2]string]branchDemand), proofs: make(map[proof]int64)}
}

// add adds n keys that move alike. placed means that their places are known.
func (r *Rotator) add(d *demand, k KeyMove, placed bool, n int64) {
	to, err := r.box.Version(k.Target)
	if err != nil {
		return
	}
	from, err := r.box.Version(k.Version)
	if err != nil { // the records fail; or there is no key
		from, k.Version, k.From = to, k.Target, k.To
	}
	source, target := cmp.Or(k.From.Provider(), from.Provider), cmp.Or(k.To.Provider(), to.Provider)
	needs := kinds[r.options.Kind].needs(k.HasKey, k.HasKey && k.Version == k.Target)
	goal := route{k.Target, k.To.Provider(), kmsencrypted.OpWrap}
	inside := r.box.RewrapsInside(k.Version, k.Target)
	if placed && !inside {
		inside = !from.RecordSeal && !to.RecordSeal && k.From.SameBinding(k.To) && foretold(source, target)
	}
	if inside && needs == moved && r.options.Kind == Rewrap {
		goal.op = kmsencrypted.OpRewrap
		needs.unwraps = false
	}
	if needs.unwraps {
		d.ask(route{k.Version, k.From.Provider(), kmsencrypted.OpUnwrap}, source, k.From, n)
	}
	if needs.wraps {
		d.ask(goal, target, k.To, n)
		d.proofs[proof{goal, k.Column}] += n
	}
}

// ask adds values for a provider, or the branch key that takes them.
func (d *demand) ask(to route, provider kmsencrypted.Provider, place kmsencrypted.Place, n int64) {
	if _, ok := kmsencrypted.Ability[branching](provider); !ok {
		d.values[to] += n
		return
	}
	store, branch := place.Branch()
	parent, _, _ := strings.Cut(branch, "/") // whose key opens those below it
	key := [2]string{store, parent}
	b := d.branches[key]
	d.branches[key] = branchDemand{b.values + n, b.exists || to.op == kmsencrypted.OpUnwrap}
}

// foretold reports whether a provider rewraps the keys of another one itself.
func foretold(source, target kmsencrypted.Provider) bool {
	foreteller, ok := kmsencrypted.Ability[kmsencrypted.RewrapForeteller](target)
	if behind, other := kmsencrypted.Ability[kmsencrypted.RewrapForeteller](source); other {
		source = behind
	}
	return ok && foreteller.RewrapsFrom(source)
}

// keysLookedAt is how many records an estimate looks at.
const keysLookedAt = 10_000

// demand returns what the planned run asks of key services, and how many keys it
// handles.
func (r *Rotator) demand(ctx context.Context, p Plan, counts []VersionCount) (d *demand, keys int64, err error) {
	d = newDemand()
	sel := Selection{Kind: p.Kind, Target: p.Target, Part: p.Part}
	if counts, err = r.handled(ctx, p, sel, counts); err != nil {
		return nil, 0, err
	}
	for _, c := range counts {
		if kinds[p.Kind].needs(c.HasKey, c.HasKey && !c.Old(p.Target)) != (needs{}) {
			keys += c.Rows
		}
	}
	if s, ok := r.store.(placing); ok && r.dependsOnRecord(counts, p.Target) {
		if p.About {
			sel.Limit = keysLookedAt
		}
		var seen int64
		for k, err := range s.Moves(ctx, sel) {
			if err != nil {
				return nil, 0, err
			}
			seen++
			r.add(d, k, true, 1)
		}
		if p.About && seen > 0 {
			d.scale(float64(keys) / float64(seen))
		}
		return d, keys, nil
	}
	for _, c := range counts {
		r.add(d, KeyMove{Column: c.Column, HasKey: c.HasKey, Version: c.Version, Target: cmp.Or(c.Target, p.Target)}, false, c.Rows)
	}
	return d, keys, nil
}

// handled returns the counts of the keys of the selected records. Those of the whole table
// tell it where records with an old key are selected, and have no other key.
func (r *Rotator) handled(ctx context.Context, p Plan, sel Selection, counts []VersionCount) ([]VersionCount, error) {
	counts = slices.Clone(counts)
	columns, moving := make(map[string]bool), int64(0)
	for _, c := range counts {
		columns[c.Column] = true
		if c.Old(p.Target) {
			moving += c.Rows
		}
	}
	s, ok := r.store.(keyCounting)
	isOld := p.Kind == Rewrap || p.Kind == Rekey
	switch {
	case ok && !p.About && !(isOld && len(columns) == 1 && moving == p.Records):
		return s.Keys(ctx, sel)
	case isOld:
		counts = slices.DeleteFunc(counts, func(c VersionCount) bool { return !c.Old(p.Target) })
	}
	return counts, nil
}

// dependsOnRecord reports whether the record decides which key service, or which branch
// key, wraps its data key.
func (r *Rotator) dependsOnRecord(counts []VersionCount, target int) bool {
	depends := func(version int) bool {
		v, err := r.box.Version(version)
		_, branches := kmsencrypted.Ability[branching](v.Provider)
		return err == nil && (v.ProviderFor != nil || branches)
	}
	return slices.ContainsFunc(counts, func(c VersionCount) bool {
		return depends(c.Version) || depends(cmp.Or(c.Target, target))
	})
}

// scale makes the demand of a sample that of all. A branch that was seen once stands for
// as many others; one that was seen again is taken for known.
func (d *demand) scale(factor float64) {
	for to := range d.values {
		d.values[to] = int64(float64(d.values[to]) * factor)
	}
	for to := range d.proofs {
		d.proofs[to] = int64(float64(d.proofs[to]) * factor)
	}
	for _, b := range d.branches {
		if b.values == 1 {
			d.unseen += factor - 1
		}
	}
}

// requests returns the number of requests that meet a demand of so many records.
func (r *Rotator) requests(d *demand, records int64) (n int64) {
	for _, b := range d.branches {
		if n++; !b.exists { // it may have to be made
			n++
		}
	}
	n += 2 * int64(d.unseen)
	for to, values := range d.values {
		provider := r.provider(to)
		size := perRequest(provider)
		if to.op == kmsencrypted.OpRewrap {
			if _, ok := provider.(kmsencrypted.BatchRewrapper); !ok {
				size = 1
			}
		}
		each := int64(1)
		if to.op == kmsencrypted.OpWrap {
			each = int64(wrapsOf(provider))
		}
		n += each * r.spread(values, records, size)
	}
	if s, ok := r.store.(interface{ Proofs() int64 }); ok && r.options.Kind != Reindex {
		for to, values := range d.proofs {
			n += int64(divided(int(min(values, s.Proofs())), perRequest(r.provider(to.route))))
		}
	}
	return n
}

func (r *Rotator) provider(to route) kmsencrypted.Provider {
	v, _ := r.box.Version(to.version)
	return cmp.Or(to.chosen, v.Provider)
}

// spread returns the requests for values that are spread evenly over records, which a run
// divides into shards and batches: each batch has requests of its own.
func (r *Rotator) spread(values, records int64, perRequest int) int64 {
	if perRequest < 2 || values == 0 {
		return values * int64(perRequest)
	}
	size := int64(r.options.BatchSize)
	if limiter := r.options.Calls; limiter != nil {
		size = min(size, int64(r.mostCalls().most(r.options.BatchSize, max(1, limiter.Burst()))))
	}
	records = max(records, 1)
	shards := min(int64(r.options.Shards), records)
	// rest shards have one record more than the others.
	each, rest := records/shards, records%shards
	ofBatch := func(n int64) int64 { return int64(divided(int((n*values+records-1)/records), perRequest)) }
	ofShard := func(n int64) int64 { return n/size*ofBatch(size) + ofBatch(n%size) }
	return min(values, rest*ofShard(each+1)+(shards-rest)*ofShard(each))
}
