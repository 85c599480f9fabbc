package branch

import (
	"context"
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Replay is what [Provider.Replay] did.
type Replay struct {
	Branches int    // that the receipts say are erased
	Begun    []Name // whose erasure was never completed: they are closed, and need another Erase
	Tables   []rotation.Erased
	Restored bool // the key store was older than its receipts
	// Behind says that the receipts were behind the key store, and name all of its erased branches: they
	// are from a time when the last erasures had begun.
	Behind bool
}

// Replay repeats all erasures of the receipts, after the key store, the records or both were
// restored from a backup. Call it before any program starts that reads records. Until it is done, every call
// that needs a branch key returns [ErrRestored], if the key store was restored. If only the records were, nothing refuses
// them: their values do not open, but blind indexes still find them.
//
// Records whose wrapped keys are all outside the branch stay as they are, and Tables count these keys
// as Left: a tenant may have come back under a key of its own. Replay may be called at any time, and
// again after it was interrupted. dryRun counts, and changes nothing.
func (p *Provider) Replay(ctx context.Context, dryRun bool, records ...rotation.BranchEraser) (Replay, error) {
	var done Replay
	err := p.Check()
	if err == nil && p.options.Receipts == nil {
		err = fmt.Errorf("branch: %w: a replay needs Options.Receipts", kmsencrypted.ErrConfig)
	}
	if err == nil {
		done, err = p.replay(ctx, dryRun, records)
	}
	if err != nil {
		return done, p.failed(opReplay, err, nil)
	}
	return done, nil
}

const opReplay = "replay"

func (p *Provider) replay(ctx context.Context, dryRun bool, records []rotation.BranchEraser) (done Replay, err error) {
	state, _, err := p.readStore(ctx, Name{})
	if err != nil {
		return done, err
	}
	head, err := p.head(ctx)
	if err != nil {
		return done, err
	}
	if done.Behind = state.Epoch > head.most(); done.Behind {
		if err := p.checkNamed(ctx); err != nil {
			return done, err
		}
	}
	done.Restored, done.Begun = state.Epoch < head.Epoch, head.Begun
	var names []Name
	for r, err := range p.options.Receipts.All(ctx) {
		if err != nil {
			return done, err
		}
		if r.Kind != ErasureDone {
			continue
		}
		names = append(names, r.Name)
		if !dryRun {
			if err := p.access(ctx, func(ctx context.Context) error { return p.store.Erase(ctx, r.Name, r.At) }); err != nil {
				return done, err
			}
			p.cache.dropBelow(r.Name)
		}
	}
	for _, n := range head.Begun {
		if dryRun {
			break
		}
		if err := p.access(ctx, func(ctx context.Context) error { return p.store.Close(ctx, n, now()) }); err != nil {
			return done, err
		}
		p.cache.dropBelow(n)
	}
	of := rotation.Erasure{Store: p.id.String(), Erased: covers(names), DryRun: dryRun}
	done.Branches = len(distinct(names))
	if len(names) > 0 {
		if done.Tables, err = clean(ctx, records, of); err != nil {
			return done, err
		}
	}
	if dryRun {
		return done, nil
	}
	// Last, because until now everything is refused.
	epoch, err := p.raise(ctx, func(s State) (uint64, error) { return max(s.Epoch, head.Epoch), nil })
	if err != nil || len(names) == 0 && epoch == head.Epoch {
		return done, err
	}
	return done, p.note(ctx, Receipt{Kind: Replayed, At: now(), Epoch: epoch, Tables: done.Tables})
}

// checkNamed returns ErrRestored unless the receipts name all branches of the key store that are erased
// or closing. If they do, a higher epoch of the store hides no erasure that it knows of.
func (p *Provider) checkNamed(ctx context.Context) error {
	lost, err := p.gone(ctx)
	if err != nil {
		return err
	}
	for r, err := range p.options.Receipts.All(ctx) {
		if err != nil {
			return err
		}
		delete(lost, r.Name)
	}
	for n := range lost {
		return fmt.Errorf("%w: the receipts do not name the branch %s, which is erased in the key store: bring the latest receipts back", ErrRestored, n)
	}
	return nil
}

// gone returns the branches of the key store that are erased or closing.
func (p *Provider) gone(ctx context.Context) (map[Name]bool, error) {
	found := make(map[Name]bool)
	parents := []string{""}
	for i := 0; i < len(parents); i++ {
		for row, err := range p.store.All(ctx, parents[i]) {
			if err != nil {
				return nil, err
			}
			if row.Parent == "" && parents[len(parents)-1] != row.Branch {
				parents = append(parents, row.Branch)
			}
			if !row.Closing.IsZero() || !row.Erased.IsZero() {
				found[row.Name] = true
			}
		}
	}
	return found, nil
}

// distinct returns each name once.
func distinct(names []Name) []Name {
	seen := make(map[Name]bool, len(names))
	return slices.DeleteFunc(slices.Clone(names), func(n Name) bool {
		before := seen[n]
		seen[n] = true
		return before
	})
}

// head reads what the receipts say, and checks that they are of this store.
func (p *Provider) head(ctx context.Context) (head Head, err error) {
	err = p.access(ctx, func(ctx context.Context) error {
		head, err = p.options.Receipts.Head(ctx)
		return err
	})
	if err == nil && head.Store != p.id {
		err = fmt.Errorf("branch: %w: the receipts are of the key store %s, and this is %s", kmsencrypted.ErrConfig, head.Store, p.id)
	}
	return head, err
}

// most is the highest epoch that the key store may have.
func (h Head) most() uint64 { return max(h.Epoch, h.Limit) }

// check returns ErrRestored for a key store, read after the head, that is not at it.
func (h Head) check(s State) error {
	switch {
	case s.Epoch < h.Epoch:
		return fmt.Errorf("%w: it is at epoch %d, and its receipts at %d: run the command \"branch replay\", or call Replay", ErrRestored, s.Epoch, h.Epoch)
	case s.Epoch > h.most():
		return fmt.Errorf("%w: the receipts are at epoch %d, and the key store at %d: bring the latest receipts back; if these are, run the command \"branch replay\", or call Replay", ErrRestored, h.Epoch, s.Epoch)
	}
	return nil
}
