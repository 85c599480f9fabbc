package blindindex

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
)

const benchValue = "ada.lovelace@example.org"

var sinkText string

// An index costs what its hash costs: Argon2id with the default cost and Base64
// by hand are the limit, to be kept within 1.05 times.
func BenchmarkArgon2id(b *testing.B) {
	key := testKey()
	x := fast(b, Options{Algorithm: Argon2id{}})
	benchmarkAgainst(b, 1.05, func() {
		sinkText = base64.StdEncoding.EncodeToString(argon2.IDKey([]byte(benchValue), key, 3, 1<<12, 1, 32))
	}, func() {
		computeInto(b, x)
	})
}

// HMAC-SHA-256 and Base64 by hand are the limit, to be kept within 1.5 times.
func BenchmarkHMAC(b *testing.B) {
	key := testKey()
	x := fast(b, Options{})
	benchmarkAgainst(b, 1.5, func() {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(benchValue))
		sinkText = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}, func() {
		computeInto(b, x)
	})
}

// computeInto does without compute, whose b.Helper takes a tenth
// of the time that an HMAC takes.
func computeInto(b *testing.B, x *Index) {
	column, err := x.Compute(benchValue)
	if err != nil {
		b.Fatal(err)
	}
	sinkText = column.Text()
}

// Two workers on two processors do in one round what one does in two: at least
// 1.8 times as much, so at most 1/1.8 of the time. The limit is one worker.
func BenchmarkBulk(b *testing.B) {
	x := fast(b, Options{Algorithm: Argon2id{}})
	round := func(workers int) func() {
		return func() {
			for _, err := range Bulk(b.Context(), upTo(16), func(i int) (Column, error) { return x.Compute(i) }, BulkOptions{Workers: workers}) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	benchmarkAgainst(b, 1/1.8, round(1), round(2))
}

// benchmarkAgainst runs limit and ours by themselves, then in turns: "times" is
// the quotient of their least times, since whatever else the machine does only
// adds to a time. It fails above most, if there were rounds enough to meet a
// quiet moment.
func benchmarkAgainst(b *testing.B, most float64, limit, ours func()) {
	alone := func(f func()) func(b *testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		}
	}
	b.Run("limit", alone(limit))
	b.Run("ours", alone(ours))
	b.Run("ratio", func(b *testing.B) {
		var limits, own []time.Duration
		for b.Loop() {
			// Whoever comes second may pay for the garbage of the first.
			if len(own)%2 == 0 {
				limits, own = append(limits, timed(limit)), append(own, timed(ours))
			} else {
				own, limits = append(own, timed(ours)), append(limits, timed(limit))
			}
		}
		times := float64(slices.Min(own)) / float64(slices.Min(limits))
		b.ReportMetric(times, "times")
		const enough = 9
		if len(own) >= enough && times > most {
			b.Errorf("ours takes %.3f times the limit, want at most %.3f", times, most)
		}
	})
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
