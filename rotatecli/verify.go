package rotatecli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

type verifyCmd struct {
	tablesFlag
	partFlags
	Kind        string  `enum:"rewrap,migrate" default:"rewrap" help:"With migrate also compare columns with those that they replace."`
	Sample      share   `placeholder:"1%" help:"Open only this share of the records, such as 1% or 0.01. All are counted."`
	Derived     bool    `help:"Compute blind indexes again and compare columns with those that they replace. Slow indexes take time."`
	KMSRate     float64 `name:"kms-rate" placeholder:"N" help:"Calls to key services a second."`
	MaxFailures int     `placeholder:"N" default:"1000" help:"Stop after N failures; -1 means no limit."`
	Workers     int     `placeholder:"N" default:"4" help:"Number of ranges read concurrently."`
	Failures    bool    `help:"List every record that fails."`
	OnReplica   bool    `help:"Allow a replica, which may lack the latest rows; then nothing is noted for versions retire."`
	JSON        bool    `help:"Print JSON."`
}

func (verifyCmd) Help() string {
	return `Examples:

  rotate verify                opens every record, with one KMS call for each key
  rotate verify --sample 1%    a hundredth of them
  rotate verify --kind migrate whether columns agree with those that they replace
                               (not-migrated): if so, the release that reads the new
                               ones may be deployed
  rotate verify --derived      also blind indexes that do not fit (stale-index) and
                               columns that differ from those they replace (not-migrated)

It only reads. Exit codes: 0 every record opens and is at the current version, 2
not so.`
}

// share is a part of the whole.
type share float64

func (s *share) UnmarshalText(text []byte) error {
	digits, percent := strings.CutSuffix(string(text), "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if percent {
		f /= 100
	}
	if err != nil || !(f > 0 && f <= 1) {
		return errors.New("want a share above 0 and up to 1, such as 1% or 0.01")
	}
	*s = share(f)
	return nil
}

func (c *verifyCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.counted(ctx, c.Table)
	if err != nil {
		return err
	}
	if err := c.partFlags.check(tables); err != nil {
		return err
	}
	clean := true
	for _, t := range tables {
		v, err := c.verify(ctx, s, t)
		if err != nil && !errors.Is(err, rotation.ErrTooManyFailures) {
			return err
		}
		target := t.model.Box().Current()
		clean = clean && err == nil && v.Clean(target)
		if c.JSON {
			if err := printVerification(s, t.name, target, v, true); err != nil {
				return err
			}
			continue
		}
		most := 10
		if c.Failures {
			most = math.MaxInt
		}
		s.printVerified(t, v, float64(c.Sample), most, err)
		if c.Where+c.Tenant != "" {
			s.printf("  a part of the table: nothing is noted for versions retire\n")
		}
	}
	if !clean {
		return exit{ExitFailures}
	}
	return nil
}

func (c *verifyCmd) verify(ctx context.Context, s *Session, t *table) (rotation.Verification, error) {
	part, err := c.partFlags.of(t)
	if err != nil {
		return rotation.Verification{}, err
	}
	has, err := t.database.hasLedger(ctx)
	if err != nil {
		return rotation.Verification{}, err
	}
	calls, err := t.limiter(ctx, c.KMSRate)
	if err != nil {
		return rotation.Verification{}, err
	}
	var p *progress // set once the number of records is known
	var once sync.Once
	// It only reads, so it does not matter who writes.
	o := rotation.Options{Kind: rotation.Kind(c.Kind), WritersAreOurs: true, Part: part, Workers: c.Workers, Calls: calls, Observe: func(e rotation.Event) {
		once.Do(func() { p = s.newProgress(t.name, false, e.Planned, 0) })
		p.observe(e)
	}}
	defer func() {
		if p != nil {
			p.close()
		}
	}()
	rotator, err := t.rotator(o)
	if err != nil {
		return rotation.Verification{}, err
	}
	return rotator.Verify(ctx, rotation.VerifyOptions{
		Sample: float64(c.Sample), MaxFailures: c.MaxFailures, Derived: c.Derived, OnReplica: c.OnReplica, Note: has,
	})
}

func (s *Session) printVerified(t *table, v rotation.Verification, sample float64, most int, stopped error) {
	target := t.model.Box().Current()
	old := elsewhere(v.Versions, target)
	verdict := "clean"
	switch {
	case stopped != nil:
		verdict = "stopped: " + oneLine(stopped)
	case onlyClass(v.Failures, "not-migrated"):
		verdict = things(int64(len(v.Failures)), "record") + " to migrate: rotate run --kind migrate"
	case len(v.Failures) > 0:
		verdict = things(int64(len(v.Failures)), "record") + " did not open"
	case old > 0:
		verdict = fmt.Sprintf("all open, %s not yet at version %d", things(old, "key"), target)
	}
	what := "opened"
	if sample > 0 {
		what = fmt.Sprintf("opened, a sample of %g %%,", sample*100)
	}
	if t.model.KeysOnly() {
		what = strings.Replace(what, "opened", "keys unwrapped (columns are not declared)", 1)
	}
	s.printf("%s  %s %s  %s\n", t.name, count(v.Opened), what, verdict)
	s.printFailures(v.Failures, most, "rotate verify --failures")
}

// onlyClass reports whether there are failures, all of one class.
func onlyClass(failures []rotation.Failure, class string) bool {
	return len(failures) > 0 && !slices.ContainsFunc(failures, func(f rotation.Failure) bool { return f.Class != class })
}

// elsewhere counts the keys at other versions.
func elsewhere(counts []rotation.VersionCount, target int) (n int64) {
	for _, c := range counts {
		if c.Old(target) {
			n += c.Rows
		}
	}
	return n
}

// verificationJSON is a verification in JSON.
type verificationJSON struct {
	Event    string         `json:"event"`
	Table    string         `json:"table"`
	Target   int            `json:"target"`
	Opened   int64          `json:"opened"`
	Clean    bool           `json:"clean"`
	Versions []plannedShare `json:"versions"`
	Failures []failureJSON  `json:"failures"`
}

type failureJSON struct {
	Record string `json:"record"`
	Class  string `json:"class"`
	Reason string `json:"reason"`
}

func failuresJSON(failures []rotation.Failure) []failureJSON {
	list := make([]failureJSON, len(failures))
	for i, f := range failures {
		list[i] = failureJSON{f.Record, f.Class, oneLine(f.Err)}
	}
	return list
}

func sharesJSON(counts []rotation.VersionCount) []plannedShare {
	list := make([]plannedShare, len(counts))
	for i, c := range counts {
		list[i] = plannedShare{Column: c.Column, Version: c.Version, NoKey: !c.HasKey, Rows: c.Rows}
	}
	return list
}

// printVerification prints a verification. whole is false for a dry run.
func printVerification(s *Session, table string, target int, v rotation.Verification, whole bool) error {
	event := "verified"
	if !whole {
		event = "dry run"
	}
	return s.printJSON(verificationJSON{
		Event: event, Table: table, Target: target, Opened: v.Opened, Clean: v.Clean(target),
		Versions: sharesJSON(v.Versions), Failures: failuresJSON(v.Failures),
	})
}
