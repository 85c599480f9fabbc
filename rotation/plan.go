package rotation

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted"
)

// Plan describes what a run would do.
type Plan struct {
	Table    string
	Kind     Kind
	Target   int    // version
	Part     string // of the table, as in [Options.Part]; all counts are of it
	Versions []PlannedVersion
	// Records is the number of selected records.
	Records int64
	// Keys is the number of data keys that pass through the key service. A record with
	// several keys counts once for each. For [Complete] and [FirstKey] it is an upper limit,
	// because what a record lacks is only found by reading.
	Keys int64
	// Calls is the number of requests to the key service, as the service bills them,
	// without attempts that it refuses. Each key takes one to unwrap it and one to wrap
	// it, or several if the version wraps under several keys. It takes only one if the
	// service rewraps internally ([kmsencrypted.RewrapForeteller]) and both versions
	// have the default context. If the service takes batches, many keys take one
	// request; then Calls is an estimate, because batches may be smaller than planned.
	// Calls includes the keys that the store opens again before it trusts a provider;
	// a store reports their number by a method Proofs() int64. If the version chooses
	// among several providers, they count for each.
	Calls int64
	// Refused is the reason why a run would not start, such as attached files without
	// a manager that moves them. Nil means that it would start. Only stores with a
	// method Ready(context.Context, Kind) error contribute reasons.
	Refused error
	// About means that the counts are estimates, as of [Rotator.CostAbout].
	About bool
}

// PlannedVersion counts the records that have a key column at one version.
type PlannedVersion struct {
	VersionCount
	// Need is the kind that moves them; empty if they are at the target or have no key.
	Need Kind
	// Err is the reason why the Box cannot read the version, such as
	// [kmsencrypted.ErrVersionNotActive]. A run records these records as failures.
	Err error
}

// Plan counts the records by version and determines what each needs. It writes nothing and
// does not call a key service. It reads the whole table.
func (r *Rotator) Plan(ctx context.Context) (Plan, error) {
	p, err := r.plan(ctx, false)
	return p, r.failed("plan", err)
}

func (r *Rotator) plan(ctx context.Context, about bool) (Plan, error) {
	if err := r.usable(); err != nil {
		return Plan{}, err
	}
	p := Plan{Table: r.store.Table(), Kind: r.options.Kind, Target: r.box.Current(), Part: r.options.Part}
	target, err := r.box.Version(p.Target)
	if err != nil {
		return p, err
	}
	// Configuration errors are part of the answer.
	if p.Refused = r.ready(ctx); p.Refused != nil && !errors.Is(p.Refused, kmsencrypted.ErrConfig) {
		return p, p.Refused
	}
	var counts []VersionCount
	if about {
		if counts, p.About, err = r.countsAbout(ctx); err != nil {
			return p, err
		}
	}
	if p.About {
		p.Records = old(counts, p.Target)
	} else if counts, p.Records, err = r.counts(ctx, p); err != nil {
		return p, err
	}
	columns := make(map[string]bool)
	for _, c := range counts {
		v := PlannedVersion{VersionCount: c}
		columns[c.Column] = true
		if c.Old(p.Target) {
			from := c.Version
			var recipe kmsencrypted.Version
			if recipe, v.Err = r.box.Version(from); v.Err != nil {
				from, recipe = p.Target, target
			}
			v.Need = p.Kind.need(recipe.Format, target.Format)
			p.Keys += c.Rows
			p.Calls += r.spread(c.Rows, r.callsFrom(from))
		}
		p.Versions = append(p.Versions, v)
	}
	if p.Kind != Rewrap && p.Kind != Rekey { // these are selected for other reasons too
		p.Keys = p.Records * int64(max(1, len(columns)))
		p.Calls = r.spread(p.Keys, r.callsFrom(p.Target))
	}
	if s, ok := r.store.(interface{ Proofs() int64 }); ok && p.Kind != Reindex {
		p.Calls += int64(r.opening()(int(min(p.Keys, s.Proofs()))))
	}
	return p, nil
}

// counts counts the records and those that are selected.
func (r *Rotator) counts(ctx context.Context, p Plan) (counts []VersionCount, selected int64, err error) {
	if counts, err = r.store.Count(ctx, p.Part); err == nil {
		selected, err = r.store.Selected(ctx, Selection{Kind: p.Kind, Target: p.Target, Part: p.Part})
	}
	return counts, selected, err
}

// countsAbout asks a store that can for an estimate. What a part of the table holds, and
// what other kinds than these select, is counted.
func (r *Rotator) countsAbout(ctx context.Context) (counts []VersionCount, ok bool, err error) {
	s, can := r.store.(interface {
		About(context.Context) ([]VersionCount, bool, error)
	})
	if !can || r.options.Part != "" || r.options.Kind != Rewrap && r.options.Kind != Rekey {
		return nil, false, nil
	}
	return s.About(ctx)
}

// old returns how many records are at other versions: as many as in the column that has
// most of them.
func old(counts []VersionCount, target int) (most int64) {
	columns := make(map[string]int64)
	for _, c := range counts {
		if c.Old(target) {
			columns[c.Column] += c.Rows
			most = max(most, columns[c.Column])
		}
	}
	return most
}

// ready returns why this kind of rotation cannot run with the configuration of this
// process; the store may add reasons.
func (r *Rotator) ready(ctx context.Context) error {
	target, err := r.box.Version(r.box.Current())
	if err != nil {
		return err
	}
	if _, several := kmsencrypted.Ability[kmsencrypted.WrapCounter](target.Provider); r.options.Kind == Complete && !several && target.ProviderFor == nil {
		return fmt.Errorf("%w: version %d wraps under one key: there is nothing to complete", kmsencrypted.ErrConfig, r.box.Current())
	}
	if s, ok := r.store.(interface {
		Ready(context.Context, Kind) error
	}); ok {
		return s.Ready(ctx, r.options.Kind)
	}
	return nil
}

// check refuses a plan that no run could carry out.
func (p Plan) check() error {
	if p.Refused != nil {
		return p.Refused
	}
	for _, v := range p.Versions {
		if v.Need == Rekey && p.Kind == Rewrap && v.Err == nil {
			return fmt.Errorf("version %d of %s: %w", v.Version, v.Column, kmsencrypted.ErrNeedsRekey)
		}
	}
	return nil
}
