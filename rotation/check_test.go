package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

func TestWindowCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the bubble begins at midnight UTC
		zone := time.FixedZone("", 2*3600)
		hour := time.Hour
		for _, c := range []struct {
			from, to time.Duration
			open     []int // hours of the zone
		}{
			{22 * hour, 6 * hour, []int{22, 23, 0, 1, 2, 3, 4, 5}},
			{9 * hour, 12 * hour, []int{9, 10, 11}},
			{20 * hour, 24 * hour, []int{20, 21, 22, 23}},
		} {
			check := rotation.WindowCheck(c.from, c.to, zone)
			for range 24 {
				reason, err := check(t.Context())
				if now := time.Now().In(zone).Hour(); err != nil || (reason == "") != slices.Contains(c.open, now) {
					t.Errorf("from %v to %v at %d h: %q, %v", c.from, c.to, now, reason, err)
				}
				time.Sleep(hour)
			}
		}
		for _, c := range [][2]time.Duration{{-1, hour}, {hour, hour}, {24 * hour, hour}, {hour, 25 * hour}} {
			if _, err := rotation.WindowCheck(c[0], c[1], zone)(t.Context()); !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("window %v = %v, want ErrConfig", c, err)
			}
		}
	})
}

func TestFileCheck(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "stop")
	check := rotation.FileCheck(name)
	if reason, err := check(t.Context()); reason != "" || err != nil {
		t.Errorf("without the file: %q, %v", reason, err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if reason, err := check(t.Context()); !strings.Contains(reason, "stop") || err != nil {
		t.Errorf("with the file: %q, %v", reason, err)
	}
}

// A check holds up all workers as long as it returns a reason, which is reported once.
func TestRotatorChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := ofVersion1(100)
		began, busyUntil := time.Now(), time.Now().Add(time.Minute)
		var events []string
		var mu sync.Mutex
		r := newRotator(t, m, rotation.Options{BatchSize: 10, Workers: 3, Observe: func(e rotation.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Type == rotation.EventWaiting || e.Type == rotation.EventGoesOn {
				events = append(events, string(e.Type)+" "+e.Reason)
			}
		}, Checks: []rotation.Check{func(context.Context) (string, error) {
			if time.Now().Before(busyUntil) {
				return "lag 7 s", nil
			}
			return "", nil
		}}})
		result, err := r.Run(t.Context())
		if err != nil || result.Written != 100 || time.Since(began) < time.Minute {
			t.Errorf("Run() = %+v, %v after %v", result, err, time.Since(began))
		}
		if want := []string{"waiting lag 7 s", "goes on "}; !slices.Equal(events, want) || !slices.Equal(m.reasons, []string{"lag 7 s", ""}) {
			t.Errorf("events %q and reasons %q, want %q", events, m.reasons, want)
		}
	})
}

func TestRotatorHeldUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			check func(m *memory) rotation.Check
			want  error
		}{
			"too long": {func(*memory) rotation.Check {
				return func(context.Context) (string, error) { return "always", nil }
			}, rotation.ErrHeldUp},
			"broken": {func(*memory) rotation.Check {
				return func(context.Context) (string, error) { return "", context.DeadlineExceeded }
			}, context.DeadlineExceeded},
			"paused meanwhile": {func(m *memory) rotation.Check {
				return func(ctx context.Context) (string, error) {
					return "always", m.SetState(ctx, "", rotation.RunPaused)
				}
			}, rotation.ErrPaused},
		} {
			m := ofVersion1(10)
			result, err := newRotator(t, m, rotation.Options{MaxWait: time.Minute, Checks: []rotation.Check{c.check(m)}}).Run(t.Context())
			if !errors.Is(err, c.want) || result.Written != 0 || m.owner != "" {
				t.Errorf("%s: Run() = %+v, %v, want %v and the shard given back", name, result, err, c.want)
			}
		}
	})
}

