package rotatecli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

type runCmd struct {
	rotationFlags
	neighbourFlags
	DryRun         bool  `help:"Open the records that would be moved, and write nothing."`
	Canary         bool  `help:"Move one shard of 64, open every record of it, and stop."`
	Limit          int64 `placeholder:"N" help:"Stop after about N records. The next call continues."`
	WritersAreOurs bool  `help:"For a rekey or a migration: confirms that every program that writes encrypted columns meanwhile uses this library, or is stopped. Rails does not use it."`
	NoJournal      bool  `help:"Keep no replaced wrapped keys: after the master key has leaked. Then nothing can be healed."`
	MaxFailures    int   `placeholder:"N" default:"1000" help:"Stop after N failed records; -1 means no limit."`
	Workers        int   `placeholder:"N" default:"4" help:"Number of shards processed concurrently."`
	Batch          int   `placeholder:"N" default:"1000" help:"Records in one transaction."`
	JSON           bool  `help:"Print each event as a line of JSON."`
}

func (runCmd) Help() string {
	return `Examples:

  rotate run --to 2                                   all tables, at full speed
  rotate run --to 2 --table users --kms-rate 500      one table, calmly
  rotate run --to 2 --canary                          a first step, verified
  rotate run --to 2 --table users --tenant acme       a part of it
  rotate run --to 3 --kind rekey --writers-are-ours   new data keys

It may be stopped at any time, also with kill -9: the same command goes on. Two
calls at the same time share the work. Exit codes: 0 done, 2 done with failures,
3 paused or interrupted, 4 throttled out, 64 usage, 1 anything else.`
}

func (c *runCmd) Validate() error {
	for name, wrong := range map[string]bool{
		"--workers": c.Workers < 1, "--batch": c.Batch < 1, "--limit": c.Limit < 0, "--kms-rate": c.KMSRate < 0,
		"--max-failures": c.MaxFailures == 0,
	} {
		if wrong {
			return fmt.Errorf("%s: it must be above 0", name)
		}
	}
	switch {
	case (c.Kind == "rekey" || c.Kind == "migrate") && !c.WritersAreOurs && !c.DryRun:
		return errors.New("it loses what writers write that do not compare the key column, such as Rails: stop them, then say --writers-are-ours")
	case c.Canary && c.Limit > 0, c.Canary && c.DryRun, c.DryRun && c.Limit > 0:
		return errors.New("--canary, --dry-run and --limit exclude each other")
	}
	return nil
}

func (c *runCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.counted(ctx, c.Table)
	if err != nil {
		return err
	}
	if err := c.partFlags.check(tables); err != nil {
		return err
	}
	for _, t := range tables { // check all of them before changing the first
		if err := c.checkTarget(t); err != nil {
			return err
		}
		p, err := c.plan(ctx, t, true)
		if err != nil {
			return err
		}
		if p.Refused != "" {
			return fmt.Errorf("%s: %s", t.name, p.Refused)
		}
	}
	if err := preflight(ctx, tables); err != nil {
		return err
	}
	if !c.DryRun {
		if err := tables[0].store.CreateTables(ctx); err != nil {
			return fmt.Errorf("the tables of rotations are missing, older than this release or hidden from this database user, and cannot be made (the command tables shows the SQL): %w", err)
		}
	}
	failed := false
	for _, t := range tables {
		var clean bool
		switch {
		case c.DryRun:
			clean, err = c.dry(ctx, s, t)
		case c.Canary:
			clean, err = c.canary(ctx, s, t)
		default:
			clean, err = c.rotate(ctx, s, t)
		}
		if err != nil {
			return err
		}
		failed = failed || !clean
	}
	if failed {
		return exit{ExitFailures}
	}
	return nil
}

// preflight asks the key services before the first record whether their keys are
// usable. Otherwise each record would fail separately. It ignores missing
// permission to ask, and throttling, for which the run waits.
func preflight(ctx context.Context, tables []*table) error {
	for _, box := range boxes(tables) {
		for _, n := range box.Versions() {
			v, err := box.Version(n)
			if err != nil {
				return err
			}
			prober, ok := v.Provider.(kmsencrypted.Prober)
			if !ok {
				continue
			}
			err = prober.Probe(ctx)
			if err != nil && !errors.Is(err, kmsencrypted.ErrDenied) && !errors.Is(err, kmsencrypted.ErrThrottled) {
				return fmt.Errorf("version %d, key %s: %w", n, v.Provider.Info().KeyID, err)
			}
		}
	}
	return nil
}

func (c *runCmd) options(ctx context.Context, t *table, observe func(rotation.Event)) (o rotation.Options, err error) {
	o = rotation.Options{
		Kind: rotation.Kind(c.Kind), WritersAreOurs: c.WritersAreOurs || c.DryRun, NoJournal: c.NoJournal,
		Workers: c.Workers, BatchSize: c.Batch, MaxFailures: c.MaxFailures, Limit: c.Limit, Shards: shards, Observe: observe,
	}
	if o.Part, err = c.partFlags.of(t); err != nil {
		return o, err
	}
	if o.Calls, err = t.limiter(ctx, c.KMSRate); err != nil {
		return o, err
	}
	return o, c.neighbourFlags.apply(&o, t.database)
}

// work returns the number of records to move and the number that an unfinished
// run has moved already.
func (c *runCmd) work(ctx context.Context, t *table) (left, before int64, err error) {
	p, err := c.plan(ctx, t, true)
	if err != nil {
		return 0, 0, err
	}
	status, found, err := t.store.Newest(ctx)
	if err == nil && found && status.State.Unfinished() {
		before = status.Written
	}
	return p.Records, before, err
}

