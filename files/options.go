package files

import "runtime"

// Options change how an object is written or read, never its bytes. The zero value suits most programs.
type Options struct {
	// Workers is the maximum number of goroutines that [Writer.ReadFrom] and [Reader.WriteTo], and so
	// io.Copy, use. Each has buffers of 1 MiB; a single one has half of that. Zero means 2, or 1 on a
	// machine with one core. The goroutines call source, destination and Progress one at a time, but not
	// always from the caller's goroutine, and have ended when the method returns. With 1, everything happens
	// in the caller's goroutine, as it always does in Write and Read.
	Workers int
	// Progress, if not nil, receives the number of plaintext bytes done after every batch. Calls never
	// overlap.
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
