package rotatecli

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// get never waits: not for the first load, and not for a database that does not answer.
func TestFreshNeverWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		loads := 0
		f := &fresh[int]{ctx: ctx, every: time.Second, limit: time.Minute, load: func(ctx context.Context, show func(int)) error {
			loads++
			show(loads)
			<-ctx.Done() // no answer
			return ctx.Err()
		}}
		began := time.Now()
		if value, at, err := f.get(); value != 0 || !at.IsZero() || err != nil || !time.Now().Equal(began) {
			t.Errorf("get() = %d, %v, %v", value, at, err)
		}
		for range 10 { // one load at a time
			synctest.Wait()
			if value, at, err := f.get(); value != 1 || !at.Equal(began) || err != nil {
				t.Errorf("get() = %d, %v, %v, want the estimate", value, at, err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if value, _, err := f.get(); value != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get() = %d, %v, want the old value and the error", value, err)
		}
		time.Sleep(time.Second) // after an error it tries again soon
		f.get()
		synctest.Wait()
		if loads != 2 {
			t.Errorf("%d loads, want 2", loads)
		}
	})
}

// Loading takes at most a twentieth of the time, and none while nobody asks.
func TestFreshRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		loads := 0
		f := &fresh[int]{ctx: t.Context(), every: time.Second, load: func(_ context.Context, show func(int)) error {
			time.Sleep(3 * time.Second)
			loads++
			show(loads)
			return nil
		}}
		for range 10 * 60 {
			f.get()
			time.Sleep(time.Second)
		}
		if loads < 8 || loads > 10 {
			t.Errorf("%d loads of 3 s in ten minutes, want about 9", loads)
		}
		before := loads
		time.Sleep(time.Hour)
		if loads != before {
			t.Errorf("%d loads while nobody asked", loads-before)
		}
		f.expire()
		f.get()
		time.Sleep(time.Second)
		f.expire() // it loads, and is due again
		time.Sleep(3 * time.Second)
		if value, _, _ := f.get(); value != before+1 {
			t.Errorf("get() = %d after expire, want %d", value, before+1)
		}
		time.Sleep(4 * time.Second)
		if value, _, _ := f.get(); value != before+2 {
			t.Errorf("get() = %d after expire during a load, want %d", value, before+2)
		}
	})
}

// The meter tells what the time between two looks was spent on, as the progress bar of
// "rotate run" tells the rate.
func TestMeter(t *testing.T) {
	t.Parallel()
	var m meter
	now := time.Unix(0, 0)
	status := rotation.Status{Run: rotation.Run{ID: "r", State: rotation.RunActive}}
	m.observe(now, status)
	work := func(after time.Duration) {
		now = now.Add(after)
		status.Written += 1000
		status.Stages.Read += time.Second
		status.Stages.Rotate += 2 * time.Second
		status.Stages.Write += time.Second
		m.observe(now, status)
	}
	for range 400 {
		work(time.Second)
	}
	if len(m.points) != mostPoints {
		t.Fatalf("%d points, want %d", len(m.points), mostPoints)
	}
	if p := m.points[0]; p.PerSecond != 1000 || p.Read != 1 || p.Keys != 2 || p.Wait != 0 || p.Write != 1 {
		t.Errorf("a point is %+v", p)
	}
	if rate := m.rate.perSecond(now); rate != 1000 {
		t.Errorf("%v rows/s, want 1000", rate)
	}
	if all := m.lately(); all.Keys != 2*all.Read || all.Read != float64(mostPoints) {
		t.Errorf("lately %+v", all)
	}
	work(time.Hour) // nobody looked
	if last := m.points[len(m.points)-1]; !last.At.Before(now) {
		t.Errorf("an hour is a point: %+v", last)
	}
	status.State = rotation.RunDone
	if !m.observe(now, status) || m.observe(now, status) {
		t.Error("the end of the run is not seen once")
	}
	status.ID, status.State = "another", rotation.RunActive
	if m.observe(now, status); len(m.points) != 0 {
		t.Errorf("another run begins with %d points", len(m.points))
	}
}
