package branch_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// BenchmarkRecord compares the work for a record under an open branch with that under the
// in-memory test key: want at most 1.6 times.
func BenchmarkRecord(b *testing.B) {
	service := newService(b)
	keys := open(b, newDir(b, branch.Limits{}), service, byTenant)
	for _, c := range []struct {
		name     string
		provider kmsencrypted.Provider
	}{{"test key", testkey.New()}, {"branch", keys}} {
		box, err := kmsencrypted.NewBox(c.provider)
		if err != nil {
			b.Fatal(err)
		}
		k := kmsencrypted.NewDataKey()
		to := kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"7"}, Context: kmsencrypted.Context{"tenant": "acme", "id": 7}}
		column, err := box.Wrap(b.Context(), k, to)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("wrap under "+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := box.Wrap(b.Context(), k, to); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("unwrap under "+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				k, err := box.Unwrap(b.Context(), column, to)
				if err != nil {
					b.Fatal(err)
				}
				k.Wipe()
			}
		})
	}
}

// BenchmarkColdPage opens 10,000 rows of one branch that is not open: one call.
func BenchmarkColdPage(b *testing.B) {
	const rows = 10_000
	service := newService(b)
	store := newDir(b, branch.Limits{})
	column, to := make([]kmsencrypted.WrappedKey, rows), kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"7"}, Context: kmsencrypted.Context{"tenant": "acme"}}
	page := func() *kmsencrypted.Box {
		box, err := kmsencrypted.NewBox(open(b, store, service, byTenant))
		if err != nil {
			b.Fatal(err)
		}
		return box
	}
	box := page()
	for i := range column {
		text, err := box.Wrap(b.Context(), kmsencrypted.NewDataKey(), to)
		if err != nil {
			b.Fatal(err)
		}
		column[i] = kmsencrypted.WrappedKey{Column: text, Binding: to}
	}
	for b.Loop() {
		service.Forget()
		for _, r := range page().UnwrapAll(b.Context(), column) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		if got := len(service.Calls()); got != 1 {
			b.Fatalf("%d calls for a cold page, want 1", got)
		}
	}
}

// BenchmarkManyBranches reads records of 1,000 branches in turn: as long as the keys of
// branches may stay open, each costs one call, however many reads there are.
//
//	go test ./providers/branch -run '^$' -bench ManyBranches -benchtime 1000000x
func BenchmarkManyBranches(b *testing.B) {
	const branches = 1000
	service := newService(b)
	store := newDir(b, branch.Limits{MaxAge: time.Hour})
	box := func() *kmsencrypted.Box {
		box, err := kmsencrypted.NewBox(open(b, store, service, byTenant))
		if err != nil {
			b.Fatal(err)
		}
		return box
	}
	writer, columns := box(), make([]kmsencrypted.WrappedKey, branches)
	for i := range columns {
		to := kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"7"}, Context: kmsencrypted.Context{"tenant": fmt.Sprint(i)}}
		text, err := writer.Wrap(b.Context(), kmsencrypted.NewDataKey(), to)
		if err != nil {
			b.Fatal(err)
		}
		columns[i] = kmsencrypted.WrappedKey{Column: text, Binding: to}
	}
	reader, n := box(), 0
	service.Forget()
	for b.Loop() {
		k, err := reader.Unwrap(b.Context(), columns[n%branches].Column, columns[n%branches].Binding)
		if err != nil {
			b.Fatal(err)
		}
		k.Wipe()
		n++
	}
	calls := len(service.Calls())
	if want := min(n, branches); calls != want {
		b.Fatalf("%d reads of %d branches: %d calls, want %d", n, branches, calls, want)
	}
	b.ReportMetric(float64(calls), "calls")
}
