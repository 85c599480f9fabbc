package rotatecli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// progress shows the progress of a rotation: by a bar on a terminal, otherwise by
// a line every ten seconds, or with JSON by a line for each event. It is safe for
// concurrent use.
type progress struct {
	out   io.Writer
	json  *json.Encoder // nil unless asked for
	bar   *progressbar.ProgressBar
	width func() int // of the terminal
	table string
	total int64 // keys, including those of earlier calls
	now   func() time.Time

	mu        sync.Mutex
	began     time.Time
	before    int64 // written by earlier calls
	written   int64 // by this call
	pass      int
	failed    int64 // in this pass
	conflicts int64
	rate      rate
	throttled string // why it is slow, until the next batch
	printed   time.Time
}

// every is how often a line is printed without a terminal.
const every = 10 * time.Second

func (s *Session) newProgress(table string, asJSON bool, total, before int64) *progress {
	p := &progress{out: s.Stderr, table: table, total: max(total, before), before: before, now: time.Now}
	p.began, p.printed = p.now(), p.now()
	if asJSON {
		p.json = json.NewEncoder(s.Stdout)
		return p
	}
	if file, ok := s.Stderr.(*os.File); ok && term.IsTerminal(int(file.Fd())) && p.total > 0 {
		p.width = func() int {
			width, _, err := term.GetSize(int(file.Fd()))
			if err != nil {
				return 80
			}
			return width
		}
		p.bar = newBar(file, table, p.total)
		p.draw(true)
	}
	return p
}

// newBar returns a bar "customers  61% ████████████░░░░░░░░  734,642/1,204,331
// …". This program formats the text after the bar.
func newBar(out io.Writer, name string, total int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(out),
		progressbar.OptionSetWidth(20),
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "█", SaucerPadding: "░", BarStart: "", BarEnd: ""}),
		progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetDescription(name),
	)
}

// observe handles the events of one call of Run.
func (p *progress) observe(e rotation.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Type {
	case rotation.EventBatch:
		p.written += e.Outcome.Written
		if e.Pass != p.pass { // it tries the failed records again
			p.pass, p.failed = e.Pass, 0
		}
		p.failed += e.Outcome.Failed
		p.conflicts += e.Outcome.Conflicts
		p.rate.add(p.now(), p.written)
		p.throttled = ""
	case rotation.EventOpened:
		p.written, p.failed = e.Passed, e.Outcome.Failed
		p.rate.add(p.now(), p.written)
	case rotation.EventThrottled:
		p.throttled = "throttled: " + oneLine(e.Err)
	case rotation.EventWaiting:
		p.throttled = "waiting: " + flat(e.Reason)
	case rotation.EventGoesOn:
		p.throttled = ""
	}
	switch {
	case p.json != nil:
		p.json.Encode(eventLine(e))
	case p.bar != nil:
		p.draw(false)
	case p.now().Sub(p.printed) >= every:
		p.printed = p.now()
		fmt.Fprintln(p.out, p.line())
	}
}

// draw redraws the bar, but not too often unless now is set. The caller must hold
// mu.
func (p *progress) draw(now bool) {
	const often = 100 * time.Millisecond
	if !now && p.now().Sub(p.printed) < often {
		return
	}
	p.printed = p.now()
	// Both calls draw. Set the number first, so that a continued run does not start
	// at 0 %, and set it last at the end, because nothing is drawn after it.
	text := fitted(" "+p.table+"  "+p.state(), p.width())
	if p.done() >= p.total {
		p.bar.Describe(text)
	}
	p.bar.Set64(min(p.done(), p.total))
	p.bar.Describe(text)
}

