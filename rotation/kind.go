package rotation

import (
	"fmt"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// Kind is what a rotation does to each record: which records it selects,
// what becomes of them in memory, and what must still be as it was read when
// they are written.
type Kind string

const (
	// Rewrap changes the wrapping of data keys only: another version of the
	// key, another key, key service or context. Columns and files stay as they
	// are. It is safe beside every writer, Ruby included.
	Rewrap Kind = "rewrap"
	// Rekey gives each record a new data key and seals its columns again,
	// whatever format they had. It is safe beside writers that compare the key
	// column, as those of this library do.
	Rekey Kind = "rekey"
	// Migrate is a rekey that also fills columns from those that they replace:
	// plaintext columns and others that a model names with the tag migrating=.
	// It selects records without a data key too. The old columns stay as they
	// are; they must not have changed when a record is written.
	Migrate Kind = "migrate"
	// Reindex computes the blind indexes of every record anew and writes those
	// that differ: an index column that is new, or has another key or other
	// options. Neither the key column nor a column that an index is computed from
	// may have changed meanwhile.
	Reindex Kind = "reindex"
	// Complete adds the wraps that key columns at the current version lack,
	// where that version wraps under several keys ([kmsencrypted.WrapCounter]): they were written
	// while a key service was away. It reads every record at that version and writes
	// those that lack one; the others are left to a rewrap.
	Complete Kind = "complete"
)

// kindTraits is what the engine knows of a kind; stores know the rest.
type kindTraits struct {
	calls int // to the key service for each key
	// exclusive: a writer that does not compare the key column loses values.
	exclusive bool
	// selectsDone: a record that was dealt with is selected again, so that a pass
	// which wrote some is no reason for another one.
	selectsDone bool
}

var kinds = map[Kind]kindTraits{
	Rewrap:   {calls: callsPerKey},
	Rekey:    {calls: callsPerKey, exclusive: true},
	Migrate:  {calls: callsPerKey, exclusive: true},
	Reindex:  {calls: 1, selectsDone: true},
	Complete: {calls: callsPerKey, selectsDone: true},
}

// callsPerKey: one to unwrap, one to wrap.
const callsPerKey = 2

// Journals reports whether the replaced wrapped keys of records are kept.
func (k Kind) Journals() bool { return kinds[k].exclusive }

// SelectsDone reports whether records that were dealt with are selected again. A
// pass of such a kind is repeated only for shards that met conflicts.
func (k Kind) SelectsDone() bool { return kinds[k].selectsDone }

func (k Kind) check(writersAreOurs bool) error {
	traits, known := kinds[k]
	if !known {
		return fmt.Errorf("%w: unknown kind of rotation %q", kmsencrypted.ErrConfig, k)
	}
	if traits.exclusive && !writersAreOurs {
		return fmt.Errorf("%w: a %s loses values of writers that do not compare the key column: stop them and set WritersAreOurs", kmsencrypted.ErrConfig, k)
	}
	return nil
}

// need is the least that moves records to another version.
func (k Kind) need(from, to kmsencrypted.Format) Kind {
	switch {
	case k == Reindex, k == Complete:
		return ""
	case k != Rewrap:
		return k
	case from != to:
		return Rekey
	}
	return Rewrap
}

// Kinds lists all kinds.
func Kinds() []Kind {
	list := make([]Kind, 0, len(kinds))
	for k := range kinds {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
