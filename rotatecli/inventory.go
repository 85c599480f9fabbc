package rotatecli

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

type inventoryCmd struct {
	tablesFlag
	Format string `enum:"table,json,csv,markdown" default:"table" help:"${enum}."`
	Since  string `type:"existingfile" placeholder:"FILE" help:"Print what has changed since an inventory in JSON: lines that are gone with -, and that are new with +. Exit code 2 if there are any."`
	Exact  bool   `help:"Count large tables too, instead of estimating."`
}

func (inventoryCmd) Help() string {
	return `What is encrypted, under which key, and what it leaks: every encrypted column, blind index
and attached file. It reads no value and calls no key service. Examples:

  inventory
  inventory --format json > inventory-2026-10.json
  inventory --since inventory-2026-10.json`
}

// inventoryLine is a column, or the attached files of a name.
type inventoryLine struct {
	Table string `json:"table"`
	Name  string `json:"column"`
	Kind  string `json:"kind"` // key, value, part, index or file
	Under string `json:"under,omitempty"`
	// Form is how it is encrypted: native or a gem's, an index's algorithm, or a file's format.
	Form  string `json:"form,omitempty"`
	Leaks string `json:"leaks,omitempty"`
	// Frequency is of a column in which equal values are equal.
	Frequency *inventoryFrequency `json:"frequency,omitempty"`

	// Of a key column.
	Versions []inventoryVersion `json:"versions,omitempty"`
	About    bool               `json:"about,omitempty"` // estimated
	Rotated  *time.Time         `json:"rotated,omitempty"`
	Verified *time.Time         `json:"verified,omitempty"`

	// Of files.
	Files int64 `json:"files,omitempty"`
	Bytes int64 `json:"bytes,omitempty"`
}

// inventoryVersion is a version that records of a key column have.
type inventoryVersion struct {
	Version int    `json:"version,omitempty"` // 0: without a key
	Format  string `json:"format,omitempty"`
	KeyID   string `json:"key_id,omitempty"`
	Rows    int64  `json:"rows"`
}

func (c *inventoryCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.counted(ctx, c.Table)
	if err != nil {
		return err
	}
	var lines []inventoryLine
	for _, t := range tables {
		counts, about, err := (&statusCmd{Exact: c.Exact}).counts(ctx, t)
		if err != nil {
			return err
		}
		of, err := t.inventory(ctx, counts, about)
		if err != nil {
			return err
		}
		lines = append(lines, of...)
	}
	if c.Since != "" {
		return c.compare(s, lines)
	}
	return printInventory(s, c.Format, lines)
}

