package files

import (
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
)

// reads is the number of ranges in a job.
const reads = 64

var rangeSizes = []int{64 << 10, 4 << 10}

// readRanges reads random ranges of an object, the same ones in each library.
func readRanges(r io.ReaderAt, size int) func() {
	random := rand.New(rand.NewPCG(1, 2))
	buffer := make([]byte, size)
	return func() {
		for range reads {
			n, err := r.ReadAt(buffer, random.Int64N(objectSize-int64(size)))
			if err == io.EOF {
				err = nil
			}
			if err == nil && n != size {
				err = fmt.Errorf("%d bytes instead of %d", n, size)
			}
			job.Must(err)
		}
	}
}
