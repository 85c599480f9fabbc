package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is how long this thread has computed, without the time that others
// had the core.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}
