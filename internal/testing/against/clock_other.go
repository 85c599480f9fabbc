//go:build !linux

package against

import "time"

var started = time.Now()

// threadTime is the time on the wall where there is no better one.
func threadTime() time.Duration { return time.Since(started) }
