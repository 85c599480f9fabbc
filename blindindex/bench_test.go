package blindindex

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"runtime"
	"testing"

	"golang.org/x/crypto/argon2"

	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
)

const benchValue = "ada.lovelace@example.org"

var sinkText string

// An index costs what its hash costs: Argon2id with the default cost and Base64
// by hand are the limit, to be kept within 1.05 times.
func BenchmarkArgon2id(b *testing.B) {
	key := testKey()
	x := fast(b, Options{Algorithm: Argon2id{}})
	against.Limit(b, 1.05, func() {
		sinkText = base64.StdEncoding.EncodeToString(argon2.IDKey([]byte(benchValue), key, 3, 1<<12, 1, 32))
	}, func() {
		computeInto(b, x)
	})
}

// HMAC-SHA-256 and Base64 by hand are the limit, to be kept within 1.5 times.
func BenchmarkHMAC(b *testing.B) {
	key := testKey()
	x := fast(b, Options{})
	against.Limit(b, 1.5, func() {
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
// 1.8 times as much, so at most 1/1.8 of the time. The limit is one worker on one
// processor, without a second one that collects garbage at the same time.
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
	one, two := round(1), round(2)
	against.Limit(b, 1/1.8, func() {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		one()
	}, two)
}
