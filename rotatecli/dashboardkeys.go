package rotatecli

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/rotatecli/internal/ui"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

func (d *dashboard) loadVersions(ctx context.Context) (ui.Versions, error) {
	v := ui.Versions{Lines: []ui.Version{}, Retire: []ui.Retirement{}, Unseen: []string{}}
	tables, err := d.all(ctx)
	if err != nil {
		return v, err
	}
	counts := make(map[*table]recordCounts)
	numbers := make(map[int]bool)
	for _, t := range tables {
		c, err := d.count(t)
		if err != nil {
			return v, err
		}
		counts[t] = c
		for _, l := range t.versions(c.versions) {
			if !l.NoKey {
				numbers[l.Version] = true
			}
			v.Lines = append(v.Lines, ui.Version{
				Table: l.Table, Version: l.Version, NoKey: l.NoKey, Current: l.Current, Format: l.Format, Provider: l.Provider, KeyID: l.KeyID,
				Counted: orNil(c.at), Keys: l.Rows, About: c.about, Problem: l.Problem,
			})
		}
	}
	if len(numbers) < 2 {
		return v, nil
	}
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		r, unseen, err := d.retirement(ctx, n, tables, counts)
		if err != nil {
			return v, err
		}
		v.Retire = append(v.Retire, r)
		if r.May {
			v.Unseen = unseen
		}
	}
	return v, nil
}

// errNotCounted means that the records of a table are not counted yet.
var errNotCounted = errors.New("not counted yet")

// retirement says whether a version may be retired, as "versions retire" does.
func (d *dashboard) retirement(ctx context.Context, version int, tables []*table, counts map[*table]recordCounts) (r ui.Retirement, unseen []string, err error) {
	r = ui.Retirement{Version: version, Needs: []string{}}
	if !slices.ContainsFunc(tables, func(t *table) bool { return !counts[t].exact() }) { // it may count again
		done, err := d.alone(ctx)
		if err != nil {
			return r, nil, err
		}
		defer done()
	}
	for _, t := range tables {
		reason, more, err := t.objection(ctx, version, func(context.Context) ([]rotation.VersionCount, error) {
			if c := counts[t]; c.exact() {
				return c.versions, nil
			}
			return nil, errNotCounted
		})
		switch {
		case err == errNotCounted:
			r.Waits = true
			continue
		case err != nil:
			return r, nil, err
		case reason != "":
			r.Needs = append(r.Needs, t.name+": "+reason)
		}
		unseen = more
	}
	r.Waits = r.Waits && len(r.Needs) == 0
	r.May = !r.Waits && len(r.Needs) == 0
	return r, unseen, nil
}

func (d *dashboard) loadBranches(ctx context.Context) ([]ui.Store, error) {
	tables, err := d.all(ctx)
	if err != nil {
		return nil, err
	}
	stores, _, err := keyStores(tables)
	list := []ui.Store{}
	for _, keys := range stores {
		one := ui.Store{ID: storeID(keys), Bounds: boundsOf(keys.Bounds())}
		state, err := stateOfStore(ctx, keys)
		if err != nil {
			one.Problem = state.failed + " cannot be read"
			d.problem("branches of "+one.ID, err) // for the log
		}
		one.Branches, one.More, one.Erased, one.Overdue = state.branches, state.branches == mostBranches, state.erased, state.overdue
		list = append(list, one)
	}
	return list, err
}

func (d *dashboard) loadKeys(ctx context.Context) ([]namedProvider, error) {
	tables, err := d.all(ctx)
	if err != nil {
		return nil, err
	}
	return providersOf(tables, nil)
}

// examinations are the latest ones of the keys, by name. It is safe for concurrent use.
type examinations struct {
	mu       sync.Mutex
	running  bool
	examined time.Time
	keys     map[string]ui.Key
}

