package blindindex

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// upTo yields 0 to n-1.
func upTo(n int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// peak counts how many goroutines are inside something at a time.
type peak struct {
	mu           sync.Mutex
	inside, most int
}

func (p *peak) enter() (leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inside++
	p.most = max(p.most, p.inside)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.inside--
	}
}

func TestBulkKeepsOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		var progress []int
		o := BulkOptions{Workers: 7, Total: n, Progress: func(done, total int) {
			if total != n {
				t.Errorf("Progress total = %d, want %d", total, n)
			}
			progress = append(progress, done)
		}}
		slow := func(i int) (int, error) {
			time.Sleep(time.Duration(i*37%11) * time.Millisecond) // later items finish before earlier ones
			return i * i, nil
		}
		next := 0
		for c, err := range Bulk(t.Context(), upTo(n), slow, o) {
			if err != nil || c.Item != next || c.Result != next*next {
				t.Fatalf("result %d = %+v, %v, want its square", next, c, err)
			}
			next++
		}
		if next != n || !slices.Equal(progress, numbers(n)) {
			t.Errorf("Bulk gave %d results and progress %v, want %d of each", next, progress, n)
		}
	})
}

// numbers are 1 to n.
func numbers(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i + 1
	}
	return list
}

func TestBulkUsesAllWorkersAndNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p peak
		start := time.Now()
		work := func(int) (struct{}, error) {
			defer p.enter()()
			time.Sleep(time.Second)
			return struct{}{}, nil
		}
		for _, err := range Bulk(t.Context(), upTo(20), work, BulkOptions{Workers: 4}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); p.most != 4 || took != 5*time.Second {
			t.Errorf("20 seconds of work on 4 workers took %v, %d at a time, want 5s, 4", took, p.most)
		}
	})
}

func TestBulkReportsBadItems(t *testing.T) {
	t.Parallel()
	x := fast(t, Options{Expression: func(p Plaintext) (Plaintext, error) {
		switch p.Text() {
		case "3":
			panic("secret value " + p.Text())
		case "5":
			return Text(p.Text()[:9]), nil // a panic of the runtime
		case "7":
			runtime.Goexit()
		}
		return p, nil
	}})
	broken := errors.New("row cannot be read")
	items := func(yield func(int, error) bool) {
		for i := range 10 {
			var err error
			if i == 1 {
				err = broken
			}
			if !yield(i, err) {
				return
			}
		}
	}
	wants := map[int]error{1: broken, 3: ErrPanic, 5: ErrPanic, 7: ErrPanic}
	next := 0
	for c, err := range Bulk(t.Context(), items, func(i int) (Column, error) { return x.Compute(i) }, BulkOptions{}) {
		if c.Item != next || !errors.Is(err, wants[next]) || c.Result.IsNull() != (wants[next] != nil) {
			t.Errorf("item %d = item %d, NULL %t, %v, want %v", next, c.Item, c.Result.IsNull(), err, wants[next])
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("item %d = %v, want an error without the text of the panic", next, err)
		}
		next++
	}
	if next != 10 {
		t.Errorf("Bulk gave %d results, want 10", next)
	}
}

func TestBulkCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		var started atomic.Int64
		work := func(i int) (int, error) {
			started.Add(1)
			time.Sleep(time.Second)
			return i, nil
		}
		var last error
		results := 0
		start := time.Now()
		for _, err := range Bulk(ctx, upTo(1000), work, BulkOptions{Workers: 2}) {
			if last = err; err == nil {
				results++
			}
		}
		if !errors.Is(last, context.DeadlineExceeded) || results != 4 {
			t.Errorf("Bulk gave %d results and last %v, want 4 and %v", results, last, context.DeadlineExceeded)
		}
		// Two were under way when the time was up, and are waited for.
		if took := time.Since(start); took != 3*time.Second || started.Load() != 6 {
			t.Errorf("Bulk ended after %v with %d started, want 3s, 6", took, started.Load())
		}
	})
}

func TestBulkAlreadyCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	work := func(int) (int, error) { return 0, errors.New("called") }
	yielded := 0
	for _, err := range Bulk(ctx, upTo(3), work, BulkOptions{}) {
		if yielded++; !errors.Is(err, context.Canceled) {
			t.Errorf("Bulk = %v, want %v", err, context.Canceled)
		}
	}
	if yielded != 1 {
		t.Errorf("Bulk yielded %d times, want once", yielded)
	}
}

// Breaking out leaves no goroutine behind: synctest fails the test otherwise.
func TestBulkBroken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		work := func(i int) (int, error) {
			time.Sleep(time.Millisecond)
			return i, nil
		}
		for c, err := range Bulk(t.Context(), upTo(1000), work, BulkOptions{Workers: 3}) {
			if err != nil {
				t.Fatal(err)
			}
			if c.Item == 5 {
				break
			}
		}
	})
}

// However many items there are, few of them are held.
func TestBulkMemoryIsFlat(t *testing.T) {
	t.Parallel()
	read, delivered := 0, 0
	items := func(yield func(string, error) bool) {
		for i := range 5000 {
			read++
			if !yield(fmt.Sprint(i), nil) {
				return
			}
		}
	}
	const workers = 3
	x := fast(t, Options{})
	for _, err := range Bulk(t.Context(), items, func(s string) (Column, error) { return x.Compute(s) }, BulkOptions{Workers: workers}) {
		if err != nil {
			t.Fatal(err)
		}
		if delivered++; read-delivered > 4*workers {
			t.Fatalf("%d items were read and %d delivered, want at most %d between", read, delivered, 4*workers)
		}
	}
	if delivered != 5000 {
		t.Errorf("Bulk gave %d results, want 5000", delivered)
	}
}

// Any number of workers returns the same results as one.
func TestBulkComputesTheSame(t *testing.T) {
	t.Parallel()
	x := fast(t, Options{Algorithm: Argon2id{MemoryLog2: 3}})
	for workers := range 4 { // 0 is the default
		for c, err := range Bulk(t.Context(), upTo(20), func(i int) (Column, error) { return x.Compute(i) }, BulkOptions{Workers: workers}) {
			if want := compute(t, x, c.Item); err != nil || c.Result != want {
				t.Errorf("item %d on %d workers = %q, %v, want %q", c.Item, workers, c.Result.Text(), err, want.Text())
			}
		}
	}
}
