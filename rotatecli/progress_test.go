package rotatecli

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Where there is no terminal a line is printed each ten seconds, with the rate of
// the last ten and the reason when the key service throttles.
func TestProgressLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &Session{Stdout: &out, Stderr: &out}
	p := s.newProgress("users", false, 100_000, 20_000)
	clock := p.printed
	p.now = func() time.Time { return clock }
	batch := func(written, failed int64) {
		p.observe(rotation.Event{Type: rotation.EventBatch, Outcome: rotation.Outcome{Written: written, Failed: failed}})
	}
	for range 10 {
		clock = clock.Add(time.Second)
		batch(1000, 0)
	}
	clock = clock.Add(10 * time.Second)
	p.observe(rotation.Event{Type: rotation.EventThrottled, Err: errors.New("slow\ndown")})
	clock = clock.Add(10 * time.Second)
	batch(1000, 2)
	want := []string{
		"users  30 %  30,000/100,000  1,000 rows/s  1 min 10 s left  0 failed",
		"users  30 %  30,000/100,000  474 rows/s  2 min 27 s left  0 failed  throttled: slow down",
		"users  31 %  31,000/100,000  50 rows/s  23 min left  2 failed",
	}
	if got := strings.Split(strings.TrimSpace(out.String()), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("lines:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Below one per cent there is no estimate, and a table that grows does not show
// more than there is.
func TestProgressEdges(t *testing.T) {
	t.Parallel()
	s := &Session{Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer)}
	p := s.newProgress("users", false, 1_000_000, 0)
	clock := p.printed
	p.now = func() time.Time { return clock }
	for range 3 {
		clock = clock.Add(time.Second)
		p.observe(rotation.Event{Type: rotation.EventBatch, Outcome: rotation.Outcome{Written: 1000, Conflicts: 1}})
	}
	if got, want := p.line(), "users  0 %  3,000/1,000,000  1,000 rows/s  0 failed  3 conflicts"; got != want {
		t.Errorf("line() = %q, want %q", got, want)
	}
	empty := s.newProgress("users", false, 0, 0)
	if got, want := empty.line(), "users  100 %  0/0  0 failed"; got != want {
		t.Errorf("line() = %q, want %q", got, want)
	}
}

func TestProgressJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &Session{Stdout: &out, Stderr: new(bytes.Buffer)}
	p := s.newProgress("users", true, 10, 0)
	p.observe(rotation.Event{
		Type: rotation.EventFailure, Table: "users", Run: "r", Pass: 1, Elapsed: 1500 * time.Millisecond,
		Failure: &rotation.Failure{Record: "id=7", Class: "decrypt", Err: errors.New("does\nnot open")},
	})
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"event": "failure", "record": "id=7", "class": "decrypt", "reason": "does not open", "shard": 0.0, "seconds": 1.5} {
		if line[name] != want {
			t.Errorf("%s = %v, want %v", name, line[name], want)
		}
	}
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("an event is one line: %q", out.String())
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1204331: "1,204,331", -1234: "-1,234"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		850 * time.Millisecond: "850 ms", 12 * time.Second: "12 s", 3 * time.Minute: "3 min", 200 * time.Second: "3 min 20 s",
		25 * time.Minute: "25 min", 80 * time.Minute: "1 h 20 min", 2 * time.Hour: "2 h", 52 * time.Hour: "2 d 4 h", 72 * time.Hour: "3 d",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %s, want %s", d, got, want)
		}
	}
}

// A line of a narrow terminal is cut, never wrapped.
func TestFitted(t *testing.T) {
	t.Parallel()
	const text = " customers  734,642/1,204,331  0 failed  throttled: Überlast"
	for width, want := range map[int]string{
		200: text,
		30:  " customers  734,642…",
		12:  " …",
		0:   "…",
	} {
		if got := fitted(text, width); got != want {
			t.Errorf("fitted(%d) = %q, want %q", width, got, want)
		}
	}
}