// inventory lists what a table with these numbers of records has.
func (t *table) inventory(ctx context.Context, counts []rotation.VersionCount, about bool) (lines []inventoryLine, err error) {
	last, found, err := t.latest(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range t.model.Inventory() {
		l := inventoryLine{Table: t.name, Name: p.Column, Kind: p.Kind, Under: p.Key, Form: cmp.Or(p.Form, p.How), Leaks: p.Leaks}
		switch p.Kind {
		case "key":
			l.About = about
			if found {
				l.Rotated, l.Verified = setTime(last.Ended), setTime(last.Verified)
			}
			for _, n := range counts {
				if n.Column == p.Column {
					l.Versions = append(l.Versions, t.inventoryVersion(n.Version, n.Rows))
				}
			}
		case "value":
			l.Form = cmp.Or(l.Form, "native")
			l.Under = cmp.Or(l.Under, "a key of the application")
		case "index", "part":
			l.Under = strings.Join(p.Of, ", ")
		}
		if p.Deterministic {
			if l.Frequency, err = t.frequency(ctx, p.Column); err != nil {
				return nil, err
			}
		}
		lines = append(lines, l)
	}
	files, err := t.inventoryOfFiles(ctx)
	return append(lines, files...), err
}

func (t *table) inventoryVersion(n int, rows int64) inventoryVersion {
	v := inventoryVersion{Version: n, Rows: rows}
	if listed, err := t.model.Box().Version(n); err == nil {
		v.Format, v.KeyID = listed.Format.String(), cmp.Or(infoOf(listed).KeyID, perRecord)
	}
	return v
}

func setTime(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC().Truncate(time.Second)
	return &at
}

// inventoryOfFiles counts the attached files by name, if the database has the table.
func (t *table) inventoryOfFiles(ctx context.Context) (lines []inventoryLine, err error) {
	query := "SELECT name, format, count(*), coalesce(sum(size), 0) FROM kms_attachments WHERE record_table = ? GROUP BY name, format ORDER BY name, format"
	rows, err := t.database.DB.QueryContext(ctx, t.database.Dialect.SQL(query), t.model.BoundTable())
	if sqldialect.NoTable(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		l := inventoryLine{Table: t.name, Kind: "file", Under: t.model.KeyColumns()[0], Leaks: "length, name, type"}
		if err := rows.Scan(&l.Name, &l.Form, &l.Files, &l.Bytes); err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	return lines, rows.Err()
}

var inventoryHead = []string{"TABLE", "COLUMN", "KIND", "UNDER", "FORM", "RECORDS", "ROTATED", "VERIFIED", "LEAKS"}

// cells are those of a row under inventoryHead.
func (l inventoryLine) cells() []string {
	date := func(at *time.Time) string {
		if at == nil {
			return ""
		}
		return at.Format(time.DateOnly)
	}
	return []string{l.Table, l.Name, l.Kind, l.Under, l.Form, l.records(), date(l.Rotated), date(l.Verified), l.leaks()}
}

func (l inventoryLine) leaks() string {
	if l.Frequency == nil {
		return l.Leaks
	}
	return fmt.Sprintf("%s (%v)", l.Leaks, l.Frequency)
}

func (l inventoryLine) records() string {
	if l.Kind == "file" {
		return fmt.Sprintf("%s, %s bytes", things(l.Files, "file"), count(l.Bytes))
	}
	var versions []string
	for _, v := range l.Versions {
		text := fmt.Sprintf("v%d %s (%s, %s)", v.Version, count(v.Rows), v.KeyID, v.Format)
		if v.Version == 0 {
			text = "no key " + count(v.Rows)
		} else if v.KeyID == "" {
			text = fmt.Sprintf("v%d %s (not listed)", v.Version, count(v.Rows))
		}
		versions = append(versions, text)
	}
	if len(versions) == 0 {
		return ""
	}
	return about(l.About) + strings.Join(versions, " · ")
}

func printInventory(s *Session, format string, lines []inventoryLine) error {
	rows := [][]string{inventoryHead}
	for _, l := range lines {
		rows = append(rows, l.cells())
	}
	switch format {
	case "json":
		if lines == nil {
			lines = []inventoryLine{}
		}
		return s.printJSON(lines)
	case "csv":
		return csv.NewWriter(s.Stdout).WriteAll(rows)
	case "markdown":
		rows = slices.Insert(rows, 1, slices.Repeat([]string{"---"}, len(inventoryHead)))
		for _, r := range rows {
			s.printf("| %s |\n", strings.Join(r, " | "))
		}
		return nil
	}
	columnsOf(s.Stdout, rows)
	return nil
}

// compare prints what has changed. The numbers of records and of values do not count,
// because they change all the time.
func (c *inventoryCmd) compare(s *Session, now []inventoryLine) error {
	text, err := os.ReadFile(c.Since)
	if err != nil {
		return err
	}
	var before []inventoryLine
	if err := json.Unmarshal(text, &before); err != nil {
		return usage("%s is no inventory in JSON: %s", c.Since, oneLine(err))
	}
	was, is := summaries(before), summaries(now)
	changed := false
	for _, side := range []struct {
		mark        string
		these, from []string
	}{{"-", was, is}, {"+", is, was}} {
		for _, line := range side.these {
			if !slices.Contains(side.from, line) {
				changed = true
				s.printf("%s %s\n", side.mark, line)
			}
		}
	}
	if changed {
		return exit{ExitFailures}
	}
	s.printf("nothing has changed\n")
	return nil
}

// summaries are lines without what changes by itself.
func summaries(lines []inventoryLine) (texts []string) {
	for _, l := range lines {
		text := strings.Join([]string{l.Table, l.Name, l.Kind, cmp.Or(l.Under, "-"), cmp.Or(l.Form, "-"), cmp.Or(l.Leaks, "-")}, "  ")
		for _, v := range l.Versions {
			text += fmt.Sprintf("  v%d %s %s", v.Version, cmp.Or(v.KeyID, "-"), v.Format)
		}
		texts = append(texts, text)
	}
	return texts
}
