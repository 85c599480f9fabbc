package rotatecli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

type statusCmd struct {
	tablesFlag
	Watch    bool          `short:"w" help:"Repeat until no run is unfinished."`
	Every    time.Duration `default:"2s" help:"How often, with --watch."`
	Failures bool          `help:"List every failed record of the latest runs."`
	Exact    bool          `help:"Count the rows of large tables, instead of estimating them from the statistics of the database."`
	JSON     bool          `help:"Print JSON."`
}

func (statusCmd) Help() string {
	return `The rows of large tables are estimated, and marked "about"; --exact counts them,
which reads each table once. Examples:

  rotate status
  rotate status --watch
  rotate status --table users --failures`
}

// tableStatus is the progress of one table.
type tableStatus struct {
	Table      string         `json:"table"`
	Target     int            `json:"target"`
	Versions   []plannedShare `json:"versions"`
	Remaining  int64          `json:"remaining"`
	About      bool           `json:"about,omitempty"` // both are estimates
	Run        string         `json:"run,omitempty"`
	Kind       string         `json:"kind,omitempty"`
	Part       string         `json:"part,omitempty"`
	State      string         `json:"state"`
	Pass       int            `json:"pass,omitempty"`
	Shards     int            `json:"shards,omitempty"`
	ShardsDone int            `json:"shards_done,omitempty"`
	Working    int            `json:"workers"`
	Calls      int64          `json:"kms_calls"`
	Spent      float64        `json:"spent,omitempty"`
	Currency   string         `json:"currency,omitempty"`
	Seconds    float64        `json:"seconds_left,omitempty"`
	Waiting    string         `json:"waiting,omitempty"`
	Verified   *time.Time     `json:"verified,omitempty"`
	Written    int64          `json:"written"`
	Conflicts  int64          `json:"conflicts"`
	Failed     int64          `json:"failed"`
	Failures   []failureJSON  `json:"failures,omitempty"`
	Stages     *stageSeconds  `json:"stage_seconds,omitempty"`

	last       rotation.Status // of Run
	failures   []rotation.Failure
	unfinished bool
	written    string // the versions that its keys are written at
}

// stageSeconds is what the time of a run was spent on, in seconds.
type stageSeconds struct {
	Read       float64 `json:"read"`
	KeyService float64 `json:"key_service"` // and opening and sealing
	Limits     float64 `json:"limits"`
	Write      float64 `json:"write"`
}

// left returns the time that the run still takes, or 0 if that is not known.
func (st tableStatus) left() time.Duration {
	if st.Working == 0 {
		return 0
	}
	return time.Duration(st.Seconds * float64(time.Second))
}

func (c *statusCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.counted(ctx, c.Table)
	if err != nil {
		return err
	}
	for {
		all, err := c.all(ctx, tables)
		if err != nil {
			return err
		}
		if err := c.print(s, all); err != nil || !c.Watch {
			return err
		}
		unfinished := false
		for _, st := range all {
			unfinished = unfinished || st.unfinished
		}
		if !unfinished {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(c.Every, 100*time.Millisecond)):
			s.printf("\n")
		}
	}
}

