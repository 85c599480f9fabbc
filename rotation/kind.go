package rotation

import (
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// Kind is what a rotation does to each record: which records it selects, how it
// changes them in memory, and what must be unchanged when it writes them.
type Kind string

const (
	// Rewrap changes only how data keys are wrapped: another version of the key,
	// another key, key service or context. Columns and files do not change. It is
	// safe while any other writer runs, including Ruby.
	Rewrap Kind = "rewrap"
	// Rekey gives each record a new data key and seals its columns again, in any
	// format. It is safe only while all other writers compare the key column, as
	// this library does.
	Rekey Kind = "rekey"
	// Migrate brings columns up to date with those that they replace: plaintext
	// columns and others that a model names with the tag migrating=. It writes what is
	// NULL or differs, and rekeys records at other versions. It opens every record that
	// has anything in these columns, because nothing else tells whether they differ:
	// one call to the key service for each, in each run. It does not change the old
	// columns, and they must be unchanged when a record is written. [Rotator.Verify] of
	// this kind tells whether all columns agree.
	Migrate Kind = "migrate"
	// Reindex computes the blind indexes of every record again and writes those that
	// differ: for a new index column, another key or other options. Neither the key
	// column nor a column that an index is computed from may have changed meanwhile.
	Reindex Kind = "reindex"
	// Complete adds missing wraps to key columns at the current version, if that
	// version wraps under several keys ([kmsencrypted.WrapCounter]). Wraps are
	// missing if a key service was unavailable when the column was written. Complete
	// reads every record at that version and writes those with a missing wrap. It
	// ignores other versions; use a rewrap for them.
	Complete Kind = "complete"
	// FirstKey gives a data key to every record that has none, for each of its keys. Rails
	// leaves a record without one until a value is set, and then gives it one without
	// comparing: if another program did so meanwhile, the values of one are lost. FirstKey
	// writes only the key column, and only if that is still NULL. Rails may overwrite such a
	// key, but nothing was sealed under it, unless a program did so since Rails read the row.
	FirstKey Kind = "first-key"
)

// needs says which requests to a key service a data key takes.
type needs struct{ unwraps, wraps bool }

// kindTraits is what the engine knows about a kind; stores know the rest.
type kindTraits struct {
	// most is what a key takes that is handled; needs is what a key of a selected
	// record takes, by whether there is one and whether it is at the target. What only
	// reading the record tells is assumed to be needed.
	most  needs
	needs func(hasKey, atTarget bool) needs
	// exclusive means that a writer that does not compare the key column loses
	// values.
	exclusive bool
	// selectsDone means that processed records are selected again, so a pass that
	// wrote some does not require another one.
	selectsDone bool
}

var kinds = map[Kind]kindTraits{
	Rewrap: {most: moved, needs: everyKey(moved)},
	Rekey:  {most: moved, needs: everyKey(moved), exclusive: true},
	Migrate: {most: moved, needs: func(hasKey, atTarget bool) needs {
		return needs{unwraps: hasKey, wraps: !atTarget}
	}, exclusive: true, selectsDone: true},
	Reindex:  {most: needs{unwraps: true}, needs: everyKey(needs{unwraps: true}), selectsDone: true},
	Complete: {most: moved, needs: func(_, atTarget bool) needs { return needs{atTarget, atTarget} }, selectsDone: true},
	FirstKey: {most: needs{wraps: true}, needs: func(hasKey, _ bool) needs { return needs{wraps: !hasKey} }},
}

// moved is what a key takes that goes to another place.
var moved = needs{unwraps: true, wraps: true}

// everyKey returns the same needs for all keys that there are.
func everyKey(n needs) func(hasKey, atTarget bool) needs {
	return func(hasKey, _ bool) needs { return needs{n.unwraps && hasKey, n.wraps && hasKey} }
}

// Journals reports whether the journal keeps the replaced wrapped keys of
// records, unless [Options.NoJournal] is set.
func (k Kind) Journals() bool { return kinds[k].exclusive || k == Rewrap }

// ReplacesKeys reports whether records get new data keys.
func (k Kind) ReplacesKeys() bool { return kinds[k].exclusive }

// SelectsDone reports whether processed records are selected again. A pass of
// such a kind is repeated only for shards with conflicts.
func (k Kind) SelectsDone() bool { return kinds[k].selectsDone }

func (k Kind) check(writersAreOurs bool) error {
	traits, known := kinds[k]
	if !known {
		return fmt.Errorf("%w: unknown kind of rotation %q", kmsencrypted.ErrConfig, k)
	}
	if traits.exclusive && !writersAreOurs {
		return fmt.Errorf("%w: a %s loses values of writers that do not compare the key column: stop such writers and set WritersAreOurs", kmsencrypted.ErrConfig, k)
	}
	return nil
}

// need returns the least intrusive kind that moves records between formats.
func (k Kind) need(from, to kmsencrypted.Format) Kind {
	switch {
	case k == Reindex, k == Complete, k == FirstKey:
		return ""
	case k != Rewrap:
		return k
	case from != to:
		return Rekey
	}
	return Rewrap
}

// Kinds returns all kinds.
func Kinds() []Kind {
	list := make([]Kind, 0, len(kinds))
	for k := range kinds {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
