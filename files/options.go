package files

import "runtime"

// Options change how an object is written or read, never its bytes. The zero
// value is right for most programs.
type Options struct {
	// Workers is how many goroutines [Writer.ReadFrom] and [Reader.WriteTo], and
	// so io.Copy, use at most, each with buffers of 1 MiB, or half of that for the
	// only one. Zero is 2, or 1 on a machine with one core. They call source, destination and Progress one at a
	// time, but not always from the caller's goroutine, and are gone when the
	// method returns. With 1 everything happens in the caller's goroutine, as it
	// always does in Write and Read.
	Workers int
	// Progress, if not nil, is told how many bytes of plaintext are done, after
	// every batch. It is never called twice at the same time.
	Progress func(done int64)
}

const maxWorkers = 1024

// check returns the options with the defaults filled in.
func (o Options) check() (Options, error) {
	if o.Workers < 0 || o.Workers > maxWorkers {
		return o, configError("%d workers, want 0 to %d", o.Workers, maxWorkers)
	}
	if o.Workers == 0 {
		o.Workers = min(2, runtime.GOMAXPROCS(0))
	}
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	return o, nil
}
