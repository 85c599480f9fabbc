package rotatecli

import (
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotatecli/internal/ui"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// meter measures a run by what its ledger says from time to time.
type meter struct {
	run    string
	state  rotation.RunState
	rate   rate
	points []ui.Point
	last   rotation.Status // at the end of the last point
	at     time.Time
}

const (
	pointLasts = 2 * time.Second
	mostPoints = 150
	// longestPoint is how long a time may be of which nobody saw anything in between.
	longestPoint = 30 * time.Second
)

// observe adds what the ledger says now. ended means that the run was seen unfinished
// before.
func (m *meter) observe(now time.Time, s rotation.Status) (ended bool) {
	if m.run != s.ID {
		*m = meter{run: s.ID, state: s.State, last: s, at: now}
	}
	ended = m.state.Unfinished() && !s.State.Unfinished()
	m.state = s.State
	if s.State.Unfinished() {
		m.measure(now, s)
	}
	return ended
}

// measure adds a point if it is time for one.
func (m *meter) measure(now time.Time, s rotation.Status) {
	m.rate.add(now, s.Written)
	passed := now.Sub(m.at)
	if passed < pointLasts {
		return
	}
	if passed <= longestPoint {
		seconds := passed.Seconds()
		spent := spentOn(between(m.last.Stages, s.Stages))
		m.points = append(m.points, ui.Point{
			At: now, PerSecond: float64(s.Written-m.last.Written) / seconds,
			Spent: ui.Spent{Read: spent.Read / seconds, Keys: spent.Keys / seconds, Wait: spent.Wait / seconds, Write: spent.Write / seconds},
		})
		m.points = m.points[max(0, len(m.points)-mostPoints):]
	}
	m.last, m.at = s, now
}

// lately is what the time of all points was spent on.
func (m *meter) lately() (all ui.Spent) {
	for _, p := range m.points {
		all.Read += p.Read
		all.Keys += p.Keys
		all.Wait += p.Wait
		all.Write += p.Write
	}
	return all
}

func between(from, to rotation.Stages) rotation.Stages {
	return rotation.Stages{Read: to.Read - from.Read, Rotate: to.Rotate - from.Rotate, Wait: to.Wait - from.Wait, Write: to.Write - from.Write}
}

func spentOn(s rotation.Stages) ui.Spent {
	return ui.Spent{Read: s.Read.Seconds(), Keys: s.Rotate.Seconds(), Wait: s.Wait.Seconds(), Write: s.Write.Seconds()}
}
