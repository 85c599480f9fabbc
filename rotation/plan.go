package rotation

import (
	"cmp"
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
	// several keys counts once for each, also where one of them is at the target and moves
	// with the others. For [Migrate] and [Complete] it is an upper limit, because what a record
	// lacks is only found by reading.
	Keys int64
	// Calls is the number of requests to the key service, as the service bills them,
	// without attempts that it refuses. Each key takes one to unwrap it and one to wrap
	// it, or several if the version wraps under several keys. It takes only one if the
	// service rewraps internally ([kmsencrypted.RewrapForeteller]) and nothing that the
	// commitment covers changes. Under branch keys (package providers/branch) each branch,
	// or its parent, takes one, and two if it has to be made. Where the version chooses the provider for each record, or has branch
	// keys, Plan reads the keys of all records to find these.
	//
	// Calls includes the keys that the store opens again before it trusts a provider;
	// a store reports their number by a method Proofs() int64.
	//
	// A run makes exactly so many if nobody else writes, except:
	// fewer for [Migrate], [Complete] and [FirstKey], where only reading a record tells
	// what it lacks, and where branches exist or are open already; about as many with a service that takes batches, because these may be
	// smaller than planned; more if the run has several workers, each of which may open
	// as many keys again; and with branch keys one more for each branch, process and
	// branch.Options.MaxAge, and for each older version of a branch key.
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
	// Configuration errors are part of the answer.
	if p.Refused = r.ready(ctx); p.Refused != nil && !errors.Is(p.Refused, kmsencrypted.ErrConfig) {
		return p, p.Refused
	}
	var counts []VersionCount
	var err error
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
	for _, c := range counts {
		v := PlannedVersion{VersionCount: c}
		if c.Old(p.Target) {
			to, err := r.box.Version(cmp.Or(c.Target, p.Target))
			if err != nil {
				return p, err
			}
			var recipe kmsencrypted.Version
			if recipe, v.Err = r.box.Version(c.Version); v.Err != nil {
				recipe = to
			}
			v.Need = p.Kind.need(recipe.Format, to.Format)
		}
		p.Versions = append(p.Versions, v)
	}
	d, keys, err := r.demand(ctx, p, counts)
	if err != nil {
		return p, err
	}
	p.Keys, p.Calls = keys, r.requests(d, p.Records)
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