// rotate runs one table to its end.
func (c *runCmd) rotate(ctx context.Context, s *Session, t *table) (clean bool, err error) {
	left, before, err := c.work(ctx, t)
	if err != nil {
		return false, err
	}
	p := s.newProgress(t.name, c.JSON, left+before, before)
	options, err := c.options(ctx, t, p.observe)
	if err != nil {
		return false, err
	}
	rotator, err := t.rotator(options)
	if err != nil {
		return false, err
	}
	began := time.Now()
	result, err := rotator.Run(ctx)
	p.close()
	if result.Run == "" && err != nil && codeOf(err) != ExitPaused && !c.JSON {
		return false, err // it did not even start
	}
	failures, listErr := rotator.Failures(context.WithoutCancel(ctx), 0)
	if err == nil {
		err = listErr
	}
	if c.JSON {
		return result.Failed == 0, errors.Join(err, printResult(s, t.name, result, err))
	}
	s.summary(t.name, verbs[c.Kind], result, time.Since(began), failures, err)
	if err == nil && left+before == 0 && options.Part != "" {
		s.printf("  nothing to do in this part\n")
	} else if err == nil && left+before == 0 {
		s.printf("  nothing to do: %s\n", idle(rotation.Kind(c.Kind), t.model.Box().Current()))
	}
	return result.Failed == 0, s.pausedOr(err)
}

// idle says why a run had nothing to do, where that may surprise.
func idle(kind rotation.Kind, target int) string {
	switch kind {
	case rotation.Rekey:
		return fmt.Sprintf("every key is at version %d. A rekey moves records from other versions: for new data keys list a new version, with the same key if you like, and make it current", target)
	case rotation.Rewrap:
		return fmt.Sprintf("every key is at version %d", target)
	case rotation.Complete:
		return fmt.Sprintf("no key is at version %d", target)
	case rotation.FirstKey:
		return "every record has its keys"
	}
	return "no record has anything in these columns"
}

// verbs describe the result for a record.
var verbs = map[string]string{"rewrap": "rewrapped", "rekey": "rekeyed", "migrate": "migrated", "reindex": "indexed", "complete": "completed", "first-key": "given a key"}

// pausedOr converts an interrupt to its exit code, without a message.
func (s *Session) pausedOr(err error) error {
	if err != nil && codeOf(err) == ExitPaused {
		return exit{ExitPaused}
	}
	return err
}

// summary prints the final line for a table.
func (s *Session) summary(table, verb string, r rotation.Result, took time.Duration, failures []rotation.Failure, err error) {
	state := "done"
	switch {
	case errors.Is(err, rotation.ErrPaused):
		state = "paused by \"rotate pause\"; \"rotate resume\" and the same command let it go on"
	case errors.Is(err, context.Canceled):
		state = "interrupted; run the same command to go on"
	case err != nil:
		state = "stopped; run the same command to go on"
	case !r.Done:
		state = "stopped at the limit; run the same command to go on"
	}
	s.printf("%s  %s %s in %s, %s failed  %s\n", table, count(r.Written), verb, span(took), count(int64(len(failures))), state)
	s.printFailures(failures, 10, "rotate status --failures")
}

// printFailures lists failed records by class, and some of each with their
// reasons. list is the command that lists the rest.
func (s *Session) printFailures(failures []rotation.Failure, most int, list string) {
	byClass := make(map[string]int64)
	for _, f := range failures {
		byClass[f.Class]++
	}
	for _, class := range slices.SortedFunc(maps.Keys(byClass), func(a, b string) int {
		return cmp.Or(cmp.Compare(byClass[b], byClass[a]), cmp.Compare(a, b))
	}) {
		s.printf("  %s  %s\n", class, count(byClass[class]))
		shown := 0
		for _, f := range failures {
			if f.Class == class && shown < most {
				s.printf("    %s  %s\n", f.Record, oneLine(f.Err))
				shown++
			}
		}
		if rest := byClass[class] - int64(shown); rest > 0 {
			s.printf("    and %s more: %s\n", count(rest), list)
		}
	}
}

// resultJSON is the last line of a run in JSON.
type resultJSON struct {
	Event     string `json:"event"`
	Table     string `json:"table"`
	Run       string `json:"run,omitempty"`
	Pass      int    `json:"pass"`
	Done      bool   `json:"done"`
	Written   int64  `json:"written"`
	Conflicts int64  `json:"conflicts"`
	Failed    int64  `json:"failed"`
	Error     string `json:"error,omitempty"`
}

func printResult(s *Session, table string, r rotation.Result, err error) error {
	line := resultJSON{Event: "result", Table: table, Run: r.Run, Pass: r.Pass, Done: r.Done, Written: r.Written, Conflicts: r.Conflicts, Failed: r.Failed}
	if err != nil {
		line.Error = oneLine(err)
	}
	return json.NewEncoder(s.Stdout).Encode(line)
}

// dry opens what a run would move and writes nothing.
func (c *runCmd) dry(ctx context.Context, s *Session, t *table) (clean bool, err error) {
	options, err := c.options(ctx, t, nil)
	if err != nil {
		return false, err
	}
	rotator, err := t.rotator(options)
	if err != nil {
		return false, err
	}
	v, err := rotator.Verify(ctx, rotation.VerifyOptions{OnlyOld: true, MaxFailures: c.MaxFailures})
	if err != nil && !errors.Is(err, rotation.ErrTooManyFailures) {
		return false, err
	}
	if c.JSON {
		return len(v.Failures) == 0, printVerification(s, t.name, t.model.Box().Current(), v, false)
	}
	s.printf("%s  dry run: %s would be %s, %s would fail, nothing was written\n",
		t.name, count(v.Opened), verbs[c.Kind], count(int64(len(v.Failures))))
	s.printFailures(v.Failures, 10, "rotate run --dry-run --json")
	return len(v.Failures) == 0, err
}
