package alarms

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	_ "modernc.org/sqlite"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	kmsotel "github.com/kmsencrypted/kmsencrypted/otel"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// program is one with encrypted columns and every metric of package kmsotel.
type program struct {
	t        *testing.T
	registry *prometheus.Registry
	meters   *metric.MeterProvider
	observer kmsencrypted.Observer
	service  *kmstest.Service // the key service, and its faults
	box      *kmsencrypted.Box
	columns  []kmsencrypted.WrappedKey

	minutes int
	series  map[string][]string // by name and labels; a value for each minute
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newProgram(t *testing.T) *program {
	p := &program{t: t, registry: prometheus.NewRegistry(), series: make(map[string][]string), service: kmstest.NewService(kmstest.Memory())}
	reader, err := exporter.New(exporter.WithRegisterer(p.registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	must(t, err)
	p.meters = metric.NewMeterProvider(metric.WithReader(reader))
	p.observer, err = kmsotel.New(nil, p.meters, kmsotel.Options{})
	must(t, err)
	p.box = p.boxAt(1)
	_, err = kmsotel.InFlight(p.meters, p.box)
	must(t, err)
	for i := range 20 {
		binding := kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{fmt.Sprint(i)}, Context: kmsencrypted.Context{"tenant": "acme"}}
		key := kmsencrypted.NewDataKey()
		column, err := p.box.Wrap(t.Context(), key, binding)
		must(t, err)
		key.Wipe()
		p.columns = append(p.columns, kmsencrypted.WrappedKey{Column: column, Binding: binding})
	}
	return p
}

func (p *program) boxAt(version int) *kmsencrypted.Box {
	v := kmsencrypted.Version{Provider: p.service.Provider()}
	b, err := kmsencrypted.Config{Current: version, Versions: map[int]kmsencrypted.Version{1: v, 2: v}, Observer: p.observer}.Box()
	must(p.t, err)
	return b
}

// read opens keys, as an application does all the time.
func (p *program) read(columns ...kmsencrypted.WrappedKey) {
	for _, r := range p.box.UnwrapAll(p.t.Context(), columns) {
		r.Key.Wipe()
	}
}

// for minutes does something and is scraped, each minute.
func (p *program) forMinutes(n int, do func()) {
	for range n {
		do()
		p.scrape()
	}
}

func (p *program) scrape() {
	families, err := p.registry.Gather()
	must(p.t, err)
	for _, family := range families {
		for _, m := range family.Metric {
			for name, value := range samples(family, m) {
				for len(p.series[name]) < p.minutes {
					p.series[name] = append(p.series[name], "_")
				}
				p.series[name] = append(p.series[name], fmt.Sprint(value))
			}
		}
	}
	p.minutes++
}

// samples are those of a metric, as Prometheus stores them.
func samples(family *dto.MetricFamily, m *dto.Metric) map[string]float64 {
	labels := []string{`instance="app-1"`}
	for _, l := range m.Label {
		labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	sort.Strings(labels)
	series := func(suffix string, more ...string) string {
		return family.GetName() + suffix + "{" + strings.Join(append(more, labels...), ",") + "}"
	}
	switch family.GetType() {
	case dto.MetricType_COUNTER:
		return map[string]float64{series(""): m.Counter.GetValue()}
	case dto.MetricType_GAUGE:
		return map[string]float64{series(""): m.Gauge.GetValue()}
	}
	h := m.Histogram
	all := map[string]float64{
		series("_count"): float64(h.GetSampleCount()), series("_sum"): h.GetSampleSum(),
		series("_bucket", `le="+Inf"`): float64(h.GetSampleCount()),
	}
	for _, b := range h.Bucket {
		all[series("_bucket", fmt.Sprintf("le=%q", fmt.Sprint(b.GetUpperBound())))] = float64(b.GetCumulativeCount())
	}
	return all
}

// person is a record of the table that is rotated.
type person struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// rotator moves the records of a table of 100 to version 2.
func (p *program) rotator(o rotation.Options, damage ...string) (run func() (rotation.Result, error)) {
	t := p.t
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "app.sqlite3")+"?_pragma=busy_timeout(20000)")
	must(t, err)
	t.Cleanup(func() { db.Close() })
	_, err = db.Exec("CREATE TABLE people (id integer PRIMARY KEY, encrypted_kms_key text, email_ciphertext text)")
	must(t, err)
	old, err := field.NewModel[person](p.box, field.Config{Table: "people"})
	must(t, err)
	for id := range int64(100) {
		row := &person{ID: id + 1, Email: field.New("ada@example.org")}
		must(t, old.SealNew(t.Context(), row))
		_, err := db.Exec("INSERT INTO people VALUES (?, ?, ?)", row.ID, row.Key, row.Email)
		must(t, err)
	}
	for _, statement := range damage {
		_, err := db.Exec(statement)
		must(t, err)
	}
	box := p.boxAt(2)
	m, err := field.NewModel[person](box, field.Config{Table: "people"})
	must(t, err)
	store, err := sqlstore.New(t.Context(), db, field.SQLite, m, sqlstore.Options{})
	must(t, err)
	must(t, store.CreateTables(t.Context()))
	o.BatchSize, o.Workers = 10, 1
	o.Calls, err = kmsotel.Limiter(p.meters, rotation.NewLimiter(100_000))
	must(t, err)
	o.Observe, err = kmsotel.NewRotation(p.meters)
	must(t, err)
	r, err := rotation.New(box, store, o)
	must(t, err)
	return func() (rotation.Result, error) { return r.Run(t.Context()) }
}

// branches is a provider of branch keys over the key service, whose keys are asked for again after
// a moment.
func (p *program) branches(o branch.Options) *branch.Provider {
	t := p.t
	limits := branch.Limits{MaxAge: branchAge, StaleFor: o.StaleFor}
	store, err := branch.CreateDir(filepath.Join(t.TempDir(), "keys"), limits)
	must(t, err)
	o.Observer, err = kmsotel.NewBranches(p.meters, kmsotel.BranchOptions{})
	must(t, err)
	o.Of = branch.ByPair("tenant")
	keys, err := branch.Open(t.Context(), store, p.box, o)
	must(t, err)
	must(t, keys.Ensure(context.Background(), branch.Name{Branch: "acme"}))
	return keys
}
