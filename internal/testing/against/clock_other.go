//go:build !linux

package against

import "time"

var started = time.Now()

// threadTime returns the wall time, for lack of a better clock.
func threadTime() time.Duration { return time.Since(started) }

// processTime returns the wall time too.
func processTime() time.Duration { return time.Since(started) }
