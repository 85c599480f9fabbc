package rotatecli

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// branchCommands are the subcommands of "branch".
type branchCommands struct {
	List   branchListCmd   `cmd:"" help:"List the branches of a key store, or those under a parent."`
	Ensure branchEnsureCmd `cmd:"" help:"Make the first keys of branches that have none, for servers that may make none."`
	Renew  branchRenewCmd  `cmd:"" help:"Make a new version of a branch key, which becomes current. Older ones still open."`
	Rotate branchRotateCmd `cmd:"" help:"Move all branch keys to the current version of the Box that wraps them. Writes no record."`
	Erase  branchEraseCmd  `cmd:"" help:"Destroy the keys of branches for good, and with them all that is under them."`
	Replay branchReplayCmd `cmd:"" help:"Repeat all erasures after a restore of a database, before any program starts."`
}

// storeFlag selects a key store.
type storeFlag struct {
	Store string `placeholder:"ID" help:"The key store, by the beginning of its id. Needed where the versions have several."`
}

// keys returns the provider over the key store.
func (f storeFlag) keys(ctx context.Context, s *Session) (*branch.Provider, []*table, error) {
	tables, err := s.all(ctx)
	if err != nil {
		return nil, nil, err
	}
	all, chooses, err := keyStores(tables)
	if err != nil {
		return nil, nil, err
	}
	var found []*branch.Provider
	var ids []string
	for _, keys := range all {
		if strings.HasPrefix(storeID(keys), f.Store) {
			found, ids = append(found, keys), append(ids, storeID(keys))
		}
	}
	switch {
	case len(ids) == 0 && chooses > 0:
		return nil, nil, usage("version %d chooses a key for each record, so its branch keys are not known: list a version that has them for all records, which need not be current", chooses)
	case len(ids) == 0:
		return nil, nil, usage("no version has such branch keys")
	case len(ids) == 1:
		return found[0], tables, nil
	}
	return nil, nil, usage("the key stores are %s: choose one by --store", strings.Join(ids, ", "))
}

// keyStores returns the providers over the different key stores of the versions, and a
// version that chooses a provider for each record, if there is one.
func keyStores(tables []*table) (all []*branch.Provider, chooses int, err error) {
	known := make(map[string]bool) // by id
	for _, box := range boxes(tables) {
		for _, n := range box.Versions() {
			v, err := box.Version(n)
			if err != nil {
				return nil, 0, err
			}
			if v.ProviderFor != nil {
				chooses = n
			}
			if keys, ok := kmsencrypted.Ability[*branch.Provider](v.Provider); ok && !known[storeID(keys)] {
				known[storeID(keys)] = true
				all = append(all, keys)
			}
		}
	}
	return all, chooses, nil
}

// storeID is the identity of the key store of a provider.
func storeID(keys *branch.Provider) string {
	return strings.TrimPrefix(keys.Info().KeyID, "branch:")
}

// erasers are the tables, for an erasure.
func erasers(tables []*table) (all []rotation.BranchEraser) {
	for _, t := range tables {
		all = append(all, t.store)
	}
	return all
}

type branchListCmd struct {
	storeFlag
	Parent string `arg:"" optional:"" help:"List the branches under this one."`
}

func (c *branchListCmd) Run(ctx context.Context, s *Session) error {
	keys, _, err := c.keys(ctx, s)
	if err != nil {
		return err
	}
	parent := branch.Name{}
	if c.Parent != "" {
		if parent, err = nameOf(c.Parent); err != nil {
			return err
		}
		if parent.Parent != "" {
			return usage("%s is under a branch, and none is under it", parent)
		}
	}
	n := 0
	for b, err := range keys.Branches(ctx, parent.Branch) {
		if err != nil {
			return err
		}
		n++
		s.printf("%s  made %s  %s\n", b.Name, b.Created.Format(time.DateOnly), stateOf(b))
	}
	if err := c.above(ctx, s, keys, parent); err != nil {
		return err
	}
	s.printf("%s in the key store %s\n", thingsOf(n, "branch", "branches"), storeID(keys))
	return nil
}

// above says if the branch above those that were listed is gone, and they with it.
func (c *branchListCmd) above(ctx context.Context, s *Session, keys *branch.Provider, parent branch.Name) error {
	if c.Parent == "" {
		return nil
	}
	for b, err := range keys.Branches(ctx, "") {
		if err != nil {
			return err
		}
		if b.Name == parent && !b.Closing.IsZero() {
			s.printf("%s  %s, and with it all under it\n", b.Name, stateOf(b))
		}
	}
	return nil
}

func stateOf(b branch.Status) string {
	switch {
	case !b.Erased.IsZero():
		return "erased " + b.Erased.Format(time.RFC3339)
	case !b.Closing.IsZero():
		return "closing since " + b.Closing.Format(time.RFC3339) + ": branch erase completes it"
	}
	return fmt.Sprintf("version %d of %s", b.Current, b.Renewed.Format(time.DateOnly))
}

func thingsOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(int64(n)) + " " + many
}

