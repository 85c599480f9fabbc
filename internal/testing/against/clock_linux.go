package against

import (
	"syscall"
	"time"
	"unsafe"
)

// threadTime returns the CPU time of this thread.
func threadTime() time.Duration {
	const clockThreadCPUTime = 3 // CLOCK_THREAD_CPUTIME_ID, which package syscall lacks
	var ts syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockThreadCPUTime, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic("against: " + errno.Error())
	}
	return time.Duration(ts.Nano())
}
