// Package report measures topics and writes what it found: a table for a README and a
// picture for each topic.
package report

import (
	"cmp"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
)

// Topic is a measured [job.Topic].
type Topic struct {
	Name, Title string
	Jobs        []Job
}

// Job is a measured [job.Job].
type Job struct {
	Name  string
	Ours  time.Duration // of one call
	Limit Row
	Peers []Row // the fastest first
}

// Row is how long somebody takes for a job.
type Row struct {
	Name      string // with the version
	Otherwise string
	// Of is the time in relation to ours; First is its own, Second ours.
	Of against.Comparison
}

// Outcome says who is faster. Nobody is if the quartiles are on both sides of 1.
type Outcome int

// The outcomes, in the order in which they are shown.
const (
	PeerFaster Outcome = iota
	Even
	OursFaster
)

func (o Outcome) String() string { return [...]string{"peer", "even", "ours"}[o] }

// Outcome returns who is faster.
func (r Row) Outcome() Outcome {
	switch {
	case r.Of.High < 1:
		return PeerFaster
	case r.Of.Low > 1:
		return OursFaster
	}
	return Even
}

// before orders rows: where a peer is faster first, and the greatest loss first of all.
func before(a, b Row) int {
	return cmp.Or(cmp.Compare(a.Outcome(), b.Outcome()), cmp.Compare(a.Of.Median, b.Of.Median))
}

// Measure spends each on every comparison.
func Measure(t job.Topic, each time.Duration) Topic {
	measured := Topic{Name: t.Name, Title: t.Title}
	for _, j := range t.Jobs {
		m := Job{Name: j.Name, Limit: Row{Name: "the limit", Of: against.Compare(each, j.Limit, j.Ours)}}
		m.Ours = m.Limit.Of.Second
		for _, p := range j.Peers {
			m.Peers = append(m.Peers, Row{
				Name: name(p), Otherwise: p.Otherwise,
				Of: against.Compare(each, p.Run, j.Ours),
			})
		}
		slices.SortStableFunc(m.Peers, before)
		measured.Jobs = append(measured.Jobs, m)
	}
	return measured
}

// name is such as "Tink 2.9.0, an envelope for each field".
func name(p job.Peer) string {
	n := strings.TrimSpace(p.Name + " " + version(p.Module))
	if p.Way != "" {
		n += ", " + p.Way
	}
	return n
}

// version returns the version of a module in this program, without the v.
func version(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return strings.TrimPrefix(dep.Version, "v")
		}
	}
	return ""
}

// quartiles is the median with the quartiles, such as "1.20 (1.18 to 1.23)".
func quartiles(c against.Comparison) string {
	return fmt.Sprintf("%s (%s to %s)", number(c.Median), number(c.Low), number(c.High))
}

func number(x float64) string {
	switch {
	case x < 0.01: // 0.000123 is 1/8100
		n := 1 / x
		unit := math.Pow(10, math.Floor(math.Log10(n))-1)
		return fmt.Sprintf("1/%.0f", math.Round(n/unit)*unit)
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

func duration(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", float64(d)/float64(time.Microsecond))
	}
	return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
}