// fitted shortens the text after a bar, so that no line wraps: the bar is dropped
// first, the percentage stays.
func fitted(text string, width int) string {
	const percentage = 10
	runes := []rune(text)
	if most := max(width-percentage, 1); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

func (p *progress) done() int64 { return p.before + p.written }

// line returns the line to print without a terminal.
func (p *progress) line() string {
	percent := int64(100)
	if p.total > 0 {
		percent = 100 * min(p.done(), p.total) / p.total
	}
	return fmt.Sprintf("%s  %d %%  %s", p.table, percent, p.state())
}

// state returns "734,642/1,204,331  2,481 rows/s  3 min left  0 failed".
func (p *progress) state() string {
	parts := []string{count(p.done()) + "/" + count(p.total)}
	perSecond := p.rate.perSecond(p.now())
	if perSecond > 0 {
		parts = append(parts, count(int64(perSecond+.5))+" rows/s")
	}
	left := p.total - p.done()
	if perSecond > 0 && left > 0 && p.done()*100 >= p.total { // below 1 % there is no useful estimate
		parts = append(parts, span(max(time.Second, time.Duration(float64(left)/perSecond*float64(time.Second))))+" left")
	}
	parts = append(parts, count(p.failed)+" failed")
	if p.conflicts > 0 {
		parts = append(parts, things(p.conflicts, "conflict"))
	}
	if p.throttled != "" {
		parts = append(parts, p.throttled)
	}
	return strings.Join(parts, "  ")
}

// close ends the line of the bar.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.throttled = ""
		p.draw(true)
		p.bar.Exit()
		fmt.Fprintln(p.out)
	}
}

// rate measures over about the last ten seconds, so that it follows changes.
type rate struct{ samples []sample }

type sample struct {
	at   time.Time
	done int64
}

func (r *rate) add(at time.Time, done int64) {
	const window, most = 10 * time.Second, 1000
	r.samples = append(r.samples, sample{at, done})
	for len(r.samples) > 2 && at.Sub(r.samples[1].at) > window || len(r.samples) > most {
		r.samples = r.samples[1:]
	}
}

// perSecond returns the rate, or 0 if it is unknown.
func (r *rate) perSecond(now time.Time) float64 {
	if len(r.samples) < 2 {
		return 0
	}
	first, last := r.samples[0], r.samples[len(r.samples)-1]
	seconds := now.Sub(first.at).Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(last.done-first.done) / seconds
}

// eventJSON is a [rotation.Event] as a line of JSON.
type eventJSON struct {
	Event     string  `json:"event"`
	Table     string  `json:"table"`
	Run       string  `json:"run,omitempty"`
	Pass      int     `json:"pass,omitempty"`
	Shard     *int    `json:"shard,omitempty"`
	Written   int64   `json:"written"`
	Conflicts int64   `json:"conflicts"`
	Failed    int64   `json:"failed"`
	Planned   int64   `json:"planned,omitempty"`
	Seconds   float64 `json:"seconds"`
	Record    string  `json:"record,omitempty"`
	Class     string  `json:"class,omitempty"`
	Reason    string  `json:"reason,omitempty"`
}

// inShard are the events of a shard.
var inShard = map[rotation.EventType]bool{
	rotation.EventShard: true, rotation.EventBatch: true, rotation.EventConflict: true, rotation.EventFailure: true,
	rotation.EventThrottled: true, rotation.EventLost: true, rotation.EventShardDone: true,
}

func eventLine(e rotation.Event) eventJSON {
	line := eventJSON{
		Event: string(e.Type), Table: e.Table, Run: e.Run, Pass: e.Pass, Planned: e.Planned, Seconds: e.Elapsed.Seconds(),
		Written: e.Outcome.Written, Conflicts: e.Outcome.Conflicts, Failed: e.Outcome.Failed,
	}
	if inShard[e.Type] && e.Run != "" {
		line.Shard = &e.Shard
	}
	if e.Failure != nil {
		line.Record, line.Class, line.Reason = e.Failure.Record, e.Failure.Class, oneLine(e.Failure.Err)
	}
	if e.Err != nil {
		line.Reason = oneLine(e.Err)
	}
	if e.Reason != "" {
		line.Reason = flat(e.Reason)
	}
	return line
}
