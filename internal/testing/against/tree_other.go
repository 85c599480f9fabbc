//go:build !linux

package against

import "time"

// TreeTime returns the wall time, for lack of a better clock.
func TreeTime() time.Duration { return time.Since(started) }
