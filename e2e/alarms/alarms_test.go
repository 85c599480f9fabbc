package alarms

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

const (
	rulesFile = "../../deploy/prometheus/kmsencrypted.rules.yaml"
	branchAge = 5 * time.Millisecond
	healthy   = 20 // minutes before a failure
	failing   = 50
)

// failures are what operators meet, each with what it does to a program every minute.
var failures = []struct {
	name   string
	alarms []string
	set    func(p *program) (everyMinute func())
}{
	{"nothing", nil, func(p *program) func() { return func() { p.read(p.columns...) } }},
	{"a rotation from beginning to end", nil, func(p *program) func() {
		done, err := p.rotator(rotation.Options{})()
		must(p.t, err)
		if !done.Done {
			p.t.Errorf("the rotation has not ended: %+v", done)
		}
		return func() { p.read(p.columns...) }
	}},
	{"permission denied, once", []string{"KMSDenied"}, func(p *program) func() {
		p.service.Set(kmstest.Revoke(1))
		p.read(p.columns[0])
		p.service.Set()
		return func() { p.read(p.columns...) }
	}},
	{"permission denied", []string{"KMSDenied"}, answers(kmstest.Revoke(1))},
	{"key disabled", []string{"KMSKeyUnusable"}, answers(kmstest.Fail(kmsencrypted.ErrKeyUnusable, 1))},
	{"another region", []string{"KMSMisconfigured"}, answers(kmstest.Fail(kmsencrypted.ErrConfig, 1))},
	{"throttled", []string{"KMSThrottled"}, answers(kmstest.Throttle(0.5))},
	{"away", []string{"KMSUnavailable"}, answers(kmstest.Unavailable(1))},
	{"away for a minute", nil, func(p *program) func() {
		p.service.Set(kmstest.Unavailable(1))
		p.read(p.columns...)
		p.service.Set()
		return func() { p.read(p.columns...) }
	}},
	{"slow", []string{"KMSSlow"}, func(p *program) func() {
		p.service.Set(kmstest.Slow(1100*time.Millisecond, 1))
		return first(10, func() { p.read(p.columns...) })
	}},
	{"context of a version changed", []string{"KMSDoesNotDecrypt"}, func(p *program) func() {
		moved := slices.Clone(p.columns)
		for i := range moved {
			moved[i].Binding.Context = kmsencrypted.Context{"tenant": "globex"}
		}
		return func() { p.read(moved...) }
	}},
	{"damaged records in a rotation", []string{"RotationFailsRecords"}, func(p *program) func() {
		_, err := p.rotator(rotation.Options{}, "UPDATE people SET encrypted_kms_key = 'v1:damaged' WHERE id = 7")()
		must(p.t, err)
		return func() { p.read(p.columns...) }
	}},
	{"a rotation that was left", []string{"RotationStandsStill"}, func(p *program) func() {
		_, err := p.rotator(rotation.Options{Limit: 50})()
		must(p.t, err)
		return func() { p.read(p.columns...) }
	}},
	{"a rotation that is throttled", []string{"KMSThrottled", "RotationThrottled"}, func(p *program) func() {
		move := p.rotates(rotation.Options{Limit: 5})
		p.service.Set(kmstest.Throttle(0.2))
		minute := 0
		return func() {
			if minute++; minute == 20 { // waits take real time
				p.service.Set()
			}
			move()
		}
	}},
	{"a rotation that waits for replicas", []string{"RotationHeldUp"}, func(p *program) func() {
		waited := false
		return p.rotates(rotation.Options{Limit: 2, CheckEvery: time.Millisecond, Checks: []rotation.Check{func(context.Context) (string, error) {
			if waited = !waited; waited {
				return "a replica is 2 minutes behind", nil
			}
			return "", nil
		}}})
	}},
	{"a tenant's key is denied", []string{"BranchRefused", "KMSDenied"}, func(p *program) func() {
		keys := p.branches(branch.Options{})
		p.service.Set(kmstest.Revoke(1))
		return func() { p.writeUnder(keys) }
	}},
	{"branches outlive an outage", []string{"BranchStale", "KMSUnavailable"}, func(p *program) func() {
		keys := p.branches(branch.Options{StaleFor: time.Hour})
		p.writeUnder(keys)
		p.service.Set(kmstest.Unavailable(1))
		return func() { p.writeUnder(keys) }
	}},
}