// A batch is steered to the target time, by a fifth at most from one to the next.
func TestRotatorBatchSize(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		perRecord time.Duration
		begin     int
		want      int
	}{
		"slow database": {4 * time.Millisecond, 400, 50},
		"fast database": {500 * time.Microsecond, 50, 400},
		"at the bound":  {time.Microsecond, 1000, 2000},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := ofVersion1(30_000)
			m.slow = c.perRecord
			var sizes []int
			r := newRotator(t, m, rotation.Options{BatchSize: c.begin, Workers: 1, Observe: func(e rotation.Event) {
				if e.Type == rotation.EventBatch && e.Outcome.Written > 0 {
					sizes = append(sizes, int(e.Outcome.Written))
				}
			}})
			if _, err := r.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			sizes = sizes[:len(sizes)-1] // the last one is what was left
			for i, size := range sizes[1:] {
				if before := float64(sizes[i]); float64(size) > before*1.2+1 || float64(size) < before*0.8-1 {
					t.Errorf("%s: a batch of %d after one of %d", name, size, sizes[i])
				}
			}
			if last := sizes[len(sizes)-1]; last < c.want*9/10 || last > c.want*11/10 {
				t.Errorf("%s: sizes end with %d, want about %d: %v", name, last, c.want, sizes)
			}
		})
	}
}

// Somebody's lock makes batches smaller, and no record is missed.
func TestRotatorLocked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := ofVersion1(100)
		m.locked = func(records int) bool { return records > 10 }
		result, err := newRotator(t, m, rotation.Options{BatchSize: 80, Workers: 1, TargetTime: -1}).Run(t.Context())
		if err != nil || result.Written != 100 || !result.Done {
			t.Errorf("Run() = %+v, %v, want all written in small batches", result, err)
		}
		if len(m.reasons) < 2 || m.reasons[0] != rotation.ErrLocked.Error() || m.status.Waiting != "" {
			t.Errorf("reasons %q, at the end %q", m.reasons, m.status.Waiting)
		}
	})
}

func TestRotatorNice(t *testing.T) {
	t.Parallel()
	took := func(nice float64) (d time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			m := ofVersion1(1000)
			m.think, m.slow = time.Millisecond, time.Millisecond
			began := time.Now()
			if _, err := newRotator(t, m, rotation.Options{BatchSize: 100, Workers: 1, TargetTime: -1, Nice: nice}).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			d = time.Since(began)
		})
		return d
	}
	// Reading and writing overlap unless there is to be a pause after both.
	if rude, nice := took(0), took(1); rude > 1200*time.Millisecond || nice < 3900*time.Millisecond || nice > 4100*time.Millisecond {
		t.Errorf("2 s of work took %v with Nice 1, and %v in a pipeline", nice, rude)
	}
}

