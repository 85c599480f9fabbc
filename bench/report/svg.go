package report

import (
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"strings"
)

// The picture has a line for each row: the name, a bar from 1 to the median on a
// logarithmic scale, a whisker from quartile to quartile, and the numbers.
const (
	width     = 880
	left      = 350 // of the scale
	right     = 640
	rowHeight = 26
	jobHeight = 44
	top       = 96
)

const style = `	<style>
	.card { fill: #fffdf8; stroke: #e5dfd3; }
	text { fill: #2b2a27; font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
	.head { font-size: 17px; font-weight: 600; }
	.job { font-weight: 600; }
	.quiet { fill: #6b675e; }
	.tick { stroke: #e5dfd3; }
	.one, .whisker { stroke: #2b2a27; stroke-width: 1.5; fill: none; }
	.peer { fill: #e8894b; }
	.ours { fill: #7fb3dc; }
	.even { fill: #c9b8e8; }
	.limit { fill: #cfcabf; }
	@media (prefers-color-scheme: dark) {
		.card { fill: #16181d; stroke: #30343d; }
		text { fill: #ebe8e1; }
		.quiet { fill: #a5a199; }
		.tick { stroke: #30343d; }
		.one, .whisker { stroke: #ebe8e1; }
		.peer { fill: #b85f24; }
		.ours { fill: #35638f; }
		.even { fill: #5f4f86; }
		.limit { fill: #55565b; }
	}
	</style>
`

// WriteSVG draws a topic.
func WriteSVG(w io.Writer, t Topic) error {
	d := drawing{scale: scaleOf(t)}
	height := top
	for _, j := range t.Jobs {
		height += jobHeight + rowHeight*(1+len(j.Peers))
	}
	height += 24
	d.printf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" aria-labelledby=\"title desc\">\n", width, height, width, height)
	d.printf("\t<title id=\"title\">%s</title>\n\t<desc id=\"desc\">%s</desc>\n", html.EscapeString(t.Title), html.EscapeString(describe(t)))
	d.printf("%s\t<rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"14\"/>\n", style, width-1, height-1)
	d.text(40, 40, "head", "start", t.Title)
	d.legend()
	d.axis(height - 20)
	y := top
	for _, j := range t.Jobs {
		d.text(40, y+30, "job", "start", j.Name)
		d.text(width-40, y+30, "quiet", "end", "ours takes "+duration(j.Ours))
		y += jobHeight
		d.row(y, "limit", j.Limit)
		y += rowHeight
		for _, r := range j.Peers {
			d.row(y, r.Outcome().String(), r)
			y += rowHeight
		}
	}
	d.printf("</svg>\n")
	_, err := io.WriteString(w, d.String())
	return err
}

// describe is the picture for who does not see it.
func describe(t Topic) string {
	var b strings.Builder
	b.WriteString("Time of each in relation to kmsencrypted: median and quartiles.")
	for _, j := range t.Jobs {
		fmt.Fprintf(&b, " %s:", j.Name)
		for i, r := range append([]Row{j.Limit}, j.Peers...) {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, " %s %s", r.Name, quartiles(r.Of))
		}
		b.WriteString(".")
	}
	return b.String()
}

type drawing struct {
	strings.Builder
	scale scale
}

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(d, format, args...) }

func (d *drawing) text(x, y int, class, anchor, text string) {
	d.printf("\t<text x=\"%d\" y=\"%d\" class=\"%s\" text-anchor=\"%s\">%s</text>\n", x, y, class, anchor, html.EscapeString(text))
}

func (d *drawing) legend() {
	x := 40
	for _, l := range []struct {
		class, text string
		width       int
	}{{"peer", "faster than kmsencrypted", 226}, {"ours", "slower", 90}, {"even", "even", 76}, {"limit", "the least work there is", 0}} {
		d.printf("\t<rect class=\"%s\" x=\"%d\" y=\"56\" width=\"14\" height=\"14\" rx=\"3\"/>\n", l.class, x)
		d.text(x+20, 68, "quiet", "start", l.text)
		x += l.width
	}
	d.text(width-40, 68, "quiet", "end", "median (quartiles)")
}

func (d *drawing) axis(bottom int) {
	for _, tick := range d.scale.ticks() {
		x, class := d.scale.x(tick), "tick"
		if tick == 1 {
			class = "one"
		}
		d.printf("\t<path class=\"%s\" d=\"M%.1f %dV%d\"/>\n", class, x, top+8, bottom)
		d.text(int(x), top, "quiet", "middle", strconv.FormatFloat(tick, 'f', -1, 64)+"×")
	}
}

func (d *drawing) row(y int, class string, r Row) {
	middle := float64(y) + rowHeight/2
	one, median, low, high := d.scale.x(1), d.scale.x(r.Of.Median), d.scale.x(r.Of.Low), d.scale.x(r.Of.High)
	d.text(56, y+18, "", "start", r.Name)
	d.printf("\t<rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"16\" rx=\"2\"/>\n", class, min(one, median), y+5, max(math.Abs(one-median), 1))
	d.printf("\t<path class=\"whisker\" d=\"M%.1f %.0fH%.1fM%.1f %.0fv8M%.1f %.0fv8\"/>\n", low, middle, high, low, middle-4, high, middle-4)
	d.text(width-40, y+18, "", "end", quartiles(r.Of))
}

// scale is logarithmic.
type scale struct{ low, high float64 }

// scaleOf has room for each row and for 1.
func scaleOf(t Topic) scale {
	s := scale{1, 1}
	for _, j := range t.Jobs {
		for _, r := range append([]Row{j.Limit}, j.Peers...) {
			s.low, s.high = min(s.low, r.Of.Low), max(s.high, r.Of.High)
		}
	}
	margin := max(math.Pow(s.high/s.low, 0.04), 1.05)
	return scale{s.low / margin, s.high * margin}
}

func (s scale) x(value float64) float64 {
	return left + (right-left)*math.Log(value/s.low)/math.Log(s.high/s.low)
}

// ticks are 1 and what divides the scale into a few parts.
func (s scale) ticks() []float64 {
	steps := []float64{1, 2, 5}
	if s.high/s.low > 30 {
		steps = []float64{1}
	}
	var ticks []float64
	for power := math.Floor(math.Log10(s.low)); power <= math.Log10(s.high); power++ {
		for _, step := range steps {
			if tick := step * math.Pow(10, power); tick >= s.low && tick <= s.high {
				ticks = append(ticks, tick)
			}
		}
	}
	return ticks
}
