package files

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counting is a pipeline of n batches without anything in them; a nil of read or
// write does nothing.
func counting(t *testing.T, workers, n int, read, write func(index int64)) *pipeline {
	next := int64(0)
	return &pipeline{
		ctx: t.Context(), workers: workers, size: 1,
		read: func(b *batch) (more bool) {
			if b.index = next; read != nil {
				read(b.index)
			}
			next++
			return next < int64(n)
		},
		work: func(*batch) error { return nil },
		write: func(b *batch) error {
			if write != nil {
				write(b.index)
			}
			return nil
		},
	}
}

// Behind a destination that takes long, memory is bounded: the clock of the
// bubble goes on only when every worker waits.
func TestPipelineReadsAhead(t *testing.T) {
	t.Parallel()
	for workers, want := range map[int]int64{1: 1, 2: 4, 3: 6} {
		synctest.Test(t, func(t *testing.T) {
			const n = 20
			var read atomic.Int64
			var written, most int64 // one at a time
			p := counting(t, workers, n, func(int64) { read.Add(1) }, func(index int64) {
				time.Sleep(time.Second)
				if index != written {
					t.Errorf("%d workers: batch %d is written as number %d", workers, index, written)
				}
				most = max(most, read.Load()-written)
				written++
			})
			if err := p.run(); err != nil || written != n {
				t.Errorf("%d workers: run = %v after %d batches of %d", workers, err, written, n)
			}
			if most != want {
				t.Errorf("%d workers: %d batches were in hand, want %d", workers, most, want)
			}
		})
	}
}

// A source may wait for what came before to arrive, as one end of a dialogue does.
func TestPipelineOfDialogue(t *testing.T) {
	t.Parallel()
	for workers := 1; workers <= 3; workers++ {
		synctest.Test(t, func(t *testing.T) {
			arrived := make(chan int64, 1)
			p := counting(t, workers, 20, func(index int64) {
				if index > 0 && <-arrived != index-1 {
					t.Errorf("%d workers: another batch than %d arrived", workers, index-1)
				}
			}, func(index int64) { arrived <- index })
			if err := p.run(); err != nil {
				t.Errorf("%d workers: run = %v", workers, err)
			}
		})
	}
}

// A panic of source or destination reaches the caller, and the other workers end.
func TestPipelinePanics(t *testing.T) {
	t.Parallel()
	goroutine := func() string {
		line := make([]byte, 64)
		line, _, _ = bytes.Cut(line[:runtime.Stack(line, false)], []byte("["))
		return string(line)
	}
	for _, of := range []string{"source", "destination"} {
		synctest.Test(t, func(t *testing.T) {
			caller := goroutine()
			// In the caller's goroutine, the only one in which it can be caught.
			fail := func(index int64) {
				time.Sleep(time.Second)
				if index > 2 && goroutine() == caller {
					panic(of)
				}
			}
			p := counting(t, 2, 1<<30, fail, nil)
			if of == "destination" {
				p = counting(t, 2, 1<<30, nil, fail)
			}
			// So that sooner or later it is the caller's turn to read or write.
			p.work = func(*batch) error {
				time.Sleep(rand.N(3 * time.Second))
				return nil
			}
			defer func() {
				if got := recover(); got != of {
					t.Errorf("run panics with %v, want %q", got, of)
				}
			}()
			p.run()
		})
	}
}
