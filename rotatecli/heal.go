package rotatecli

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

type healCmd struct {
	tablesFlag
	ID     string `name:"run" placeholder:"ID" help:"The run, as rotate history names it. Without it: every run of which the journal has keys."`
	DryRun bool   `help:"Only look."`
}

func (healCmd) Help() string {
	return `A writer that does not compare the key column may leave a value under a data key
that a rekey has just replaced. The journal still has that key, wrapped. It also has
the keys that a rewrap replaced, if what the key service made of them does not open.
Look first at what rotate verify says, and expect as many:

  rotate verify
  rotate heal --dry-run
  rotate heal

It takes an old ciphertext for a valid value, so it is limited to the records whose
keys the journal has. Exit codes: 0 nothing is left to mend, 2 not so.`
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
		runs := []string{c.ID}
		if c.ID == "" {
			if runs, err = t.healing(ctx); err != nil {
				return err
			}
		}
		if len(runs) == 0 {
			s.printf("%s  nothing to do: the journal holds no key of it\n", t.name)
			continue
		}
		healed, err := c.heal(ctx, s, t, runs)
		if err != nil {
			return err
		}
		whole = whole && healed
	}
	if !whole {
		return exit{ExitFailures}
	}
	return nil
}

// healing lists the runs whose journal may help, the newest first.
func (t *table) healing(ctx context.Context) (runs []string, err error) {
	if has, err := t.database.hasLedger(ctx); err != nil || !has {
		return nil, err
	}
	journals, err := t.store.Journals(ctx)
	for _, j := range journals {
		runs = append(runs, j.ID)
	}
	return runs, err
}

// heal tries the journals of some runs. A record that the one run's keys do not open
// may open with those of another, so what still fails is known after a second round, or
// in a dry run from what some run could mend.
func (c *healCmd) heal(ctx context.Context, s *Session, t *table, runs []string) (whole bool, err error) {
	rotator, err := t.rotator(rotation.Options{})
	if err != nil {
		return false, err
	}
	whole, err = c.round(ctx, s, t, rotator, runs)
	if err == nil && !whole && len(runs) > 1 && !c.DryRun {
		return c.round(ctx, s, t, rotator, runs)
	}
	return whole, err
}

func (c *healCmd) round(ctx context.Context, s *Session, t *table, r *rotation.Rotator, runs []string) (whole bool, err error) {
	whole = true
	failed, mended := make(map[string]bool), make(map[string]bool)
	for _, run := range runs {
		h, err := r.Heal(ctx, run, rotation.HealOptions{DryRun: c.DryRun})
		if err != nil {
			return false, err
		}
		verb, of := "mended", ""
		if c.DryRun {
			verb = "could be mended"
		}
		if len(runs) > 1 {
			of = "run " + run + ": "
		}
		s.printf("%s  %s%s looked at, %s %s, %s changed meanwhile, %s failed\n", t.name, of,
			things(h.Looked, "record"), count(h.Mended), verb, count(h.Conflicts), count(int64(len(h.Failures))))
		s.printFailures(h.Failures, 10, "rotate verify --failures")
		for _, f := range h.Failures {
			failed[f.Record] = true
		}
		for _, record := range h.Records {
			mended[record] = true
		}
		whole = whole && h.Conflicts == 0
	}
	for record := range failed {
		whole = whole && mended[record]
	}
	return whole, nil
}
