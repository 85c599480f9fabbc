package field_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/against"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/limit"
)

// slowKey is a key service that takes 5 ms a call.
type slowKey struct {
	limit.Key
	calls *atomic.Int64
}

func (slowKey) InMemory(impossible) {} // takes the mark of limit.Key away

type impossible struct{}

const latency = 5 * time.Millisecond

func (k slowKey) Decrypt(ctx context.Context, ciphertext []byte, ec kmsencrypted.BoundContext) ([]byte, error) {
	k.calls.Add(1)
	time.Sleep(latency)
	return k.Key.Decrypt(ctx, ciphertext, ec)
}

// A page of 100 records with n calls at a time; the limit is these calls, n at a
// time, and nothing else: more than ceil(100/n) times 5 ms by what it takes to
// wake up n times. With a cache that holds the keys there are no calls; the limit of
// that is opening as many columns under one key.
func BenchmarkOpenPage(b *testing.B) {
	const rows = 100
	for _, n := range []int{1, 10, 25, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := newPage(b, rows, n, nil)
			against.Limit(b, 1.15, func() {
				p.justCall(b, n)
			}, func() {
				if calls := p.open(b); calls != rows {
					b.Fatalf("%d calls for a page of %d", calls, rows)
				}
			})
		})
	}
	b.Run("cached", func(b *testing.B) {
		p := newPage(b, rows, 50, &kmsencrypted.CacheConfig{})
		p.open(b)
		c := limit.NewCipher(limit.Random(32), limit.Random(8), false)
		columns := c.Seal()
		against.Limit(b, 4.5, func() {
			for range rows {
				if _, err := c.Open(columns); err != nil {
					b.Fatal(err)
				}
			}
		}, func() {
			if calls := p.open(b); calls != 0 {
				b.Fatalf("%d calls for a page whose keys are cached", calls)
			}
		})
	})
}

// page is records as they lie in a table.
type page struct {
	model   *field.Model[five]
	calls   atomic.Int64
	records []five
	keys    []any
	columns [][5]any

	provider   slowKey // and what it made of some key
	ciphertext []byte
	context    kmsencrypted.BoundContext
}

func newPage(b *testing.B, rows, concurrency int, cache *kmsencrypted.CacheConfig) *page {
	b.Helper()
	p := new(page)
	p.provider = slowKey{limit.NewKey(), &p.calls}
	var err error
	if p.context, err = kmsencrypted.Bind(kmsencrypted.ModelContext{Name: "customers", ID: "1"}); err != nil {
		b.Fatal(err)
	}
	if p.ciphertext, err = p.provider.Encrypt(b.Context(), limit.Random(kmsencrypted.DataKeySize), p.context); err != nil {
		b.Fatal(err)
	}
	p.fill(b, rows, kmsencrypted.Config{
		Current: 1, Concurrency: concurrency, Cache: cache,
		Versions: map[int]kmsencrypted.Version{1: {Provider: p.provider}},
	})
	return p
}

// fill seals the records of the page.
func (p *page) fill(b *testing.B, rows int, config kmsencrypted.Config) {
	b.Helper()
	box, err := config.Box()
	if err != nil {
		b.Fatal(err)
	}
	p.records = make([]five, rows)
	p.model = newModel[five](b, box, field.Config{Table: "customers"})
	for i := range p.records {
		p.records[i] = five{ID: int64(i + 1)}
		setFive(&p.records[i])
	}
	if err := p.model.Seal(b.Context(), field.Pointers(p.records)...); err != nil {
		b.Fatal(err)
	}
	for i := range p.records {
		p.keys = append(p.keys, column(b, p.records[i].Key))
		p.columns = append(p.columns, columnsOf(b, &p.records[i]))
	}
}

// justCall makes the calls that open makes.
func (p *page) justCall(b *testing.B, n int) {
	var next atomic.Int64
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			for next.Add(1) <= int64(len(p.records)) {
				if _, err := p.provider.Decrypt(b.Context(), p.ciphertext, p.context); err != nil {
					b.Error(err)
				}
			}
		})
	}
	callers.Wait()
}

// open reads and opens the page and returns how many calls that took.
func (p *page) open(b *testing.B) int64 {
	before := p.calls.Load()
	for i := range p.records {
		if err := p.records[i].Key.Scan(p.keys[i]); err != nil {
			b.Fatal(err)
		}
		scanFive(b, &p.records[i], p.columns[i])
	}
	if err := p.model.Open(b.Context(), field.Pointers(p.records)...); err != nil {
		b.Fatal(err)
	}
	return p.calls.Load() - before
}

// The records of a large page are opened and sealed on all cores: 1,000 on two cores
// against one, with data keys that a provider in memory unwraps, and from the cache.
func BenchmarkPageOnCores(b *testing.B) {
	on := func(cores int, f func()) func() {
		return func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
			f()
		}
	}
	for name, cache := range map[string]*kmsencrypted.CacheConfig{"memory": nil, "cached": {}} {
		b.Run(name, func(b *testing.B) {
			p := new(page)
			p.fill(b, 1000, kmsencrypted.Config{
				Current: 1, Cache: cache, Versions: map[int]kmsencrypted.Version{1: {Provider: newMemoryKey()}},
			})
			p.open(b)
			open := func() { p.open(b) }
			against.PairCores(b, "times", on(1, open), on(2, open))
		})
	}
}
