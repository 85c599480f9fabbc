package rotatecli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

type initCmd struct{}

func (c *initCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.all(ctx)
	if err != nil {
		return err
	}
	if has, _ := tables[0].database.hasLedger(ctx); has {
		s.printf("the tables of rotations are there already\n")
	}
	// This also adds what a newer version of this program needs.
	if err := tables[0].store.CreateTables(ctx); err != nil {
		return err
	}
	s.printf("ready: kms_rotations and the tables beside it\n")
	return nil
}

type planCmd struct {
	rotationFlags
	Exact bool `help:"Count the rows of large tables, instead of estimating them from the statistics of the database."`
	JSON  bool `help:"Print JSON."`
}

func (planCmd) Help() string {
	return `Examples:

  rotate plan --to 2
  rotate plan --to 3 --kind rekey --kms-rate 500`
}

// tablePlan is a plan for output.
type tablePlan struct {
	Table    string         `json:"table"`
	Kind     string         `json:"kind"`
	Target   int            `json:"target"`
	Part     string         `json:"part,omitempty"`
	Rows     int64          `json:"rows"`
	Records  int64          `json:"records"`
	Keys     int64          `json:"keys"`
	Calls    int64          `json:"kms_calls"`
	Price    float64        `json:"price,omitempty"`
	Currency string         `json:"currency,omitempty"`
	Seconds  float64        `json:"seconds_at_rate,omitempty"`
	About    bool           `json:"about,omitempty"` // the counts are estimates
	Versions []plannedShare `json:"versions"`
	Refused  string         `json:"refused,omitempty"`
}

type plannedShare struct {
	Column  string `json:"column"`
	Version int    `json:"version,omitempty"`
	NoKey   bool   `json:"no_key,omitempty"`
	Rows    int64  `json:"rows"`
	Needs   string `json:"needs,omitempty"`
	Problem string `json:"problem,omitempty"`
}

func (c *planCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.counted(ctx, c.Table)
	if err != nil {
		return err
	}
	var plans []tablePlan
	if err := c.partFlags.check(tables); err != nil {
		return err
	}
	for _, t := range tables {
		if err := c.checkTarget(t); err != nil {
			return err
		}
		p, err := c.plan(ctx, t, c.Exact)
		if err != nil {
			return err
		}
		plans = append(plans, p)
	}
	if c.JSON {
		return s.printJSON(plans)
	}
	s.printPlans(plans, c.KMSRate)
	return nil
}

// checkTarget refuses a version that this program does not write: every process
// must know it, and this one must write it, before the first record has it.
func (f *rotationFlags) checkTarget(t *table) error {
	current := t.model.Box().Current()
	if f.To != 0 && f.To != current {
		return usage("%s: the current version is %d, not %d: deploy version %d as current first, in every process that reads", t.name, current, f.To, f.To)
	}
	return nil
}

func (f *rotationFlags) plan(ctx context.Context, t *table, exact bool) (tablePlan, error) {
	kind := rotation.Kind(f.Kind)
	part, err := f.partFlags.of(t)
	if err != nil {
		return tablePlan{}, err
	}
	// A plan writes nothing, so other writers do not matter.
	rotator, err := t.rotator(rotation.Options{Kind: kind, WritersAreOurs: true, Part: part})
	if err != nil {
		return tablePlan{}, err
	}
	cost := rotator.CostAbout
	if exact {
		cost = rotator.Cost
	}
	plan, err := cost(ctx, t.prices())
	if err != nil {
		return tablePlan{}, err
	}
	p := tablePlan{
		Table: t.name, Kind: f.Kind, Target: plan.Target, Records: plan.Records, Keys: plan.Keys, Calls: plan.Calls,
		Price: plan.Price, Currency: plan.Currency, Part: part, About: plan.About,
	}
	if plan.Refused != nil {
		p.Refused = oneLine(plan.Refused)
	}
	columns := make(map[string]int64)
	for _, v := range plan.Versions {
		share := plannedShare{Column: v.Column, Version: v.Version, NoKey: !v.HasKey, Rows: v.Rows, Needs: string(v.Need)}
		if v.Err != nil {
			share.Problem = oneLine(v.Err)
		}
		if v.Need == rotation.Rekey && kind == rotation.Rewrap && v.Err == nil {
			p.Refused = "the format changes, which needs --kind rekey"
		}
		columns[v.Column] += v.Rows
		p.Rows = max(p.Rows, columns[v.Column])
		p.Versions = append(p.Versions, share)
	}
	if f.KMSRate > 0 {
		p.Seconds = float64(p.Calls) / f.KMSRate
	}
	return p, nil
}

func (s *Session) printPlans(plans []tablePlan, rate float64) {
	var rows [][]string
	var notes []string
	for _, p := range plans {
		row := []string{p.Table, about(p.About) + things(p.Rows, "row"), shares(p)}
		switch {
		case p.Records == 0 && p.About:
			row = append(row, "nothing to do in a sample; --exact counts")
		case p.Records == 0:
			row = append(row, "nothing to do")
		default:
			what := p.Kind
			if p.Keys != p.Records { // rows have several keys, and a status counts keys
				what += " of " + things(p.Keys, "key")
			}
			row = append(row, fmt.Sprintf("%s to v%d", what, p.Target), about(p.About)+things(p.Calls, "KMS call"))
		}
		if p.Seconds > 0 {
			row = append(row, fmt.Sprintf("about %s at %s/s", span(time.Duration(p.Seconds*float64(time.Second))), count(int64(rate))))
		}
		if p.Price > 0 {
			row = append(row, fmt.Sprintf("%s %.2f", p.Currency, p.Price))
		}
		rows = append(rows, row)
		if p.Part != "" {
			notes = append(notes, p.Table+": only the part where "+p.Part)
		}
		if p.Refused != "" {
			notes = append(notes, p.Table+": "+p.Refused)
		}
		for _, v := range p.Versions {
			if v.Problem != "" {
				notes = append(notes, fmt.Sprintf("%s: %s of version %d would fail: %s", p.Table, things(v.Rows, "row"), v.Version, v.Problem))
			}
		}
	}
	columnsOf(s.Stdout, rows)
	for _, note := range notes {
		s.printf("! %s\n", note)
	}
}

// about marks an estimate.
func about(is bool) string {
	if is {
		return "about "
	}
	return ""
}

// shares formats the versions of a table: "v1 812,004 · v2 392,327".
func shares(p tablePlan) string {
	several := slices.ContainsFunc(p.Versions, func(v plannedShare) bool { return v.Column != p.Versions[0].Column })
	var parts []string
	for _, v := range p.Versions {
		part := fmt.Sprintf("v%d %s", v.Version, count(v.Rows))
		if v.NoKey {
			part = "no key " + count(v.Rows)
		}
		if several {
			part = v.Column + " " + part
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " · ")
}
