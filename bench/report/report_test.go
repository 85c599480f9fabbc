package report

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
)

// rowOf has quartiles around a median.
func rowOf(name string, low, median, high float64) Row {
	return Row{Name: name, Otherwise: "otherwise " + name, Of: against.Comparison{Low: low, Median: median, High: high, First: 2 * time.Microsecond, Second: time.Microsecond}}
}

func example() []Topic {
	return []Topic{{Name: "a", Title: "First <topic>", Jobs: []Job{
		{Name: "seal & open", Ours: time.Microsecond, Limit: rowOf("the limit", 0.24, 0.25, 0.26), Peers: []Row{
			rowOf("narrow win", 0.97, 0.98, 0.99), rowOf("tie", 0.9, 0.95, 1.1), rowOf(`"slow"`, 150, 200, 300),
		}},
	}}, {Name: "b", Title: "Second topic", Jobs: []Job{
		{Name: "find", Ours: time.Second, Limit: rowOf("the limit", 0.5, 0.5, 0.5), Peers: []Row{
			rowOf("great win", 0.0001, 0.00012, 0.0002), rowOf("loss", 1.01, 1.02, 1.03),
		}},
	}}}
}

// The table has every row; where a peer is faster comes first, the greatest win first
// of all, from whatever topic.
func TestTable(t *testing.T) {
	t.Parallel()
	table := Table(example())
	var order []string
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, " | "); len(cells) == 5 && cells[2] != "peer" && cells[2] != "---" {
			order = append(order, strings.TrimPrefix(cells[0], "| ")+": "+cells[2])
		}
	}
	want := []string{"peer: great win", "peer: narrow win", "even: tie", "ours: loss", `ours: "slow"`}
	if !slices.Equal(order, want) {
		t.Errorf("Table has the rows %q, want %q", order, want)
	}
	for _, want := range []string{"0.98 (0.97 to 0.99)", "1/8300 (1/10000 to 1/5000)", "| seal & open | 2 µs | 1 µs | 4.00 (3.85 to 4.17) |", "otherwise tie"} {
		if !strings.Contains(table, want) {
			t.Errorf("Table lacks %q:\n%s", want, table)
		}
	}
}

// A picture is XML that shows every job and every row with its quartiles, inside.
func TestWriteSVG(t *testing.T) {
	t.Parallel()
	for _, topic := range example() {
		var svg bytes.Buffer
		if err := WriteSVG(&svg, topic); err != nil {
			t.Fatal(err)
		}
		texts := textsOf(t, &svg)
		want := []string{topic.Title}
		for _, j := range topic.Jobs {
			want = append(want, j.Name)
			for _, r := range append(j.Peers, j.Limit) {
				want = append(want, r.Name, quartiles(r.Of))
			}
		}
		for _, text := range want {
			if !slices.Contains(texts, text) {
				t.Errorf("the picture of %s does not show %q: %q", topic.Name, text, texts)
			}
		}
	}
}

// textsOf returns what the text elements say.
func textsOf(t *testing.T, svg io.Reader) (texts []string) {
	t.Helper()
	d := xml.NewDecoder(svg)
	in := ""
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			in = token.Name.Local
		case xml.CharData:
			if in == "text" {
				texts = append(texts, string(token))
			}
		case xml.EndElement:
			in = ""
		}
	}
}

// The scale has room for every quartile and goes from left to right.
func TestScale(t *testing.T) {
	t.Parallel()
	for _, topic := range example() {
		s := scaleOf(topic)
		values := []float64{1}
		for _, j := range topic.Jobs {
			for _, r := range append(j.Peers, j.Limit) {
				values = append(values, r.Of.Low, r.Of.Median, r.Of.High)
			}
		}
		slices.Sort(values)
		last := float64(left)
		for _, v := range values {
			if x := s.x(v); x < last || x > right {
				t.Errorf("x(%v) = %v, want it from %v to %v", v, x, last, right)
			} else {
				last = x
			}
		}
		if ticks := s.ticks(); !slices.Contains(ticks, 1) || len(ticks) < 2 || len(ticks) > 8 {
			t.Errorf("ticks of %+v = %v", s, ticks)
		}
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "README.md")
	for _, c := range []struct{ content, want string }{
		{"before\n" + begin + "old\n" + end + "\nafter\n", "before\n" + begin + "\nnew\n" + end + "\nafter\n"},
		{"before\n" + begin + end, "before\n" + begin + "\nnew\n" + end},
		{"no marks", ""},
		{begin + "no end", ""},
		{end + begin, ""},
	} {
		if err := os.WriteFile(file, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		err := Replace(file, "new")
		if (err == nil) != (c.want != "") {
			t.Errorf("Replace in %q: %v", c.content, err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := cmp.Or(c.want, c.content); string(got) != want {
			t.Errorf("Replace in %q gives %q, want %q", c.content, got, want)
		}
	}
}

// What takes three times as long is shown as slower, and a third of it as faster,
// sorted.
func TestMeasure(t *testing.T) {
	t.Parallel()
	work := func(n int) func() {
		return func() {
			for range n {
				textOf(bytes.Repeat([]byte("x"), 1000))
			}
		}
	}
	topic := Measure(job.Topic{Jobs: []job.Job{{Ours: work(300), Limit: work(100), Peers: []job.Peer{
		{Name: "slow", Way: "by hand", Run: work(900)}, {Name: "fast", Run: work(100)},
	}}}}, time.Millisecond)
	peers := topic.Jobs[0].Peers
	if peers[0].Name != "fast" || peers[0].Outcome() != PeerFaster || peers[1].Name != "slow, by hand" || peers[1].Outcome() != OursFaster {
		t.Errorf("Measure = %+v, want fast, which wins, before slow", peers)
	}
	if limit := topic.Jobs[0].Limit.Of.Median; limit < 0.2 || limit > 0.5 {
		t.Errorf("the limit takes %v of ours, want a third", limit)
	}
}

var sink string

func textOf(b []byte) { sink = string(b) }