func (d *dashboard) keySection() ui.Section[ui.Keys] {
	listed := section(d, "keys", d.listed)
	s := ui.Section[ui.Keys]{At: listed.At, Problem: listed.Problem}
	d.keys.mu.Lock()
	defer d.keys.mu.Unlock()
	s.Data = ui.Keys{Examining: d.keys.running, Examined: orNil(d.keys.examined), Keys: []ui.Key{}}
	for _, named := range listed.Data {
		k, known := d.keys.keys[named.name]
		if !known {
			k = ui.Key{Name: named.name, Found: []ui.Observation{}}
		}
		s.Data.Keys = append(s.Data.Keys, k)
	}
	return s
}

// examine begins an examination of all keys, unless one is running.
func (d *dashboard) examine() ui.Answer {
	named, at, _ := d.listed.get()
	d.keys.mu.Lock()
	defer d.keys.mu.Unlock()
	switch {
	case at.IsZero():
		return ui.Answer{Status: http.StatusServiceUnavailable, Text: "The keys are not known yet."}
	case d.keys.running:
		return ui.Answer{Status: http.StatusConflict, Text: "An examination is running."}
	}
	bound, err := kmsencrypted.Bind(doctorContext)
	if err != nil {
		return ui.Answer{Status: http.StatusInternalServerError, Text: "The keys cannot be examined."}
	}
	d.keys.running, d.keys.keys = true, make(map[string]ui.Key)
	go func() {
		for _, n := range named {
			k := d.examined(n, bound)
			d.keys.mu.Lock()
			d.keys.keys[n.name] = k
			d.keys.mu.Unlock()
		}
		d.keys.mu.Lock()
		d.keys.running, d.keys.examined = false, time.Now()
		d.keys.mu.Unlock()
	}()
	return ui.Answer{Status: http.StatusOK, Text: "The key services are examined."}
}

// marksInWords are those of observations.
var marksInWords = map[string]string{works: "works", fails: "fails", unknown: "unknown"}

func (d *dashboard) examined(n namedProvider, bound kmsencrypted.BoundContext) ui.Key {
	const patience = 30 * time.Second
	k := ui.Key{Name: n.name, Known: true, Found: []ui.Observation{}}
	k.Healthy = examine(d.ctx, patience, n, bound, func(o observation) {
		one := ui.Observation{Mark: marksInWords[o.mark], Depth: o.depth, Text: o.anonymous()}
		if o.took >= 100*time.Microsecond { // otherwise no request was sent
			one.Millis = float64(o.took.Microseconds()) / 1000
		}
		if o.err != nil {
			one.Class = classInWords(o.err)
			k.Remedy = cmp.Or(keyRemedies[one.Class], k.Remedy)
			d.log.Warn("a key service is not in order", "key", n.name, "error", o.err)
		}
		k.Found = append(k.Found, one)
	})
	return k
}

// setState pauses, resumes or cancels a run that somebody saw.
func (d *dashboard) setState(name, run, action string) ui.Answer {
	change, known := stateChanges[action]
	if !known {
		return ui.Answer{Status: http.StatusNotFound, Text: "There is no such action."}
	}
	ctx, cancel := context.WithTimeout(d.ctx, answersWithin)
	defer cancel()
	tables, err := d.all(ctx)
	i := slices.IndexFunc(tables, func(t *table) bool { return t.name == name })
	if err == nil && i < 0 {
		return ui.Answer{Status: http.StatusNotFound, Text: "There is no such table."}
	}
	changed := false
	if err == nil {
		changed, err = tables[i].setState(ctx, run, change)
	}
	d.runs.expire()
	switch {
	case err != nil:
		return ui.Answer{Status: http.StatusServiceUnavailable, Text: name + ": " + d.problem(action, err) + "."}
	case !changed:
		return ui.Answer{Status: http.StatusConflict, Text: name + ": this run is over."}
	}
	d.log.Info("a run was changed on the page", "table", name, "run", run, "action", action)
	return ui.Answer{Status: http.StatusOK, Text: name + ": " + change.word + "."}
}
