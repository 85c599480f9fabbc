package alarms

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// known returns the names of all metrics and labels, as a program exports them that has
// met everything.
func known(t *testing.T) map[string]bool {
	p := newProgram(t)
	waited := false
	_, err := p.rotator(rotation.Options{CheckEvery: time.Millisecond, Checks: []rotation.Check{func(context.Context) (string, error) {
		if waited = !waited; waited {
			return "a replica is behind", nil
		}
		return "", nil
	}}}, "UPDATE people SET encrypted_kms_key = 'v1:damaged' WHERE id = 7")()
	must(t, err)
	p.writeUnder(p.branches(branch.Options{}))
	p.service.Set(kmstest.Revoke(1))
	p.read(p.columns...)
	p.scrape()
	names := make(map[string]bool)
	word := regexp.MustCompile(`kmsencrypted_\w+`)
	for series := range p.series {
		for _, name := range word.FindAllString(series, -1) {
			names[name] = true
		}
	}
	// Only a lost lease makes this one.
	names["kmsencrypted_rotation_leases_lost_total"] = true
	return names
}

// Rules and dashboard name only what is exported, and the dashboard shows every metric.
func TestNames(t *testing.T) {
	names := known(t)
	var dashboard struct {
		Panels []struct {
			Title, Description string
			Targets            []struct{ Expr string }
		}
	}
	text, err := os.ReadFile("../../deploy/grafana/kmsencrypted.json")
	must(t, err)
	must(t, json.Unmarshal(text, &dashboard))
	expressions := make(map[string]string)
	var all strings.Builder
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			expressions[p.Title] += target.Expr + " "
			all.WriteString(target.Expr)
			if p.Description == "" {
				t.Errorf("panel %q has no description", p.Title)
			}
		}
	}
	for _, r := range readRules(t) {
		expressions[r.Alert] = r.Expr
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
			t.Errorf("%s lacks a summary, a description or a severity", r.Alert)
		}
	}
	word := regexp.MustCompile(`kmsencrypted_\w+`)
	for where, expression := range expressions {
		found := word.FindAllString(expression, -1)
		if len(found) == 0 {
			t.Errorf("%s has no metric", where)
		}
		for _, name := range found {
			if !names[name] {
				t.Errorf("%s: there is no %s", where, name)
			}
		}
	}
	for name := range names {
		metric := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasSuffix(name, "_total") && !strings.Contains(all.String(), metric) {
			t.Errorf("no panel shows %s", name)
		}
	}
	t.Logf("counted: %d expressions, %d names", len(expressions), len(names))
}

// The manifests parse, and name what they should.
func TestManifests(t *testing.T) {
	files, err := filepath.Glob("../../deploy/kubernetes/*.yaml")
	must(t, err)
	kinds := make(map[string]int)
	for _, name := range files {
		f, err := os.Open(name)
		must(t, err)
		defer f.Close()
		d := yaml.NewDecoder(f)
		for {
			var object struct {
				APIVersion string `yaml:"apiVersion"`
				Kind       string
				Metadata   struct{ Name string }
				Spec       map[string]any
			}
			err := d.Decode(&object)
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			if object.APIVersion == "" || object.Metadata.Name == "" || len(object.Spec) == 0 {
				t.Errorf("%s: an object without apiVersion, name or spec: %+v", name, object)
			}
			kinds[object.Kind]++
		}
	}
	if kinds["Deployment"] != 1 || kinds["CronJob"] != 1 {
		t.Errorf("the manifests have %v", kinds)
	}
}
