package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
)

// Table returns the peers in Markdown, where one is faster first, and then the limits.
func Table(topics []Topic) string {
	type line struct {
		job string
		Row
	}
	var lines []line
	var limits strings.Builder
	for _, t := range topics {
		for _, j := range t.Jobs {
			for _, r := range j.Peers {
				lines = append(lines, line{j.Name, r})
			}
			fmt.Fprintf(&limits, "| %s | %s | %s | %s |\n", j.Name, duration(j.Limit.Of.First), duration(j.Ours), quartiles(inverse(j.Limit.Of)))
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return before(a.Row, b.Row) })
	var b strings.Builder
	b.WriteString("| faster | job | peer | its time, of ours | what it does otherwise |\n| --- | --- | --- | --- | --- |\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", l.Outcome(), l.job, l.Name, quartiles(l.Of), l.Otherwise)
	}
	b.WriteString("\n| job | limit | ours | ours, times the limit |\n| --- | --- | --- | --- |\n")
	b.WriteString(limits.String())
	return b.String()
}

// inverse swaps the two sides.
func inverse(c against.Comparison) against.Comparison {
	return against.Comparison{Low: 1 / c.High, Median: 1 / c.Median, High: 1 / c.Low, First: c.Second, Second: c.First}
}
