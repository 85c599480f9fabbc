package bench

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
)

const objectSize = 64 << 20

// BenchmarkRanges reads random ranges of a file in the page cache. "times-ours" is
// how many times as long as ours a peer takes.
func BenchmarkRanges(b *testing.B) {
	plaintext := random(objectSize)
	us := ours(b, 1)
	ourAt, err := us.ranges(us.object(b, plaintext))
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range peers(b) {
		at, err := p.ranges(p.object(b, plaintext))
		if err != nil {
			b.Fatal(err)
		}
		rounds := 64
		if p.at == nil {
			rounds = 2
		}
		for _, c := range []struct {
			name string
			size int
		}{{"64 KiB", 64 << 10}, {"4 KiB", 4 << 10}} {
			b.Run(c.name+"/"+p.name, func(b *testing.B) {
				offsets := rand.New(rand.NewPCG(1, 2))
				where := make([]int64, rounds)
				buffer := make([]byte, c.size)
				read := func(r io.ReaderAt) func() {
					return func() {
						for _, off := range where {
							if n, err := r.ReadAt(buffer, off); n != c.size || err != nil && err != io.EOF {
								b.Fatal(n, err)
							}
						}
					}
				}
				theirs, ours := read(at), read(ourAt)
				against.Pair(b, "times-ours", func() {
					for i := range where {
						where[i] = offsets.Int64N(objectSize - int64(c.size))
					}
					theirs()
				}, ours)
			})
		}
	}
}
