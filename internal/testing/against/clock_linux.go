package against

import (
	"syscall"
	"time"
	"unsafe"
)

// Clocks that package syscall lacks.
const (
	clockProcessCPUTime = 2 // CLOCK_PROCESS_CPUTIME_ID
	clockThreadCPUTime  = 3 // CLOCK_THREAD_CPUTIME_ID
)

// threadTime returns the CPU time of this thread.
func threadTime() time.Duration { return read(clockThreadCPUTime) }

// processTime returns the CPU time of all threads of this process.
func processTime() time.Duration { return read(clockProcessCPUTime) }

func read(clock uintptr) time.Duration {
	var ts syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic("against: " + errno.Error())
	}
	return time.Duration(ts.Nano())
}
