package rotatecli

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

// mostBranches limits how many branches doctor counts.
const mostBranches = 10_000

// branches examines branch keys and makes none: the key store and its receipts, one key that
// exists, and the key services under it.
func (e *examination) branches(keys *branch.Provider) (healthy bool) {
	healthy = e.keyStore(keys)
	e.say(unknown, boundsOf(keys.Bounds()), nil)
	for _, n := range keys.Box().Versions() {
		v, err := keys.Box().Version(n)
		if err != nil {
			e.say(fails, "", err)
			return false
		}
		below := *e
		below.provider, below.depth = v.Provider, e.depth+1
		e.say(unknown, fmt.Sprintf("under the branches, version %d: %s", n, infoOf(v).KeyID), nil)
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
	s, err := stateOfStore(e.ctx, keys)
	if err != nil {
		e.say(fails, s.failed, err)
		return false
	}
	e.say(works, fmt.Sprintf("the key store: %s, %d of them erased", thingsOf(s.branches, "branch", "branches"), s.erased), nil)
	if s.overdue > 0 {
		e.say(fails, thingsOf(s.overdue, "branch is", "branches are")+" closed for more than an hour and not erased: branch replay --dry-run names them, branch erase completes it", nil)
	}
	if (s.first == branch.Name{}) {
		e.say(unknown, "no key was opened: there is none", nil)
		return s.overdue == 0
	}
	// Also compares the key store with the receipts.
	if err := keys.Warm(e.ctx, s.first); err != nil {
		e.sayOf(s.first.String(), fails, "the key of {} does not open", err)
		return false
	}
	e.sayOf(s.first.String(), works, "the key of {} opens", nil)
	return s.overdue == 0
}

// storeState is what a key store and its receipts tell, without opening a key.
type storeState struct {
	branches int // mostBranches if there are more
	erased   int
	overdue  int         // closed for more than an hour and not erased
	first    branch.Name // that is neither; empty if there is none
	failed   string      // what could not be read
}

func stateOfStore(ctx context.Context, keys *branch.Provider) (s storeState, err error) {
	unfinished, err := keys.Unfinished(ctx)
	if err != nil {
		return storeState{failed: "the receipts"}, err
	}
	// The receipts also tell of branches under a parent, and of those in a key store that was restored.
	since := make(map[branch.Name]time.Time)
	for _, r := range unfinished {
		since[r.Name] = r.At
	}
	for b, err := range keys.Branches(ctx, "") {
		if err != nil {
			return storeState{failed: "the key store"}, err
		}
		switch _, begun := since[b.Name]; {
		case !b.Erased.IsZero():
			s.erased++
		case !b.Closing.IsZero():
			since[b.Name] = b.Closing
		case begun:
		case s.first == branch.Name{}:
			s.first = b.Name
		}
		if s.branches++; s.branches == mostBranches {
			break
		}
	}
	for _, at := range since {
		if time.Since(at) > time.Hour {
			s.overdue++
		}
	}
	return s, nil
}