func nameOf(text string) (branch.Name, error) {
	n, err := branch.ParseName(text)
	if err != nil {
		return n, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return n, nil
}

// namesOf returns the names of branches, and none if one of them is wrong.
func namesOf(texts []string) (names []branch.Name, err error) {
	for _, text := range texts {
		n, err := nameOf(text)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

type branchEnsureCmd struct {
	storeFlag
	Branches []string `arg:"" name:"branch" help:"PARENT/NAME for one under a parent, which gets a key too."`
}

func (c *branchEnsureCmd) Run(ctx context.Context, s *Session) error {
	keys, _, err := c.keys(ctx, s)
	if err != nil {
		return err
	}
	names, err := namesOf(c.Branches)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := keys.Ensure(ctx, n); err != nil {
			return err
		}
		s.printf("%s  has a key\n", n)
	}
	return nil
}

type branchRenewCmd struct {
	storeFlag
	Branch string `arg:"" help:"As branch list prints it; PARENT/NAME for one under a parent."`
}

func (c *branchRenewCmd) Run(ctx context.Context, s *Session) error {
	keys, _, err := c.keys(ctx, s)
	if err != nil {
		return err
	}
	name, err := nameOf(c.Branch)
	if err != nil {
		return err
	}
	version, err := keys.Renew(ctx, name)
	if err != nil {
		return err
	}
	s.printf("%s  version %d is current\nRecords move to it by a rotation to a version of the Box with the same provider.\n", name, version)
	return nil
}

type branchRotateCmd struct{ storeFlag }

func (c *branchRotateCmd) Run(ctx context.Context, s *Session) error {
	keys, _, err := c.keys(ctx, s)
	if err != nil {
		return err
	}
	moved, err := keys.MoveKeys(ctx)
	s.printf("%s moved\n", things(int64(moved), "branch key"))
	return err
}

type branchEraseCmd struct {
	storeFlag
	Branches      []string      `arg:"" name:"branch" help:"As branch list prints them. A branch takes those under it along."`
	Yes           bool          `help:"Do not ask."`
	Reason        string        `placeholder:"TEXT" help:"For the receipt."`
	Linger        time.Duration `default:"30s" help:"The longest time between sealing a record and its commit, plus the MaxAge of a cache of the Box."`
	DropOutside   bool          `xor:"outside" help:"Set wrapped keys of these records to NULL that are not under the branch, instead of refusing."`
	LeaveOutside  bool          `xor:"outside" help:"Let such keys be, and these records open: of a tenant that has moved to a key of its own."`
	SeparateStore bool          `help:"The key store has backups of its own."`
	Retention     time.Duration `help:"How long these are kept."`
}

func (branchEraseCmd) Help() string {
	return `Closes the branches, waits until no process can have their keys, deletes the keys, and
sets blind indexes of their records to NULL. Name all tables with such records in the
program, and erase several branches by one command, at most some hundred: it reads each
table once. Keys of their records that are outside the branch are an error. Where these
are records that were never moved into it, --drop-outside loses them too; where the tenant
has moved to a key of its own, --leave-outside keeps them. Example:

  branch erase acme/42 acme/43 --reason "request 4711"`
}

func (c *branchEraseCmd) Run(ctx context.Context, s *Session) error {
	keys, tables, err := c.keys(ctx, s)
	if err != nil {
		return err
	}
	names, err := namesOf(c.Branches)
	if err != nil {
		return err
	}
	if !c.Yes {
		if err := s.typed(strings.Join(c.Branches, " ")); err != nil {
			return err
		}
	}
	receipts, err := keys.Erase(ctx, branch.EraseOptions{
		Records: erasers(tables), Linger: c.Linger, DropOutside: c.DropOutside, LeaveOutside: c.LeaveOutside, Reason: c.Reason,
		SeparateStore: c.SeparateStore, Retention: c.Retention,
	}, names...)
	for _, r := range receipts {
		s.printf("%s  erased\n", r.Name)
	}
	if len(receipts) > 0 {
		s.printErased(receipts[0].Tables)
		for _, text := range receipts[0].NotReached {
			s.printf("not reached: %s\n", text)
		}
	}
	return err
}

// typed asks for a text to be typed again, before something that cannot be undone.
func (s *Session) typed(text string) error {
	s.printf("This cannot be undone. Type %s to go on: ", text)
	line, _ := bufio.NewReader(s.Stdin).ReadString('\n')
	if strings.TrimSpace(line) != text {
		return usage("that is another text: nothing was erased; --yes does not ask")
	}
	return nil
}

func (s *Session) printErased(tables []rotation.Erased) {
	for _, t := range tables {
		s.printf("%s  %s, %s to NULL, %s of the journal deleted", t.Table, things(t.Records, "record"), things(t.Indexes, "index value"), things(t.Journal, "key"))
		if t.Outside > 0 {
			s.printf(", %s outside the branch to NULL", things(t.Outside, "key"))
		}
		if t.Left > 0 {
			s.printf(", %s outside the branch left", things(t.Left, "key"))
		}
		s.printf("\n")
	}
}

type branchReplayCmd struct {
	storeFlag
	DryRun bool `help:"Only say what there is to do. Exit code 2 if there is something."`
}

func (branchReplayCmd) Help() string {
	return `Run it after every restore of the key store or of the records, before any program
starts that reads them. It may be repeated. Wrapped keys outside the branches stay: of a
tenant that came back under a key of its own, and of records from before they were moved
into their branch. branch erase --drop-outside sets these to NULL.`
}

func (c *branchReplayCmd) Run(ctx context.Context, s *Session) error {
	keys, tables, err := c.keys(ctx, s)
	if err != nil {
		return err
	}
	done, err := keys.Replay(ctx, c.DryRun, erasers(tables)...)
	if err != nil {
		return err
	}
	s.printf("%s erased according to the receipts\n", thingsOf(done.Branches, "branch", "branches"))
	if done.Restored {
		s.printf("the key store was restored from a backup\n")
	}
	if done.Behind {
		s.printf("the receipts were behind the key store, and name all of its erased branches\n")
	}
	s.printErased(done.Tables)
	for _, n := range done.Begun {
		s.printf("%s  its erasure is not complete: branch erase %s\n", n, n)
	}
	open := done.Restored || done.Behind || slices.ContainsFunc(done.Tables, func(t rotation.Erased) bool { return t.Indexes+t.Journal+t.Outside > 0 })
	if c.DryRun && open || len(done.Begun) > 0 {
		return exit{ExitFailures}
	}
	return nil
}
