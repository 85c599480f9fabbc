package branch

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

// Store keeps the rows of branch keys. [NewSQL] and [OpenDir] return one. It is safe for
// concurrent use by several processes, and honours cancellation.
type Store interface {
	// Read returns the state of the store and all rows of a branch, the lowest version
	// first, as they were at one moment.
	Read(ctx context.Context, name Name) (State, []Row, error)
	// Insert adds a row and reports whether it did. It adds none if there is one of this
	// name and version. The row is durable when Insert returns.
	Insert(ctx context.Context, row Row) (added bool, err error)
	// Replace replaces the wrapped key of a row that has no other one meanwhile, and
	// reports whether it did.
	Replace(ctx context.Context, row Row, wrappedKey string) (replaced bool, err error)
	// Close notes on the rows of a branch that an erasure has begun, unless one began before.
	Close(ctx context.Context, name Name, at time.Time) error
	// Erase deletes the wrapped keys of a branch and notes when, in one step. A branch
	// without rows gets one of version 1, so that nobody makes it again.
	Erase(ctx context.Context, name Name, at time.Time) error
	// Raise sets the epoch of the store, if it is still the old one, and reports whether it did.
	Raise(ctx context.Context, old, epoch uint64) (raised bool, err error)
	// All yields the rows of all branches under a parent, or of those at the top for an
	// empty parent, by name and version.
	All(ctx context.Context, parent string) iter.Seq2[Row, error]
}

// ID is the identity of a key store: 16 random bytes. Every wrap is bound to it.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// State is what a key store says about itself.
type State struct {
	ID     ID
	Limits Limits
	// Epoch grows with each erasure. A store with a lower one than its [Receipts] was restored
	// from a backup.
	Epoch uint64
}

// Limits bound how long processes use a branch key after they opened it. They are kept in
// the store, so that an erasure knows for how long it has to wait.
type Limits struct {
	// MaxAge is the longest [Options].MaxAge. 0 means one minute.
	MaxAge time.Duration
	// StaleFor is the longest [Options].StaleFor.
	StaleFor time.Duration
}

// defaultMaxAge is the MaxAge of a store whose tables say nothing else.
const defaultMaxAge = time.Minute

// Row is a version of a branch key.
type Row struct {
	Name
	Version    uint32
	WrappedKey string // text of a native key column; empty after an erasure
	Created    time.Time
	Closing    time.Time // when an erasure began; zero if none did
	Erased     time.Time // when the erasure was completed; zero if none was
}

// checked returns the limits of a new store.
func (l Limits) checked() (Limits, error) {
	if l.MaxAge < 0 || l.StaleFor < 0 {
		return l, fmt.Errorf("branch: %w: the limits of a key store are negative", kmsencrypted.ErrConfig)
	}
	return l.withDefaults(), nil
}

func (l Limits) withDefaults() Limits {
	if l.MaxAge == 0 {
		l.MaxAge = defaultMaxAge
	}
	return l
}
