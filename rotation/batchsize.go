package rotation

import (
	"sync"
	"time"
)

// batchSize adjusts the number of records in a batch, for all workers together,
// so that reading and writing it takes the target time.
type batchSize struct {
	target      time.Duration // 0 keeps the size
	least, most float64

	mu   sync.Mutex
	size float64
}

const (
	smallestBatch = 10
	// A larger batch is not faster and holds locks longer.
	largestBatch = 2000
	// maxStep limits the relative change from one batch to the next.
	maxStep = 0.2
)

func newBatchSize(size int, target time.Duration) *batchSize {
	return &batchSize{
		target: max(target, 0), size: float64(size),
		least: float64(min(size, smallestBatch)), most: float64(max(size, largestBatch)),
	}
}

func (b *batchSize) now() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(b.size)
}

// took records the time for a batch of n records.
func (b *batchSize) took(n int, d time.Duration) {
	if b.target == 0 || n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	const smoothing = 0.5 // weight of the last batch
	if float64(n) < b.size/2 {
		return // the end of a shard, which says little about a whole batch
	}
	wanted := float64(n) * float64(b.target) / float64(max(d, time.Millisecond))
	next := b.size + (wanted-b.size)*smoothing
	next = min(max(next, b.size*(1-maxStep)), b.size*(1+maxStep))
	b.size = min(max(next, b.least), b.most)
}

// shrink halves the batch size after a batch waited too long for another
// process's lock.
func (b *batchSize) shrink() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size = max(b.size/2, 1)
	b.least = min(b.least, b.size)
}