// A key service that is away for a minute holds a run up and costs nothing. One
// that throttles slows the limiter down, which then comes back.
func TestRotatorBadDay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		slow bool // the limiter was slowed down
	}{"away": {kmsencrypted.ErrUnavailable, false}, "throttling": {kmsencrypted.ErrThrottled, true}} {
		synctest.Test(t, func(t *testing.T) {
			m := ofVersion1(20_000)
			began := time.Now()
			m.rotate = func(i int) error {
				if since := time.Since(began); i%3 == 0 && since > 5*time.Second && since < 65*time.Second {
					return fmt.Errorf("request: %w", c.err)
				}
				return nil
			}
			limiter := rotation.NewLimiter(1000)
			least := limiter.Rate()
			var reasons []string
			r := newRotator(t, m, rotation.Options{BatchSize: 500, Workers: 1, Calls: limiter, Observe: func(e rotation.Event) {
				least = min(least, limiter.Rate())
				if e.Type == rotation.EventThrottled && errors.Is(e.Err, c.err) {
					reasons = append(reasons, e.Err.Error())
				}
			}})
			result, err := r.Run(t.Context())
			if err != nil || result.Outcome != (rotation.Outcome{Written: 20_000}) || !result.Done {
				t.Errorf("%s: Run() = %+v, %v", name, result, err)
			}
			if took := time.Since(began); took < 65*time.Second || len(reasons) < 5 || m.status.Waiting != "" || !slices.ContainsFunc(m.reasons, func(r string) bool { return strings.Contains(r, c.err.Error()) }) {
				t.Errorf("%s: %v, %d times asked to wait, reasons in the ledger %q", name, took, len(reasons), m.reasons)
			}
			if slowed := least < 500; slowed != c.slow {
				t.Errorf("%s: the limiter went down to %v", name, least)
			}
			for range 60 { // quiet
				time.Sleep(11 * time.Second)
				if err := limiter.Wait(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
			if limiter.Rate() != 1000 {
				t.Errorf("%s: after ten quiet minutes the rate is %v", name, limiter.Rate())
			}
		})
	}
}

// Permission is revoked half-way: the run stops with that reason, and goes on from
// there when it is back.
func TestRotatorRevoked(t *testing.T) {
	t.Parallel()
	m := ofVersion1(1000)
	m.rotate = func(i int) error {
		if i >= 500 {
			return kmsencrypted.ErrDenied
		}
		return nil
	}
	result, err := newRotator(t, m, rotation.Options{BatchSize: 100, Workers: 1, TargetTime: -1}).Run(t.Context())
	if !errors.Is(err, kmsencrypted.ErrDenied) || m.status.Written != 500 || result.Written != 500 || m.owner != "" {
		t.Errorf("Run() = %+v, %v, %d in the ledger; want 500 written and ErrDenied", result, err, m.status.Written)
	}
	m.rotate = nil
	if result, err := newRotator(t, m, rotation.Options{}).Run(t.Context()); err != nil || result.Written != 500 || !result.Done {
		t.Errorf("Run() after that = %+v, %v, want the other 500", result, err)
	}
}

// Cost, report and history of a run.
func TestRotatorReport(t *testing.T) {
	t.Parallel()
	m := ofVersion1(100_000)
	r := newRotator(t, m, rotation.Options{Calls: rotation.NewLimiter(2500)})
	cost, err := r.Cost(t.Context(), rotation.ListPrices("aws"))
	if err != nil || cost.Calls != 200_000 || cost.Price < 0.599 || cost.Price > 0.601 || cost.Currency != "USD" ||
		cost.Duration != 80*time.Second || cost.LogBytes != 360_000_000 || cost.WALBytes != 110_000_000 {
		t.Errorf("Cost() = %+v, %v", cost, err)
	}
	if free, err := r.Cost(t.Context(), rotation.ListPrices("local")); err != nil || free.Price != 0 || free.LogBytes != 0 {
		t.Errorf("Cost(local) = %+v, %v", free, err)
	}
	if report, err := r.Report(t.Context()); err != nil || report.Last != nil || report.Records != 100_000 {
		t.Errorf("Report() before the first run = %+v, %v", report, err)
	}
	m.started, m.status = true, rotation.Status{
		Run: rotation.Run{ID: "r", State: rotation.RunActive, Target: 2, Planned: 110_000}, Working: 4,
		Outcome: rotation.Outcome{Written: 9_990, Failed: 10}, Busy: 40 * time.Second,
	}
	m.failed = []rotation.Failure{{Class: "decrypt"}, {Class: "decrypt"}, {Class: "binding"}}
	report, err := r.Report(t.Context())
	if err != nil || report.Last == nil || report.Failures["decrypt"] != 2 || report.Failures["binding"] != 1 {
		t.Errorf("Report() = %+v, %v", report, err)
	}
	// Ten thousand in 10 s by four workers.
	if rate := report.Last.Rate(); rate != 1000 || report.Left.Round(time.Second) != 100*time.Second {
		t.Errorf("rate %v/s, %v left; want 1000 and 100 s", rate, report.Left)
	}
	if kinds := rotation.Kinds(); len(kinds) != 6 {
		t.Errorf("RotationKinds() = %v", kinds)
	}
}
