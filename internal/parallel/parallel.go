// Package parallel calls a function many times, with a limited number of calls at
// once.
package parallel

import (
	"sync"
	"sync/atomic"
)

// Do calls f for 0 to n-1, at most limit calls at a time, and returns when all
// calls have ended. A limit below 1 means 1.
func Do(n, limit int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, max(limit, 1)) {
		workers.Go(func() {
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
}