// answers is a fault of the key service that lasts.
func answers(f kmstest.Fault) func(*program) func() {
	return func(p *program) func() {
		p.service.Set(f)
		return func() { p.read(p.columns...) }
	}
}

// first does something in the first minutes only, because it takes real time.
func first(minutes int, do func()) func() {
	return func() {
		if minutes--; minutes >= 0 {
			do()
		}
	}
}

// rotates moves a few records each minute.
func (p *program) rotates(o rotation.Options) func() {
	run := p.rotator(o)
	return func() {
		if _, err := run(); err != nil {
			p.t.Fatal(err)
		}
		p.read(p.columns...)
	}
}

// writeUnder wraps a key under a branch, once its key is too old.
func (p *program) writeUnder(keys *branch.Provider) {
	time.Sleep(2 * branchAge)
	ec, err := kmsencrypted.Bind(kmsencrypted.Context{"tenant": "acme"})
	must(p.t, err)
	_, _ = keys.Encrypt(p.t.Context(), make([]byte, kmsencrypted.DataKeySize), ec)
}

type rule struct {
	Alert, Expr         string
	Annotations, Labels map[string]string
}

func readRules(t *testing.T) (rules []rule) {
	text, err := os.ReadFile(rulesFile)
	must(t, err)
	var file struct{ Groups []struct{ Rules []rule } }
	must(t, yaml.Unmarshal(text, &file))
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// Each failure rings its alarms and no other, and each alarm rings for one.
func TestAlarms(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("no promtool here: apt-get install prometheus")
	}
	rules := readRules(t)
	rang := make(map[string]bool)
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			p := newProgram(t)
			p.forMinutes(healthy, func() { p.read(p.columns...) })
			p.forMinutes(failing, f.set(p))
			got := ringing(t, promtool, rules, p)
			if want := slices.Sorted(slices.Values(f.alarms)); !slices.Equal(got, want) {
				t.Errorf("it rings %v, want %v", got, want)
			}
			for _, alarm := range got {
				rang[alarm] = true
			}
		})
	}
	for _, r := range rules {
		if !rang[r.Alert] {
			t.Errorf("nothing rings %s", r.Alert)
		}
	}
	t.Logf("counted: %d failures, %d alarms", len(failures), len(rules))
}

// An alarm test of promtool fails where it rings, because it names no alarm.
var rings = regexp.MustCompile(`alertname: (\w+), time:`)

// ringing returns the alarms that promtool says ring at any minute.
func ringing(t *testing.T, promtool string, rules []rule, p *program) (alarms []string) {
	type series struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	}
	type moment struct {
		At    string `yaml:"eval_time"`
		Alert string `yaml:"alertname"`
	}
	var input []series
	for name, values := range p.series {
		input = append(input, series{name, strings.Join(values, " ")})
	}
	var moments []moment
	for minute := range p.minutes {
		for _, r := range rules {
			moments = append(moments, moment{fmt.Sprintf("%dm", minute), r.Alert})
		}
	}
	file, err := filepath.Abs(rulesFile)
	must(t, err)
	text, err := yaml.Marshal(map[string]any{"rule_files": []string{file}, "evaluation_interval": "1m", "tests": []any{
		map[string]any{"interval": "1m", "input_series": input, "alert_rule_test": moments},
	}})
	must(t, err)
	path := filepath.Join(t.TempDir(), "test.yaml")
	must(t, os.WriteFile(path, text, 0o600))
	out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", path).CombinedOutput()
	for _, found := range rings.FindAllStringSubmatch(string(out), -1) {
		alarms = append(alarms, found[1])
	}
	if (err != nil) != (len(alarms) > 0) {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	slices.Sort(alarms)
	return slices.Compact(alarms)
}
