package rotation

import (
	"sort"

	"github.com/kmsencrypted/kmsencrypted"
)

// A call is a request to a key service, as the service bills it. A service that
// takes batches, as Vault does, gets one for many values.

// calls returns the number of requests for n keys.
type calls func(n int) int

// most returns the largest number of keys up to n that take at most so many
// requests, and at least 1.
func (c calls) most(n, requests int) int {
	return max(1, sort.Search(n, func(i int) bool { return c(i+1) > requests }))
}

// perRequest returns the number of values that a provider accepts in one request. Several
// providers behind one accept no batches, and neither do those that depend on the
// record. It returns 0 for a provider with branch keys, which makes one request for
// many thousands of records.
func perRequest(p kmsencrypted.Provider) int {
	if _, ok := kmsencrypted.Ability[branching](p); ok {
		return 0
	}
	batch, ok := p.(kmsencrypted.BatchProvider)
	if _, several := p.(kmsencrypted.MultiWrapper); several || !ok {
		return 1
	}
	return max(batch.BatchSize(), 1)
}

// wrapsOf returns the number of requests that wrap a key under all keys of a provider.
func wrapsOf(p kmsencrypted.Provider) int {
	if several, ok := kmsencrypted.Ability[kmsencrypted.WrapCounter](p); ok {
		return several.Wraps()
	}
	return 1
}

// branching is the provider of package providers/branch.
type branching interface {
	kmsencrypted.Provider
	Branch(kmsencrypted.BoundContext) (store, branch string)
}

// divided returns the number of requests for n values.
func divided(n, size int) int {
	if size == 0 {
		return 0
	}
	return (n + size - 1) / size
}

// callsFrom returns the most requests for keys at a version that this kind of rotation
// handles, all wraps at the target version included.
func (r *Rotator) callsFrom(version int) calls {
	target, err := r.box.Version(r.box.Current())
	from, fromErr := r.box.Version(version)
	if err != nil || fromErr != nil {
		from = target
	}
	unwraps, wraps, each := perRequest(from.Provider), perRequest(target.Provider), wrapsOf(target.Provider)
	needs := kinds[r.options.Kind].most
	if r.options.Kind == Rewrap && r.box.RewrapsInside(version, r.box.Current()) {
		if _, ok := target.Provider.(kmsencrypted.BatchRewrapper); !ok {
			wraps = 1
		}
		return func(n int) int { return divided(n, wraps) }
	}
	return func(n int) (requests int) {
		if needs.unwraps {
			requests += divided(n, unwraps)
		}
		if needs.wraps {
			requests += each * divided(n, wraps)
		}
		return requests
	}
}

// mostCalls returns the maximum over all versions.
func (r *Rotator) mostCalls() calls {
	var all []calls
	for _, version := range r.box.Versions() {
		if version != r.box.Current() {
			all = append(all, r.callsFrom(version))
		}
	}
	if len(all) == 0 {
		return r.callsFrom(r.box.Current())
	}
	return func(n int) (most int) {
		for _, c := range all {
			most = max(most, c(n))
		}
		return most
	}
}

// opening returns the requests for keys that are only opened.
func (r *Rotator) opening() calls {
	least := 0
	for _, version := range r.box.Versions() {
		v, err := r.box.Version(version)
		if err != nil {
			continue
		}
		if size := perRequest(v.Provider); size > 0 && (least == 0 || size < least) {
			least = size
		}
	}
	return func(n int) int { return divided(n, least) }
}
