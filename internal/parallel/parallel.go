// Package parallel calls a function many times, with a limited number of calls at
// once.
package parallel

import (
	"sync"
	"sync/atomic"
)

// Parts calls f for consecutive parts of 0 to n-1, of size each, at most limit at a time.
// It is Do for work that is too little for a call of its own.
func Parts(n, size, limit int, f func(from, to int)) {
	if n <= size {
		f(0, n)
		return
	}
	Do((n+size-1)/size, limit, func(i int) { f(i*size, min((i+1)*size, n)) })
}

// Do calls f for 0 to n-1, at most limit calls at a time, and returns when all
// calls have ended. A limit below 1 means 1. If calls panic, Do makes no more of them and
// panics with the value of one, so that its caller can recover as from a loop.
func Do(n, limit int, f func(i int)) {
	if n == 1 || limit <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	var panicked atomic.Pointer[any]
	for range min(n, limit) {
		workers.Go(func() {
			defer func() {
				if cause := recover(); cause != nil {
					panicked.Store(&cause)
					next.Store(int64(n))
				}
			}()
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	workers.Wait()
	if cause := panicked.Load(); cause != nil {
		panic(*cause)
	}
}
