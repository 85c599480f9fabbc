package branch

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Status is the state of a branch in the key store.
type Status struct {
	Name
	Current  uint32    // the highest version
	Versions int       // with a row
	Created  time.Time // of the first version that has a row
	Renewed  time.Time // when the current version was made
	Closing  time.Time // when an erasure began; zero if none did
	Erased   time.Time // when it was completed; zero if none was
}

// Branches yields the branches under a parent, or those at the top for an empty parent, by
// name. It calls no key service. It ends at the first error.
func (p *Provider) Branches(ctx context.Context, parent string) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		if err := p.Check(); err != nil {
			yield(Status{}, err)
			return
		}
		var s Status
		for row, err := range p.store.All(ctx, parent) {
			if err != nil {
				yield(Status{}, err)
				return
			}
			if s.Versions > 0 && s.Name != row.Name {
				if !yield(s, nil) {
					return
				}
				s = Status{}
			}
			s.add(row)
		}
		if s.Versions > 0 {
			yield(s, nil)
		}
	}
}

// add counts the next version of the branch.
func (s *Status) add(row Row) {
	if s.Versions == 0 {
		s.Name, s.Created = row.Name, row.Created
	}
	s.Versions++
	s.Current, s.Renewed = row.Version, row.Created
	if !row.Closing.IsZero() {
		s.Closing = row.Closing
	}
	if !row.Erased.IsZero() {
		s.Erased = row.Erased
	}
}

// MoveKeys moves all branch keys at the top to the current version of the Box: to another
// key service or key, with one call to unwrap and one to wrap for each version of a branch. No record and no key
// under a parent is written. Readers and writers go on meanwhile, if they list both
// versions. It returns the number of rows that it moved. It may be stopped at any time and called again;
// a row that another process changes meanwhile is left to that. A row that does not open does not stop
// the rest: the error joins those of at most ten such rows. Any other error ends it.
func (p *Provider) MoveKeys(ctx context.Context) (moved int, err error) {
	if err := p.Check(); err != nil {
		return 0, err
	}
	if _, _, err := p.read(ctx, Name{}); err != nil { // a restored store is not moved
		return moved, p.failed(kmsencrypted.OpRewrap, err, nil)
	}
	var failed []error
	for row, err := range p.store.All(ctx, "") {
		if err != nil {
			return moved, p.failed(kmsencrypted.OpRewrap, err, nil)
		}
		if row.WrappedKey == "" || kmsencrypted.ColumnVersion(row.WrappedKey) == p.box.Current() {
			continue
		}
		done, err := p.rewrapRow(ctx, row)
		if err != nil {
			here := p.opError(kmsencrypted.OpRewrap, row.Name, err)
			if kmsencrypted.ConcernsAll(err) || kmsencrypted.Retryable(err) || isCancelled(err) {
				return moved, errors.Join(append(failed, here)...)
			}
			if len(failed) < 10 {
				failed = append(failed, here)
			}
		}
		if done {
			moved++
		}
	}
	return moved, errors.Join(failed...)
}

func (p *Provider) rewrapRow(ctx context.Context, row Row) (done bool, err error) {
	column, err := p.box.Rewrap(ctx, row.WrappedKey, row.binding(p.id))
	if err != nil {
		return false, err
	}
	err = p.access(ctx, func(ctx context.Context) (err error) {
		done, err = p.store.Replace(ctx, row, column)
		return err
	})
	return done, err
}
