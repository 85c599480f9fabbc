package rotatecli

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

type historyCmd struct {
	tablesFlag
	Limit int  `default:"20" placeholder:"N" help:"Maximum number of runs per table; 0 lists all."`
	JSON  bool `help:"Print JSON."`
}

// runJSON is a run in JSON.
type runJSON struct {
	Table     string     `json:"table"`
	Run       string     `json:"run"`
	Kind      string     `json:"kind"`
	Target    int        `json:"target"`
	State     string     `json:"state"`
	Pass      int        `json:"pass"`
	Planned   int64      `json:"planned"`
	Written   int64      `json:"written"`
	Conflicts int64      `json:"conflicts"`
	Failed    int64      `json:"failed"`
	Calls     int64      `json:"kms_calls"`
	Started   time.Time  `json:"started"`
	Ended     *time.Time `json:"ended,omitempty"`
	Verified  *time.Time `json:"verified,omitempty"`
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (c *historyCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.some(ctx, c.Table)
	if err != nil {
		return err
	}
	all := []runJSON{}
	rows := [][]string{{"TABLE", "STARTED", "RUN", "WHAT", "STATE", "WRITTEN", "FAILED", "KMS CALLS", "TOOK", "VERIFIED"}}
	for _, t := range tables {
		if !t.database.hasLedger(ctx) {
			continue
		}
		runs, err := t.store.History(ctx, c.Limit)
		if err != nil {
			return err
		}
		for _, r := range runs {
			all = append(all, runJSON{
				t.name, r.ID, string(r.Kind), r.Target, string(r.State), r.Pass, r.Planned, r.Written, r.Conflicts, r.Outcome.Failed,
				r.Calls, r.Started, orNil(r.Ended), orNil(r.Verified),
			})
			rows = append(rows, []string{
				t.name, moment(r.Started), r.ID, fmt.Sprintf("%s to v%d", r.Kind, r.Target), string(r.State), count(r.Written),
				count(r.Outcome.Failed), count(r.Calls), took(r), moment(r.Verified),
			})
		}
	}
	if c.JSON {
		return s.printJSON(all)
	}
	if len(all) == 0 {
		s.printf("no run yet\n")
		return nil
	}
	columnsOf(s.Stdout, rows)
	return nil
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func took(r rotation.Status) string {
	if r.Ended.IsZero() {
		return "–"
	}
	return span(r.Ended.Sub(r.Started))
}

type healCmd struct {
	tablesFlag
	ID     string `name:"run" placeholder:"ID" help:"The run, as rotate history names it. Without it: the latest."`
	DryRun bool   `help:"Only look."`
}

func (healCmd) Help() string {
	return `A writer that does not compare the key column may leave a value under a data key
that a rekey has just replaced. The journal still has that key, wrapped. Look first
at what rotate verify says, and expect as many:

  rotate verify
  rotate heal --dry-run
  rotate heal

It takes an old ciphertext for a valid value, so it is limited to one run's records.
Exit codes: 0 nothing is left to mend, 2 not so.`
}

func (c *healCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.some(ctx, c.Table)
	if err != nil {
		return err
	}
	if c.ID != "" && len(tables) != 1 {
		return usage("--run names a run of one table: say which by --table")
	}
	whole := true
	for _, t := range tables {
		run := c.ID
		if run == "" {
			latest, found, err := t.latest(ctx)
			if err != nil {
				return err
			}
			if !found || !latest.Kind.Journals() {
				s.printf("%s  nothing to do: the latest run keeps no journal\n", t.name)
				continue
			}
			run = latest.ID
		}
		rotator, err := t.rotator(rotation.Options{})
		if err != nil {
			return err
		}
		h, err := rotator.Heal(ctx, run, rotation.HealOptions{DryRun: c.DryRun})
		if err != nil {
			return err
		}
		verb := "mended"
		if c.DryRun {
			verb = "could be mended"
		}
		s.printf("%s  %s looked at, %s %s, %s changed meanwhile, %s failed\n", t.name,
			things(h.Looked, "record"), count(h.Mended), verb, count(h.Conflicts), count(int64(len(h.Failures))))
		s.printFailures(h.Failures, 10)
		whole = whole && len(h.Failures) == 0 && h.Conflicts == 0
	}
	if !whole {
		return exit{ExitFailures}
	}
	return nil
}

// latest returns the latest run of a table.
func (t *table) latest(ctx context.Context) (rotation.Status, bool, error) {
	if !t.database.hasLedger(ctx) {
		return rotation.Status{}, false, nil
	}
	return t.store.Newest(ctx)
}

type clearJournalCmd struct {
	tablesFlag
	Grace time.Duration `default:"720h" help:"Keep the keys of runs that ended within this time."`
}

func (clearJournalCmd) Help() string {
	return `The journal heals, and opens backups from before a rekey. It is erased only for
runs after which rotate verify was clean for all records. Example:

  rotate clear-journal --grace 2160h`
}

func (c *clearJournalCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.some(ctx, c.Table)
	if err != nil {
		return err
	}
	for _, t := range tables {
		var n int64
		if t.database.hasLedger(ctx) {
			rotator, err := t.rotator(rotation.Options{})
			if err != nil {
				return err
			}
			if n, err = rotator.ClearJournal(ctx, c.Grace); err != nil {
				return err
			}
		}
		s.printf("%s  %s erased\n", t.name, things(n, "replaced key"))
	}
	return nil
}
