package branch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// EraseOptions describe an erasure, and what surrounds the key store.
type EraseOptions struct {
	// Records are all tables with records under the provider, such as stores of package
	// sqlstore. Their values of blind indexes become NULL, and their journals forget the
	// branches. In a table that is not listed these stay.
	Records []rotation.BranchEraser
	// Linger is how much longer than the [Limits] of the store a program may use a key that it has
	// opened: the longest time between sealing a record and its commit, and the MaxAge of the Box's
	// cache. What is committed later is unreadable, and its index values stay.
	Linger time.Duration
	// DropOutside lets wrapped keys of the branches' records become NULL that are not under the branch, such
	// as those of another version. LeaveOutside lets them stay, as for a tenant that has moved to a key of
	// its own. Without one of these such a key is [ErrOutside].
	DropOutside, LeaveOutside bool
	// Reason is for the receipt.
	Reason string
	// SeparateStore says that the key store has backups of its own, apart from those of the
	// records, which are kept for Retention.
	SeparateStore bool
	Retention     time.Duration
}

// Erase destroys the keys of branches for good, and so makes unreadable whatever is under
// them. A branch with others under it takes these along. The caller needs the right to UPDATE the key
// store, and [Options].Receipts.
//
// First the branches are closed: nothing opens or wraps under them any more, and callers get
// [ErrErased]. Processes that have a key open lose it within the MaxAge and StaleFor of the [Limits];
// Erase waits for that time and for Linger. Then it deletes the keys, sets blind indexes to NULL, and
// deletes what journals keep. The receipts that it returns say what it did, and what
// it did not reach.
//
// Erase may be called again at any time. After it was interrupted, the branches are closed, and another
// call completes it. It returns [ErrMissing] for a branch without a key, before anything is changed.
//
// A record whose wrapped key is outside its branch opens without it. If Erase finds one in the beginning, it returns
// [ErrOutside] and changes nothing. If one was committed after that, such as while Erase waits, the branches are
// erased, the record stays as it is, and Erase returns the receipts together with ErrOutside. LeaveOutside is for
// records that are meant to open without it.
func (p *Provider) Erase(ctx context.Context, o EraseOptions, names ...Name) ([]Receipt, error) {
	if o.DropOutside && o.LeaveOutside {
		return nil, p.failed(opErase, kmsencrypted.ErrConfig, errors.New("DropOutside and LeaveOutside exclude each other"))
	}
	var receipts []Receipt
	err := p.changeAll(ctx, names, func() (err error) {
		receipts, err = p.erase(ctx, o, names)
		return err
	})
	return receipts, err
}

// changeAll checks the arguments of an erasure.
func (p *Provider) changeAll(ctx context.Context, names []Name, f func() error) error {
	if err := p.Check(); err != nil {
		return p.failed(opErase, err, nil)
	}
	if p.options.Receipts == nil {
		return p.failed(opErase, kmsencrypted.ErrConfig, errors.New("an erasure needs Options.Receipts"))
	}
	if len(names) == 0 {
		return p.failed(opErase, kmsencrypted.ErrConfig, errors.New("no branch is named"))
	}
	for _, n := range names {
		if err := n.check(); err != nil {
			return p.opError(opErase, n, err)
		}
	}
	err := f()
	if _, known := errors.AsType[*kmsencrypted.Error](err); err == nil || known {
		return err
	}
	return p.failed(opErase, err, nil)
}

const opErase = "erase"