func (c *statusCmd) all(ctx context.Context, tables []*table) ([]tableStatus, error) {
	list := make([]tableStatus, len(tables))
	for i, t := range tables {
		var err error
		if list[i], err = c.status(ctx, t); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (c *statusCmd) status(ctx context.Context, t *table) (tableStatus, error) {
	counts, isAbout, err := c.counts(ctx, t)
	if err != nil {
		return tableStatus{}, err
	}
	st, err := t.status(ctx, counts, isAbout)
	if err != nil || st.Failed == 0 {
		return st, err
	}
	if st.failures, err = t.store.Failures(ctx, st.Run, 0); c.Failures {
		st.Failures = failuresJSON(st.failures)
	}
	return st, err
}

// status returns the progress of a table with these numbers of records.
func (t *table) status(ctx context.Context, counts []rotation.VersionCount, isAbout bool) (tableStatus, error) {
	target := t.model.Box().Current()
	st := tableStatus{Table: t.name, Target: target, written: t.writtenText(), About: isAbout, Versions: sharesJSON(counts), Remaining: elsewhere(counts, target), State: "no run yet"}
	run, found, err := t.latest(ctx)
	if err != nil || !found {
		return st, err
	}
	st.last = run
	st.Run, st.Kind, st.State, st.Pass, st.unfinished = run.ID, string(run.Kind), string(run.State), run.Pass, run.State.Unfinished()
	st.Part = run.Part
	st.Shards, st.ShardsDone, st.Working = run.Shards, run.ShardsDone, run.Working
	st.Written, st.Conflicts, st.Failed = run.Written, run.Conflicts, run.Outcome.Failed
	st.Calls, st.Waiting, st.Verified = run.Calls, flat(run.Waiting), orNil(run.Verified)
	st.Stages = &stageSeconds{run.Stages.Read.Seconds(), run.Stages.Rotate.Seconds(), run.Stages.Wait.Seconds(), run.Stages.Write.Seconds()}
	prices := t.prices()
	st.Spent, st.Currency = float64(run.Calls)*prices.PerCall, prices.Currency
	if rate := run.Rate(); rate > 0 && st.unfinished {
		st.Seconds = float64(max(0, run.Planned-run.Written-run.Outcome.Failed)) / rate
	}
	return st, nil
}

// counts estimates the records of a large table, and counts the others.
func (c *statusCmd) counts(ctx context.Context, t *table) (counts []rotation.VersionCount, isAbout bool, err error) {
	if !c.Exact {
		counts, isAbout, err = t.store.About(ctx)
	}
	if err == nil && !isAbout {
		counts, err = t.store.Count(ctx, "")
	}
	return counts, isAbout, err
}

func (c *statusCmd) print(s *Session, all []tableStatus) error {
	if c.JSON {
		return s.printJSON(all)
	}
	var rows [][]string
	for _, st := range all {
		rows = append(rows, []string{st.Table, about(st.About) + shares(tablePlan{Versions: st.Versions}), remaining(st), runState(st)})
	}
	columnsOf(s.Stdout, rows)
	most := 3
	if c.Failures {
		most = 1 << 30
	}
	for _, st := range all {
		if len(st.failures) > 0 {
			s.printf("%s: failed in the last pass\n", st.Table)
			s.printFailures(st.failures, most, "rotate status --failures")
		}
	}
	return nil
}

func remaining(st tableStatus) string {
	if st.Remaining == 0 && st.About {
		return fmt.Sprintf("all of a sample at %s; --exact counts", st.written)
	}
	if st.Remaining == 0 {
		return "all at " + st.written
	}
	return about(st.About) + fmt.Sprintf("%s to go to %s", things(st.Remaining, "key"), st.written)
}

func runState(st tableStatus) string {
	if st.Run == "" {
		return st.State
	}
	what := st.Kind
	if st.last.Target != st.Target {
		what += fmt.Sprintf(" to v%d", st.last.Target)
	}
	parts := []string{fmt.Sprintf("%s %s, pass %d", what, st.State, st.Pass)}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if st.Part != "" {
		add("only where %s", flat(st.Part))
	}
	if st.unfinished {
		add("%d of %d shards", st.ShardsDone, st.Shards)
		if st.Working == 0 {
			add("nobody at work")
		} else {
			add("%s at work", things(int64(st.Working), "worker"))
		}
	}
	add("%s written", count(st.Written))
	add("%s failed", count(st.Failed))
	add("%s", things(st.Calls, "KMS call"))
	if st.Spent >= .01 {
		add("%s %.2f so far", st.Currency, st.Spent)
	}
	if left := st.left(); left > 0 {
		add("about %s left", span(left))
	}
	if st.Verified != nil {
		add("verified %s", moment(*st.Verified))
	}
	if st.Waiting != "" {
		add("waiting: %s", st.Waiting)
	}
	return strings.Join(parts, ", ")
}

type pauseCmd struct{ tablesFlag }
type resumeCmd struct{ tablesFlag }
type cancelCmd struct{ tablesFlag }

func (c *pauseCmd) Run(ctx context.Context, s *Session) error {
	return s.setState(ctx, c.Table, stateChanges["pause"])
}

func (c *resumeCmd) Run(ctx context.Context, s *Session) error {
	return s.setState(ctx, c.Table, stateChanges["resume"])
}

func (c *cancelCmd) Run(ctx context.Context, s *Session) error {
	return s.setState(ctx, c.Table, stateChanges["cancel"])
}

// stateChange changes the state of a run.
type stateChange struct {
	word string // for it
	set  func(*rotation.Rotator, context.Context) error
}

var stateChanges = map[string]stateChange{
	"pause":  {"paused", (*rotation.Rotator).Pause},
	"resume": {"may go on: call \"rotate run\"", (*rotation.Rotator).Resume},
	"cancel": {"canceled; what was written stays", (*rotation.Rotator).Cancel},
}

// setState changes the unfinished runs of some tables.
func (s *Session) setState(ctx context.Context, names []string, change stateChange) error {
	tables, err := s.some(ctx, names)
	if err != nil {
		return err
	}
	for _, t := range tables {
		changed, err := t.setState(ctx, anyRun, change)
		if err != nil {
			return err
		}
		if !changed {
			s.printf("%s  nothing to do: no unfinished run\n", t.name)
			continue
		}
		s.printf("%s  %s\n", t.name, change.word)
	}
	return nil
}

const anyRun = ""

// setState changes the unfinished run of the table. changed is false if there is none, or
// if it is another one than id.
func (t *table) setState(ctx context.Context, id string, change stateChange) (changed bool, err error) {
	run, found, err := t.latest(ctx)
	if err != nil || !found || !run.State.Unfinished() || id != anyRun && id != run.ID {
		return false, err
	}
	rotator, err := t.rotator(rotation.Options{})
	if err == nil {
		err = change.set(rotator, ctx)
	}
	return err == nil, err
}
