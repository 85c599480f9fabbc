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
	Part      string     `json:"part,omitempty"`
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
		has, err := t.database.hasLedger(ctx)
		if err != nil {
			return err
		}
		if !has {
			continue
		}
		runs, err := t.store.History(ctx, c.Limit)
		if err != nil {
			return err
		}
		for _, r := range runs {
			all = append(all, runJSON{
				t.name, r.ID, string(r.Kind), r.Target, r.Part, string(r.State), r.Pass, r.Planned, r.Written, r.Conflicts, r.Outcome.Failed,
				r.Calls, r.Started, orNil(r.Ended), orNil(r.Verified),
			})
			rows = append(rows, []string{
				t.name, moment(r.Started), r.ID, what(r.Run), string(r.State), count(r.Written),
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

// what says in a few words what a run did.
func what(r rotation.Run) string {
	text := fmt.Sprintf("%s to v%d", r.Kind, r.Target)
	if r.Part != "" {
		text += " where " + flat(r.Part)
	}
	return text
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

// latest returns the latest run of a table.
func (t *table) latest(ctx context.Context) (rotation.Status, bool, error) {
	if has, err := t.database.hasLedger(ctx); err != nil || !has {
		return rotation.Status{}, false, err
	}
	return t.store.Newest(ctx)
}
