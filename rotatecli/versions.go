package rotatecli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

type versionsCmd struct {
	List   versionsListCmd   `cmd:"" default:"withargs" help:"Versions with their keys, and the records at each."`
	Retire versionsRetireCmd `cmd:"" help:"Check whether a version may be removed from the configuration."`
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
	tables, err := s.counted(ctx, c.Table)
	if err != nil {
		return err
	}
	var lines []versionLine
	for _, t := range tables {
		counts, err := t.store.Count(ctx, "")
		if err != nil {
			return err
		}
		lines = append(lines, t.versions(counts)...)
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
		key := cmp.Or(l.Problem, l.KeyID)
		if key == "" && !l.NoKey {
			key = perRecord
		}
		rows = append(rows, []string{l.Table, version, count(l.Rows), l.Format, key})
	}
	columnsOf(s.Stdout, rows)
	return nil
}

// versions lists the versions of the Box and of the records.
func (t *table) versions(counts []rotation.VersionCount) (lines []versionLine) {
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
	for _, n := range slices.Sorted(maps.Keys(used)) {
		l := versionLine{Table: t.name, Version: n, Current: slices.Contains(t.written(), n), Rows: used[n]}
		if v, err := box.Version(n); err != nil {
			l.Problem = oneLine(err)
		} else {
			info := infoOf(v)
			l.Format, l.Provider, l.KeyID = v.Format.String(), info.Provider, info.KeyID
		}
		lines = append(lines, l)
	}
	if noKey > 0 {
		lines = append(lines, versionLine{Table: t.name, NoKey: true, Rows: noKey})
	}
	return lines
}

// written lists the versions that the table writes, in order: the current one, unless
// every key has a version of its own.
func (t *table) written() (versions []int) {
	for _, column := range t.model.KeyColumns() {
		versions = append(versions, t.model.KeyVersion(column))
	}
	if len(versions) == 0 {
		versions = []int{t.model.Box().Current()}
	}
	slices.Sort(versions)
	return slices.Compact(versions)
}

// writtenText is written as text: "v1", or "v1 and v2".
func (t *table) writtenText() string {
	var list []string
	for _, n := range t.written() {
		list = append(list, fmt.Sprintf("v%d", n))
	}
	return strings.Join(list, " and ")
}

type versionsRetireCmd struct {
	Version int `arg:"" help:"The version to retire."`
	tablesFlag
}

func (versionsRetireCmd) Help() string {
	return `It changes nothing. It says yes when no record of any table is at the version, no
run is unfinished, "rotate verify" was clean for all records since a run last had any to move, and
the journal holds no key at the version. Example:

  versions retire 1`
}

func (c *versionsRetireCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.counted(ctx, c.Table)
	if err != nil {
		return err
	}
	var reasons, unseen []string
	for _, t := range tables {
		reason, more, err := t.objection(ctx, c.Version, t.counted)
		if err != nil {
			return err
		}
		if reason != "" {
			reasons = append(reasons, t.name+": "+reason)
		}
		unseen = more
	}
	if len(reasons) > 0 {
		s.printf("no: version %d is still needed\n", c.Version)
		for _, reason := range reasons {
			s.printf("  %s\n", reason)
		}
		return exit{ExitFailures}
	}
	s.printf("yes: no record of %s is at version %d, and the records open\n", strings.Join(tableNames(tables), ", "), c.Version)
	for i, step := range []string{
		fmt.Sprintf("set the minimum version to %d, so that nobody brings version %d back", c.Version+1, c.Version),
		fmt.Sprintf("take version %d out of the configuration, in every process", c.Version),
		"keep its key until the last backup with such records is gone",
	} {
		s.printf("  %d. %s\n", i+1, step)
	}
	s.printf("check yourself what no count shows:\n")
	for _, text := range unseen {
		s.printf("  - %s\n", text)
	}
	return nil
}

// counted counts the records.
func (t *table) counted(ctx context.Context) ([]rotation.VersionCount, error) {
	return t.store.Count(ctx, "")
}

// objection returns why the table still needs a version, or "". It asks for the numbers of
// records if it needs them.
func (t *table) objection(ctx context.Context, version int, counted func(context.Context) ([]rotation.VersionCount, error)) (reason string, unseen []string, err error) {
	if least := t.written()[0]; version >= least {
		return fmt.Sprintf("it writes version %d", least), nil, nil
	}
	counts, err := counted(ctx)
	if err != nil {
		return "", nil, err
	}
	var left int64 // the minimum version also excludes those below
	for _, n := range counts {
		if n.HasKey && n.Version <= version {
			left += n.Rows
		}
	}
	if left > 0 {
		return things(left, "key") + " at it or below: rotate run", nil, nil
	}
	if has, err := t.database.hasLedger(ctx); err != nil || !has {
		return "never verified: rotate init, then rotate verify", nil, err
	}
	rotator, err := t.rotator(rotation.Options{})
	if err != nil {
		return "", nil, err
	}
	r, err := rotator.Retirable(ctx, version)
	switch {
	case err != nil:
	case r.Unfinished != nil:
		reason = fmt.Sprintf("a %s is %s: rotate run, or rotate cancel", r.Unfinished.Kind, r.Unfinished.State)
	case r.Verified.IsZero():
		reason = "not verified since its last rotation: rotate verify, of all records"
	case r.Journal > 0:
		reason = fmt.Sprintf("the journal holds %s at it, for healing and old backups: rotate clear-journal", things(r.Journal, "key"))
	}
	return reason, r.Unseen, err
}

// boxes returns the different Boxes of some tables.
func boxes(tables []*table) (all []*kmsencrypted.Box) {
	for _, t := range tables {
		if !slices.Contains(all, t.model.Box()) {
			all = append(all, t.model.Box())
		}
	}
	return all
}
