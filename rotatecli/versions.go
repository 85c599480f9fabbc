package rotatecli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

type versionsCmd struct {
	List   versionsListCmd   `cmd:"" default:"withargs" help:"Versions with their keys, and the records at each."`
	Retire versionsRetireCmd `cmd:"" help:"Say whether a version may be taken out of the configuration."`
}

type versionsListCmd struct {
	tablesFlag
	JSON bool `help:"Print JSON."`
}

// versionLine is a version of a table's key.
type versionLine struct {
	Table    string `json:"table"`
	Version  int    `json:"version,omitempty"`
	Current  bool   `json:"current,omitempty"`
	NoKey    bool   `json:"no_key,omitempty"`
	Format   string `json:"format,omitempty"`
	Provider string `json:"provider,omitempty"`
	KeyID    string `json:"key_id,omitempty"`
	Rows     int64  `json:"keys"`
	Problem  string `json:"problem,omitempty"`
}

func (c *versionsListCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.some(ctx, c.Table)
	if err != nil {
		return err
	}
	var lines []versionLine
	for _, t := range tables {
		of, err := t.versions(ctx)
		if err != nil {
			return err
		}
		lines = append(lines, of...)
	}
	if c.JSON {
		return s.printJSON(lines)
	}
	rows := [][]string{{"TABLE", "VERSION", "KEYS", "FORMAT", "KEY"}}
	for _, l := range lines {
		version := fmt.Sprintf("v%d", l.Version)
		switch {
		case l.NoKey:
			version = "no key"
		case l.Current:
			version += " (current)"
		}
		key := l.KeyID
		if l.Problem != "" {
			key = l.Problem
		}
		rows = append(rows, []string{l.Table, version, count(l.Rows), l.Format, key})
	}
	columnsOf(s.Stdout, rows)
	return nil
}

// versions lists what the Box knows and what the records use.
func (t *table) versions(ctx context.Context) ([]versionLine, error) {
	counts, err := t.store.Count(ctx)
	if err != nil {
		return nil, err
	}
	box := t.model.Box()
	used := make(map[int]int64)
	for _, n := range box.Versions() {
		used[n] = 0
	}
	var noKey int64
	for _, c := range counts {
		if c.HasKey {
			used[c.Version] += c.Rows
		} else {
			noKey += c.Rows
		}
	}
	var lines []versionLine
	for _, n := range slices.Sorted(maps.Keys(used)) {
		l := versionLine{Table: t.name, Version: n, Current: n == box.Current(), Rows: used[n]}
		if v, err := box.Version(n); err != nil {
			l.Problem = oneLine(err)
		} else {
			info := v.Provider.Info()
			l.Format, l.Provider, l.KeyID = v.Format.String(), info.Provider, info.KeyID
		}
		lines = append(lines, l)
	}
	if noKey > 0 {
		lines = append(lines, versionLine{Table: t.name, NoKey: true, Rows: noKey})
	}
	return lines, nil
}

type versionsRetireCmd struct {
	Version int     `arg:"" help:"The version that is to go."`
	Sample  share   `placeholder:"1%" help:"Open this share of the records only."`
	KMSRate float64 `name:"kms-rate" placeholder:"N" help:"Calls to key services a second."`
	tablesFlag
}

func (versionsRetireCmd) Help() string {
	return `It changes nothing. It says yes when no record of any table is at the version or
below, and every record that it opens is in order. Example:

  versions retire 1`
}

func (c *versionsRetireCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.some(ctx, c.Table)
	if err != nil {
		return err
	}
	var reasons []string
	for _, t := range tables {
		reason, err := c.objection(ctx, t)
		if err != nil {
			return err
		}
		if reason != "" {
			reasons = append(reasons, t.name+": "+reason)
		}
	}
	if len(reasons) > 0 {
		s.printf("no: version %d is still needed\n", c.Version)
		for _, reason := range reasons {
			s.printf("  %s\n", reason)
		}
		return exit{ExitFailures}
	}
	s.printf(`yes: no record of %s is at version %d, and the records open
  1. set the minimum version to %d, so that nobody brings version %d back
  2. take version %d out of the configuration, in every process
  3. keep its key until the last backup with such records is gone
`, strings.Join(tableNames(tables), ", "), c.Version, c.Version+1, c.Version, c.Version)
	return nil
}

// objection is why a table still needs the version; empty if it does not.
func (c *versionsRetireCmd) objection(ctx context.Context, t *table) (string, error) {
	current := t.model.Box().Current()
	if c.Version >= current {
		return fmt.Sprintf("it writes version %d", current), nil
	}
	counts, err := t.store.Count(ctx)
	if err != nil {
		return "", err
	}
	var left int64
	for _, n := range counts {
		if n.HasKey && n.Version <= c.Version {
			left += n.Rows
		}
	}
	if left > 0 {
		return things(left, "key") + " at it or below: rotate run", nil
	}
	if t.database.hasLedger(ctx) {
		run, found, err := t.store.Newest(ctx)
		if err != nil {
			return "", err
		}
		if found && run.State.Unfinished() {
			return fmt.Sprintf("a %s is %s", run.Kind, run.State), nil
		}
	}
	verify := verifyCmd{Sample: c.Sample, KMSRate: c.KMSRate, Workers: 4, MaxFailures: 1}
	v, err := verify.verify(ctx, t)
	if len(v.Failures) > 0 {
		return "a record does not open: rotate verify", nil
	}
	return "", err
}

// boxes lists the different Boxes of some tables.
func boxes(tables []*table) (all []*kmsencrypted.Box) {
	for _, t := range tables {
		if !slices.Contains(all, t.model.Box()) {
			all = append(all, t.model.Box())
		}
	}
	return all
}