func (p *Provider) erase(ctx context.Context, o EraseOptions, names []Name) ([]Receipt, error) {
	names = distinct(names)
	head, err := p.head(ctx)
	if err != nil {
		return nil, err
	}
	live := false // whether a process may have a key open
	var begins []Name
	var last State
	for _, n := range names {
		state, rows, err := p.read(ctx, n)
		begun := slices.Contains(head.Begun, n)
		if errors.Is(err, ErrErased) { // according to the receipts
			err = nil
		}
		last = state
		if err == nil && len(rows) == 0 && !begun {
			err = ErrMissing
		}
		if err != nil {
			return nil, p.opError(opErase, n, err)
		}
		if !begun {
			begins = append(begins, n)
		}
		live = live || slices.ContainsFunc(rows, func(r Row) bool { return r.Erased.IsZero() })
	}
	of := rotation.Erasure{Store: p.id.String(), Erased: covers(names)}
	of.DropOutside = o.DropOutside
	if !o.DropOutside && !o.LeaveOutside && len(begins) > 0 { // of those that have begun it is too late
		if err := p.checkOutside(ctx, o.Records, rotation.Erasure{Store: of.Store, Erased: covers(begins), DryRun: true}); err != nil {
			return nil, err
		}
	}
	if err := p.closeAll(ctx, last, o, names); err != nil {
		return nil, err
	}
	if live {
		state, _, err := p.read(ctx, Name{})
		if err != nil {
			return nil, err
		}
		limits := state.Limits.withDefaults()
		if err := pause(ctx, limits.MaxAge+limits.StaleFor+o.Linger); err != nil {
			return nil, err
		}
	}
	return p.complete(ctx, o, of, names)
}

// checkOutside returns ErrOutside if a record of the branches has a wrapped key that
// opens without them.
func (p *Provider) checkOutside(ctx context.Context, records []rotation.BranchEraser, of rotation.Erasure) error {
	tables, err := clean(ctx, records, of)
	if err != nil {
		return err
	}
	return errLeft(tables, "rotate these records into the branch, or set LeaveOutside to keep them as they are, or DropOutside to lose them")
}

// errLeft returns ErrOutside if wrapped keys of the records open without the branch, and says what to do.
func errLeft(tables []rotation.Erased, advice string) error {
	for _, t := range tables {
		if t.Left > 0 {
			return fmt.Errorf("%w: %d in %s: %s", ErrOutside, t.Left, t.Table, advice)
		}
	}
	return nil
}

// begin notes durably that an erasure has begun, unless the receipts say so. If an earlier one raised
// the epoch of the key store and then ended, it notes that too: this one raises it again.
func (p *Provider) begin(ctx context.Context, s State, o EraseOptions, names []Name) error {
	head, err := p.head(ctx)
	if err != nil {
		return err
	}
	for _, n := range names {
		if slices.Contains(head.Begun, n) && s.Epoch <= head.Epoch {
			continue
		}
		begun := Receipt{Kind: ErasureBegun, Name: n, At: now(), Epoch: s.Epoch, Reason: o.Reason}
		if err := p.note(ctx, begun); err != nil {
			return err
		}
		head = head.after(begun)
	}
	return nil
}

// next returns the epoch that completes an erasure. Receipts from before it began, which do not name its
// branches, have a lower limit, so that the key store is not used with them.
func (p *Provider) next(ctx context.Context, s State, o EraseOptions, names []Name) (uint64, error) {
	if err := p.begin(ctx, s, o, names); err != nil { // another erasure of these may have ended meanwhile
		return 0, err
	}
	head, err := p.head(ctx)
	return max(s.Epoch+1, head.Limit), err
}

// closeAll closes the branches of an erasure that begins.
func (p *Provider) closeAll(ctx context.Context, s State, o EraseOptions, names []Name) error {
	if err := p.begin(ctx, s, o, names); err != nil {
		return err
	}
	for _, n := range names {
		err := p.access(ctx, func(ctx context.Context) error { return p.store.Close(ctx, n, now()) })
		if err != nil {
			return p.opError(opErase, n, err)
		}
		p.cache.dropBelow(n)
		p.observe(ctx, Event{Kind: Closed, Name: n})
	}
	return nil
}

// complete erases branches that nobody has open any more.
func (p *Provider) complete(ctx context.Context, o EraseOptions, of rotation.Erasure, names []Name) ([]Receipt, error) {
	at := now()
	for _, n := range names {
		err := p.access(ctx, func(ctx context.Context) error { return p.store.Erase(ctx, n, at) })
		if err != nil {
			return nil, p.opError(opErase, n, err)
		}
	}
	// After the keys: what a writer commits meanwhile is found here.
	tables, err := clean(ctx, o.Records, of)
	if err != nil {
		return nil, err
	}
	epoch, err := p.raise(ctx, func(s State) (uint64, error) { return p.next(ctx, s, o, names) })
	if err != nil {
		return nil, err
	}
	var receipts []Receipt
	for _, n := range names {
		r := Receipt{Kind: ErasureDone, Name: n, At: at, Epoch: epoch, Reason: o.Reason, Tables: tables, NotReached: o.notReached(at, tables)}
		if err := p.note(ctx, r); err != nil {
			return receipts, err
		}
		receipts = append(receipts, r)
		p.observe(ctx, Event{Kind: Erased, Name: n})
	}
	if o.LeaveOutside {
		return receipts, nil
	}
	return receipts, errLeft(tables, "the branch is erased, and these records open without it; to lose them too, erase it again with DropOutside")
}

