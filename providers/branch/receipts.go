package branch

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Receipts keep what was erased, outside the databases: a backup that is restored brings branch keys
// back, and the receipts tell that it does. [OpenReceipts] returns them in a file; a bucket with
// object lock suits too. Receipts are only ever added. They contain the names of branches, so
// use names that say nothing, such as numbers. They are safe for concurrent use by several processes.
type Receipts interface {
	// Head returns what the last receipt says. It is called with each read of the key store.
	Head(context.Context) (Head, error)
	// Append adds a receipt, and keeps [Receipt].Number and [Head] right. It is durable when
	// Append returns.
	Append(context.Context, Receipt) error
	// All yields all receipts in their order.
	All(context.Context) iter.Seq2[Receipt, error]
}

// Head sums up some receipts.
type Head struct {
	Store ID
	// Epoch is the highest of all receipts.
	Epoch uint64
	// Limit is the highest epoch that a key store with these receipts may have. It grows with each receipt, and is
	// above the epoch of each.
	Limit uint64
	// Begun are the erasures that were not completed, in order.
	Begun []Name
}

// ReceiptKind says what a receipt is about.
type ReceiptKind string

// The kinds of receipts.
const (
	ErasureBegun ReceiptKind = "begun"    // from now on the branch counts as erased after a restore
	ErasureDone  ReceiptKind = "erased"   // the keys are gone from the key store
	Replayed     ReceiptKind = "replayed" // all erasures were repeated after a restore
)

// Receipt says what an erasure did. It contains nothing secret but names.
type Receipt struct {
	Number uint64 // from 1; set by Append
	Kind   ReceiptKind
	Name   Name // zero for Replayed
	At     time.Time
	Epoch  uint64 // of the key store, at least, from then on
	Reason string // as given
	// Tables are what was erased beside the keys, for all branches that were erased together.
	Tables []rotation.Erased
	// NotReached says in words where copies may be, and until when.
	NotReached []string
}

// closed returns ErrErased for a branch whose erasure has begun. A key store that was restored to a
// time before it does not know.
func (h Head) closed(name Name) error {
	if slices.Contains(h.Begun, name) {
		return fmt.Errorf("%w (it is closing, according to the receipts)", ErrErased)
	}
	return nil
}

// after returns the head with one more receipt.
func (h Head) after(r Receipt) Head {
	begun := make([]Name, 0, len(h.Begun)+1)
	for _, n := range h.Begun {
		if n != r.Name {
			begun = append(begun, n)
		}
	}
	if r.Kind == ErasureBegun {
		begun = append(begun, r.Name)
	}
	return Head{Store: h.Store, Epoch: max(h.Epoch, r.Epoch), Limit: max(h.Limit, r.Epoch) + 1, Begun: begun}
}
