package rotatecli

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

type clearJournalCmd struct {
	tablesFlag
	Grace time.Duration `default:"720h" help:"Keep the keys of runs that ended within this time."`
}

func (clearJournalCmd) Help() string {
	return `The journal heals, and opens backups from before a rekey. It is erased only for
runs after which rotate verify was clean for all records. What is kept is listed
with the reason. Example:

  rotate clear-journal --grace 2160h`
}

func (c *clearJournalCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.some(ctx, c.Table)
	if err != nil {
		return err
	}
	for _, t := range tables {
		has, err := t.database.hasLedger(ctx)
		if err != nil {
			return err
		}
		if !has {
			s.printf("%s  nothing to do: no run yet\n", t.name)
			continue
		}
		rotator, err := t.rotator(rotation.Options{})
		if err != nil {
			return err
		}
		erased, err := rotator.ClearJournal(ctx, c.Grace)
		if err != nil {
			return err
		}
		s.printf("%s  %s erased\n", t.name, things(erased, "replaced key"))
		kept, err := rotator.Journals(ctx)
		if err != nil {
			return err
		}
		for _, j := range kept {
			s.printf("  %s kept of the %s to v%d, run %s: %s\n", things(j.Keys, "key"), j.Kind, j.Target, j.ID, c.why(j))
		}
	}
	return nil
}

// why says why keys are kept, and what to do about it.
func (c *clearJournalCmd) why(j rotation.RunJournal) string {
	switch {
	case j.State.Unfinished():
		return "the run is unfinished: rotate run, or rotate cancel"
	case !j.Verified:
		return "no verification of all records was clean since: rotate verify"
	case j.Since < c.Grace:
		return fmt.Sprintf("it ended %s ago, and --grace is %s", span(j.Since), span(c.Grace))
	}
	return "the run ended meanwhile: the same command again"
}