// note appends a receipt.
func (p *Provider) note(ctx context.Context, r Receipt) error {
	return p.access(ctx, func(ctx context.Context) error { return p.options.Receipts.Append(ctx, r) })
}

// clean removes from the records what lies outside the keys.
func clean(ctx context.Context, records []rotation.BranchEraser, of rotation.Erasure) (tables []rotation.Erased, err error) {
	for _, r := range records {
		done, err := r.EraseBranches(ctx, of)
		if err != nil {
			return tables, err
		}
		tables = append(tables, done)
	}
	return tables, nil
}

// raise sets the epoch of the key store to what next makes of it, and returns it.
func (p *Provider) raise(ctx context.Context, next func(State) (uint64, error)) (uint64, error) {
	for {
		state, _, err := p.readStore(ctx, Name{})
		if err != nil {
			return 0, err
		}
		epoch, err := next(state)
		if err != nil || epoch == state.Epoch {
			return epoch, err
		}
		var raised bool
		err = p.access(ctx, func(ctx context.Context) (err error) {
			raised, err = p.store.Raise(ctx, state.Epoch, epoch)
			return err
		})
		if err != nil || raised {
			return epoch, err
		}
	}
}

// covers reports whether a branch, by its text, is one of names or lies under one.
func covers(names []Name) func(string) bool {
	all := make(map[Name]bool, len(names))
	for _, n := range names {
		all[n] = true
	}
	return func(text string) bool {
		n, err := ParseName(text)
		return err == nil && (all[n] || n.Parent != "" && all[Name{Branch: n.Parent}])
	}
}

// pause waits until d has passed by the monotonic clock and by that on the wall.
func pause(ctx context.Context, d time.Duration) error {
	for begin := time.Now(); ; {
		now := time.Now()
		if passed(d, now.Sub(begin), now.Round(0).Sub(begin.Round(0))) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(max(d-now.Sub(begin), time.Millisecond), time.Second)):
		}
	}
}

// passed reports whether d has passed by both clocks. One on the wall that is set forward does not end
// a wait early, and one that is set back does not make it endless.
func passed(d, monotonic, wall time.Duration) bool {
	return monotonic >= d && (wall >= d || monotonic >= 2*d)
}

// notReached says what an erasure cannot reach.
func (o EraseOptions) notReached(at time.Time, tables []rotation.Erased) (list []string) {
	if o.SeparateStore {
		text := "backups of the key store still hold the keys"
		if o.Retention > 0 {
			text += " until " + at.Add(o.Retention).Format(time.DateOnly)
		} else {
			text += " for as long as they are kept"
		}
		list = append(list, text+"; after a restore of one, replay the receipts")
	} else {
		list = append(list, "the key store is in the database of the records: dumps, archives of its log, binary logs, delayed replicas and change data capture hold keys and records together, and open for whoever may use the key service")
	}
	list = append(list, "the key store's own files may hold deleted rows until the database reuses their space")
	var moved, outside, left int64
	for _, t := range tables {
		moved, outside, left = moved+t.Moved, outside+t.Outside, left+t.Left
	}
	if left > 0 {
		list = append(list, fmt.Sprintf("%d wrapped keys of these records are outside the branch: they open without it", left))
	}
	if moved+outside > 0 {
		list = append(list, fmt.Sprintf("%d wrapped keys of these records were under other keys: backups from before they were moved into the branch open without it", moved+outside))
	}
	if len(tables) == 0 {
		list = append(list, "no table was looked at: blind indexes and journals keep what they have")
	}
	return append(list,
		"restored records have their blind indexes again, until the receipts are replayed",
		"plaintext columns, logs, search services and what programs hold in memory",
		"objects of attached files, which are unreadable and still there")
}
