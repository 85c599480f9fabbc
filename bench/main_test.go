package main

import (
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
)

func topicsOf(tb testing.TB) []job.Topic {
	tb.Helper()
	all, err := topics(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// Everything that is measured runs, and README.md and the pictures show all of it.
func TestTopics(t *testing.T) {
	t.Parallel()
	readme := read(t, "README.md")
	for _, topic := range topicsOf(t) {
		svg := read(t, filepath.Join("..", "docs", "pictures", picture(topic)))
		shown := func(text string) {
			t.Helper()
			if !strings.Contains(readme, text) || !strings.Contains(svg, html.EscapeString(text)) {
				t.Errorf("README.md or %s does not show %q: go run .", picture(topic), text)
			}
		}
		for _, j := range topic.Jobs {
			shown(j.Name)
			j.Ours()
			j.Limit()
			for _, p := range j.Peers {
				shown(p.Name)
				shown(p.Way)
				p.Run()
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// BenchmarkJobs is for work on one of them: go test -bench 'Jobs/fields/seal.*/Tink'.
// "times-ours" is how many times as long as ours somebody takes.
func BenchmarkJobs(b *testing.B) {
	for _, topic := range topicsOf(b) {
		for _, j := range topic.Jobs {
			run := func(name string, f func()) {
				b.Run(topic.Name+"/"+j.Name+"/"+strings.TrimSpace(name), func(b *testing.B) {
					var c against.Comparison
					for b.Loop() {
						c = against.Compare(time.Second, f, j.Ours)
					}
					b.ReportMetric(c.Low, "lower-quartile")
					b.ReportMetric(c.Median, "times-ours")
					b.ReportMetric(c.High, "upper-quartile")
				})
			}
			run("limit", j.Limit)
			for _, p := range j.Peers {
				run(p.Name+" "+p.Way, p.Run)
			}
		}
	}
}
