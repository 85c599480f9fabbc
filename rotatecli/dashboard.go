package rotatecli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
	"github.com/kmsencrypted/kmsencrypted/rotatecli/internal/ui"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// dashboard gathers what the page of "ui" shows from what the commands print. It loads
// only while somebody looks, and at most one count of records at a time.
type dashboard struct {
	ctx       context.Context // of all loads
	session   *Session
	log       *slog.Logger
	estimates bool          // never counts a large table
	counting  chan struct{} // has one place
	keys      examinations

	runs      *fresh[[]ui.Run]
	versions  *fresh[ui.Versions]
	listed    *fresh[[]namedProvider]
	branches  *fresh[[]ui.Store]
	inventory *fresh[[]ui.Item]
	history   *fresh[[]ui.Past]

	opening sync.Mutex // held while the tables are opened, which may take long

	mu     sync.Mutex
	tables []*table
	counts map[*table]*fresh[recordCounts]
	meters map[*table]*meter
	logged map[string]string // the last problem of a section
}

// answersWithin is how long the database may take to answer what is quick.
const answersWithin = 10 * time.Second

func newDashboard(ctx context.Context, s *Session, log *slog.Logger, estimates bool) *dashboard {
	d := &dashboard{
		ctx: ctx, session: s, log: log, estimates: estimates, counting: make(chan struct{}, 1),
		counts: make(map[*table]*fresh[recordCounts]), meters: make(map[*table]*meter), logged: make(map[string]string),
	}
	d.runs = shown(ctx, time.Second, answersWithin, d.loadRuns)
	d.versions = shown(ctx, 3*time.Second, 0, d.loadVersions)
	d.listed = shown(ctx, 5*time.Second, answersWithin, d.loadKeys)
	d.branches = shown(ctx, 10*time.Second, 0, d.loadBranches)
	d.inventory = shown(ctx, 10*time.Second, 0, d.loadInventory)
	d.history = shown(ctx, 5*time.Second, answersWithin, d.loadHistory)
	return d
}

// shown is a value that is loaded in one step.
func shown[T any](ctx context.Context, every, limit time.Duration, load func(context.Context) (T, error)) *fresh[T] {
	return &fresh[T]{ctx: ctx, every: every, limit: limit, load: func(ctx context.Context, show func(T)) error {
		value, err := load(ctx)
		if err == nil {
			show(value)
		}
		return err
	}}
}

// source is what the page asks.
func (d *dashboard) source(token bool) ui.Source {
	return ui.Source{
		Name: d.session.name, Token: token, SetState: d.setState, Examine: d.examine,
		Runs:      func() ui.Section[[]ui.Run] { return section(d, "runs", d.runs) },
		Versions:  func() ui.Section[ui.Versions] { return section(d, "versions", d.versions) },
		Keys:      d.keySection,
		Branches:  func() ui.Section[[]ui.Store] { return section(d, "branches", d.branches) },
		Inventory: func() ui.Section[[]ui.Item] { return section(d, "inventory", d.inventory) },
		History:   func() ui.Section[[]ui.Past] { return section(d, "history", d.history) },
	}
}

func section[T any](d *dashboard, name string, f *fresh[T]) ui.Section[T] {
	value, at, err := f.get()
	s := ui.Section[T]{Data: value, Problem: d.problem(name, err)}
	if !at.IsZero() {
		s.At = &at
	}
	return s
}

