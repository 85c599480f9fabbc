package rotatecli

import (
	"time"

	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// mostBranches limits how many branches doctor counts.
const mostBranches = 10_000

// branches examines branch keys and makes none: the key store and its receipts, one key that
// exists, and the key services under it.
func (e *examination) branches(keys *branch.Provider) (healthy bool) {
	healthy = e.keyStore(keys)
	e.say(unknown, "%s", boundsOf(keys.Bounds()))
	for _, n := range keys.Box().Versions() {
		v, err := keys.Box().Version(n)
		if err != nil {
			e.say(fails, "%s", oneLine(err))
			return false
		}
		below := *e
		below.provider, below.indent = v.Provider, e.indent+"  "
		e.say(unknown, "under the branches, version %d: %s", n, infoOf(v).KeyID)
		healthy = below.run() && healthy
	}
	return healthy
}

func boundsOf(b branch.Limits) string {
	text := "a key that is open is used for at most " + span(b.MaxAge) + " after the service would refuse it"
	if b.StaleFor > 0 {
		text += ", and for " + span(b.StaleFor) + " more while the service is away"
	}
	return text
}

// keyStore reads the key store and opens the first key in it.
func (e *examination) keyStore(keys *branch.Provider) (healthy bool) {
	unfinished, err := keys.Unfinished(e.ctx)
	if err != nil {
		e.say(fails, "the receipts: %s", oneLine(err))
		return false
	}
	// The receipts also tell of branches under a parent, and of those in a key store that was restored.
	since := make(map[branch.Name]time.Time)
	for _, r := range unfinished {
		since[r.Name] = r.At
	}
	var first branch.Name
	var all, erased int
	for b, err := range keys.Branches(e.ctx, "") {
		if err != nil {
			e.say(fails, "the key store: %s", oneLine(err))
			return false
		}
		switch _, begun := since[b.Name]; {
		case !b.Erased.IsZero():
			erased++
		case !b.Closing.IsZero():
			since[b.Name] = b.Closing
		case begun:
		case first == branch.Name{}:
			first = b.Name
		}
		if all++; all == mostBranches {
			break
		}
	}
	e.say(works, "the key store: %s, %d of them erased", thingsOf(all, "branch", "branches"), erased)
	closing := 0
	for _, at := range since {
		if time.Since(at) > time.Hour {
			closing++
		}
	}
	if closing > 0 {
		e.say(fails, "%s closed for more than an hour and not erased: branch replay --dry-run names them, branch erase completes it", thingsOf(closing, "branch is", "branches are"))
	}
	if (first == branch.Name{}) {
		e.say(unknown, "no key was opened: there is none")
		return closing == 0
	}
	// Also compares the key store with the receipts.
	if err := keys.Warm(e.ctx, first); err != nil {
		e.say(fails, "the key of %s does not open: %s", first, oneLine(err))
		return false
	}
	e.say(works, "the key of %s opens", first)
	return closing == 0
}