// problem says what is wrong without what an error may quote, which goes to the log.
func (d *dashboard) problem(section string, err error) string {
	text := ""
	switch {
	case err == nil:
	case isOfKeyService(err): // before what it may wrap
		text = "The program behind this page calls a key service before it opens the tables, which fails: " + classInWords(err)
	case errors.Is(err, rotation.ErrDatabaseAway), sqldialect.Away(err):
		text = "The database cannot be reached"
	case errors.Is(err, context.DeadlineExceeded):
		text = "The database did not answer within " + span(answersWithin)
	case sqldialect.Denied(err):
		text = "The database user lacks a right: " + oneLine(err)
	case errors.Is(err, kmsencrypted.ErrConfig), errors.Is(err, ErrUsage):
		text = oneLine(err)
	case d.ctx.Err() != nil:
		text = "The program behind this page ends"
	default:
		text = "It cannot be read: the log of " + d.session.name + " says why"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && d.logged[section] != text {
		d.log.Warn("the page cannot show something", "section", section, "error", sqldialect.Explained(err))
	}
	d.logged[section] = text
	return text
}

// isOfKeyService reports whether a call to a key service returned an error. Some providers
// call it when they are made.
func isOfKeyService(err error) bool {
	_, is := errors.AsType[*kmsencrypted.Error](err)
	return is && !errors.Is(err, kmsencrypted.ErrConfig)
}

// all opens the tables. It tries again if that failed before.
func (d *dashboard) all(ctx context.Context) ([]*table, error) {
	d.opening.Lock()
	defer d.opening.Unlock()
	if d.tables != nil {
		return d.tables, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	tables, err := d.session.counted(ctx, nil)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range tables {
		d.meters[t] = new(meter)
		d.counts[t] = &fresh[recordCounts]{ctx: d.ctx, every: 15 * time.Second, load: d.counter(t)}
	}
	d.tables = tables
	return tables, nil
}

// recordCounts are the records of a table by version.
type recordCounts struct {
	at       time.Time // zero if they are not known yet
	about    bool
	versions []rotation.VersionCount
}

func (c recordCounts) known() bool { return !c.at.IsZero() }

func (c recordCounts) exact() bool { return c.known() && !c.about }

// counter counts the records of a table, first about.
func (d *dashboard) counter(t *table) func(context.Context, func(recordCounts)) error {
	exact := false
	return func(ctx context.Context, keep func(recordCounts)) error {
		show := func(c recordCounts) {
			keep(c)
			d.versions.expire()
			d.inventory.expire()
		}
		if !exact {
			counts, isAbout, err := t.store.About(ctx)
			if err != nil {
				return err
			}
			if isAbout {
				show(recordCounts{time.Now(), true, counts})
				if d.estimates {
					return nil
				}
			}
		}
		done, err := d.alone(ctx)
		if err != nil {
			return err
		}
		defer done()
		counts, err := t.store.Count(ctx, "")
		if err == nil {
			show(recordCounts{time.Now(), false, counts})
			exact = true
		}
		return err
	}
}

// alone waits until nothing else counts.
func (d *dashboard) alone(ctx context.Context) (done func(), err error) {
	select {
	case d.counting <- struct{}{}:
		return func() { <-d.counting }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// count is what is known of the records of a table.
func (d *dashboard) count(t *table) (recordCounts, error) {
	d.mu.Lock()
	counts := d.counts[t]
	d.mu.Unlock()
	value, _, err := counts.get()
	return value, err
}

// passing returns an error that concerns the whole section, such as a database that is
// away, and otherwise what is wrong with one table.
func (d *dashboard) passing(t *table, err error) (problem string, whole error) {
	if errors.Is(err, rotation.ErrDatabaseAway) || sqldialect.Away(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return "", err
	}
	return d.problem("table "+t.name, err), nil
}

func (d *dashboard) loadRuns(ctx context.Context) ([]ui.Run, error) {
	tables, err := d.all(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]ui.Run, len(tables))
	for i, t := range tables {
		var problem string
		list[i], err = d.run(ctx, t)
		if problem, err = d.passing(t, err); err != nil {
			return nil, err
		}
		if problem != "" {
			list[i].Problem = problem
		}
	}
	return list, nil
}

// run is what the page shows of a table's latest run.
func (d *dashboard) run(ctx context.Context, t *table) (ui.Run, error) {
	r := ui.Run{Table: t.name, To: t.writtenText(), Current: t.writtenText(), Points: []ui.Point{}, Failures: []ui.Failure{}, State: "unknown"}
	counts, countErr := d.count(t)
	st, err := t.status(ctx, counts.versions, counts.about)
	if err != nil {
		return r, err
	}
	last := st.last
	if st.Run != "" && last.Target != st.Target {
		r.To = fmt.Sprintf("v%d", last.Target)
	}
	r.Run, r.Kind, r.State, r.Part = st.Run, st.Kind, st.State, st.Part != ""
	r.Active, r.Paused = last.State == rotation.RunActive, last.State == rotation.RunPaused
	r.Counted, r.Remaining, r.About = orNil(counts.at), st.Remaining, st.About
	r.Pass, r.Shards, r.Done, r.Working = st.Pass, st.Shards, st.ShardsDone, st.Working
	r.Planned, r.Written, r.Conflicts, r.Failed, r.Calls = last.Planned, st.Written, st.Conflicts, st.Failed, st.Calls
	if st.Spent >= .01 {
		r.Cost = money(st.Currency, st.Spent)
	}
	r.Waiting, r.Advice = reasonFor(st.Waiting), advice(st)
	r.Started, r.Ended, r.Verified = orNil(last.Started), orNil(last.Ended), orNil(last.Verified)
	r.Whole = spentOn(last.Stages)
	d.measure(t, last, &r)
	if left := leftAt(r.PerSecond, st); left > 0 {
		r.Left = span(left)
	}
	if st.Failed > 0 {
		r.Failures, err = t.failureClasses(ctx, st.Run)
	}
	if err == nil {
		err = countErr
	}
	return r, err
}

// failureClasses counts the failures of a run by class, the largest first.
func (t *table) failureClasses(ctx context.Context, run string) ([]ui.Failure, error) {
	counts, err := t.store.FailureCounts(ctx, run)
	list := []ui.Failure{}
	for class, records := range counts {
		list = append(list, ui.Failure{Class: class, Records: records, Remedy: strings.ReplaceAll(remedyFor(class), "--table T", "--table "+t.name)})
	}
	slices.SortFunc(list, func(a, b ui.Failure) int {
		return cmp.Or(cmp.Compare(b.Records, a.Records), cmp.Compare(a.Class, b.Class))
	})
	return list, err
}

// leftAt is the time left at the rate that is shown. If that is not known yet it is an
// estimate by the whole run; 0 means that nobody knows.
func leftAt(perSecond float64, st tableStatus) time.Duration {
	left := st.last.Planned - st.Written - st.Failed
	switch {
	case st.Waiting != "":
		return 0
	case st.Working == 0 || left <= 0 || perSecond <= 0:
		return st.left()
	}
	return time.Duration(float64(left) / perSecond * float64(time.Second))
}

func (d *dashboard) measure(t *table, last rotation.Status, r *ui.Run) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, now := d.meters[t], time.Now()
	if m.observe(now, last) {
		d.counts[t].expire() // whoever waits for the end wants to know what is left
	}
	r.PerSecond, r.Lately = m.rate.perSecond(now), m.lately()
	r.Points = append(r.Points, m.points...)
}

// reasonFor is why a run waits, without what the error of a key service may quote.
func reasonFor(waiting string) string {
	for _, known := range []error{kmsencrypted.ErrThrottled, kmsencrypted.ErrUnavailable, rotation.ErrLocked, rotation.ErrDatabaseAway} {
		if strings.Contains(waiting, known.Error()) {
			return known.Error()
		}
	}
	if strings.Contains(waiting, "kmsencrypted:") {
		return "the key service does not answer as it should"
	}
	return waiting
}

func (d *dashboard) loadHistory(ctx context.Context) ([]ui.Past, error) {
	tables, err := d.all(ctx)
	if err != nil {
		return nil, err
	}
	const most = 20
	list := []ui.Past{}
	for _, t := range tables {
		has, err := t.database.hasLedger(ctx)
		if err != nil {
			return nil, err
		}
		if !has {
			continue
		}
		runs, err := t.store.History(ctx, most)
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			list = append(list, ui.Past{
				Table: t.name, Started: r.Started, Kind: string(r.Kind), Target: r.Target, Part: r.Part != "", State: string(r.State), Written: r.Written,
				Failed: r.Failed, Calls: r.Calls, Took: took(r), Verified: orNil(r.Verified),
			})
		}
	}
	return list, nil
}

func (d *dashboard) loadInventory(ctx context.Context) ([]ui.Item, error) {
	tables, err := d.all(ctx)
	if err != nil {
		return nil, err
	}
	list := []ui.Item{}
	for _, t := range tables {
		counts, err := d.count(t)
		if err != nil {
			return nil, err
		}
		lines, err := t.inventory(ctx, counts.versions, counts.about)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			c := l.cells()
			list = append(list, ui.Item{Table: c[0], Column: c[1], Kind: c[2], Under: c[3], Form: c[4], Records: c[5], Rotated: c[6], Verified: c[7], Leaks: c[8]})
		}
	}
	return list, nil
}
