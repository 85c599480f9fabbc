package blindindex

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// The proposed width is the narrowest with no larger share of false rows than
// wanted.
func TestProposeIsNarrowest(t *testing.T) {
	t.Parallel()
	for _, p := range []Profile{
		{Rows: 1}, {Rows: 2}, {Rows: 1000}, {Rows: 1_000_000}, {Rows: math.MaxInt32},
		{Rows: 1_000_000, Distinct: 1}, {Rows: 1_000_000, Distinct: 2}, {Rows: 1_000_000, Distinct: 50_000},
		{Rows: 1_000_000, Distinct: 50_000, TopShare: 0.2}, {Rows: 1_000_000, Distinct: 50_000, TopShare: 0.2, TopPartitions: 64},
	} {
		for _, share := range []float64{1e-9, 0.01, 0.5, 0.9, 0.999} {
			plan, err := Propose(p, share)
			if err != nil {
				t.Errorf("Propose(%+v, %v) = %v", p, share, err)
				continue
			}
			const rounding = 1e-9
			if got := plan.FalseShare(); got > share+rounding {
				t.Errorf("Propose(%+v, %v) = %d bits with %v false, want at most the share", p, share, plan.Bits, got)
			}
			if plan.Bits == 1 {
				continue
			}
			narrower, err := Examine(p, plan.Bits-1)
			if err != nil || narrower.FalseShare() < share-rounding {
				t.Errorf("Examine(%+v, %d) = %v false, %v, want more than %v", p, plan.Bits-1, narrower.FalseShare(), err, share)
			}
		}
	}
}

// What a plan expects is what an index does.
func TestPlanHolds(t *testing.T) {
	t.Parallel()
	const (
		ordinary, each, top = 3000, 2, 600 // 3000 values on 2 rows each, and one on 600
		rows                = ordinary*each + top
	)
	for _, partitions := range []int{1, 20} {
		for _, bits := range []int{4, 8, 12} {
			plan, err := Examine(Profile{Rows: rows, Distinct: ordinary + 1, TopShare: float64(top) / rows, TopPartitions: partitions}, bits)
			if err != nil {
				t.Fatal(err)
			}
			x := fast(t, Options{Bits: bits, Partitions: func(text string) int {
				if text == "top" {
					return partitions
				}
				return 1
			}})
			count := map[Column]int{}
			add := func(value any, n int) {
				for range n {
					count[compute(t, x, value)]++
				}
			}
			add("top", top)
			for i := range ordinary {
				add(i, each)
			}
			found, topFound := 0, 0
			for i := range ordinary {
				found += count[compute(t, x, i)]
			}
			lookup, err := x.Lookup("top")
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range lookup.Columns {
				topFound += count[c]
			}
			near(t, "Found", bits, partitions, plan.Found, float64(found)/ordinary)
			near(t, "TopFound", bits, partitions, plan.TopFound, float64(topFound)/float64(len(lookup.Columns)))
			near(t, "MeanFound", bits, partitions, plan.MeanFound, float64(rows)/float64(len(count)))
		}
	}
}

func near(t *testing.T, what string, bits, partitions int, planned, seen float64) {
	t.Helper()
	if math.Abs(planned-seen) > 0.1*seen {
		t.Errorf("%s of %d bits, %d partitions = %.1f, but an index has %.1f", what, bits, partitions, planned, seen)
	}
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	good := Profile{Rows: 1000, Distinct: 100}
	for _, p := range []Profile{
		{}, {Rows: -1}, {Rows: 10, Distinct: 11}, {Rows: 10, Distinct: -1},
		{Rows: 10, TopShare: 0.5}, {Rows: 1000, Distinct: 10, TopShare: 0.01}, {Rows: 1000, Distinct: 10, TopShare: 1.5},
		{Rows: 1000, Distinct: 10, TopShare: math.NaN()}, {Rows: 1000, Distinct: 10, TopShare: -0.1},
		{Rows: 10, TopPartitions: -1}, {Rows: 10, TopPartitions: 257}, {Rows: 10, OtherBits: -1},
	} {
		if _, err := Propose(p, 0.5); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Propose(%+v) = %v, want %v", p, err, kmsencrypted.ErrConfig)
		}
		if _, err := Examine(p, 8); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Examine(%+v) = %v, want %v", p, err, kmsencrypted.ErrConfig)
		}
	}
	for _, share := range []float64{0, 1, -0.5, 2, math.NaN(), math.Inf(1)} {
		if _, err := Propose(good, share); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Propose with a share of %v = %v, want %v", share, err, kmsencrypted.ErrConfig)
		}
	}
	for _, bits := range []int{0, -1, 257} {
		if _, err := Examine(good, bits); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Examine with %d bits = %v, want %v", bits, err, kmsencrypted.ErrConfig)
		}
	}
}

func TestPlanSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p    Profile
		bits int
		want string
	}{
		{Profile{Rows: 1_000_000, Distinct: 50_000}, 13, "13 bits for 1,000,000 rows with 50,000 distinct values: a look-up returns about 142 rows, 20 of them sought (85.9 % false)."},
		{Profile{Rows: 1_000_000, Distinct: 50_000, TopShare: 0.2}, 13, "The most frequent value stands out: its index value is on 200,098 rows"},
		{Profile{Rows: 1_000_000, Distinct: 50_000, TopShare: 0.001}, 13, "Spread over about 10 partitions it would not stand out."},
		{Profile{Rows: 1_000_000, Distinct: 50_000, TopShare: 0.001, TopPartitions: 10}, 13, "The most frequent value does not stand out"},
		{Profile{Rows: 1_000_000, Distinct: 50_000, TopShare: 0.001, TopPartitions: 10}, 13, "but for the most frequent one, which has 10 index values."},
		{Profile{Rows: 1_000_000}, 256, "Few values share their index value"},
		{Profile{Rows: 1_000_000}, 256, "once in 2^256"},
		{Profile{Rows: 1_000_000}, 4, "wider index is cheaper"},
		{Profile{Rows: 1_000_000, OtherBits: 10}, 5, "The 10 bits of other indexes on it are counted in: all together narrow a value down to one in 32,768."},
		{Profile{Rows: 10, Distinct: 1}, 1, "All rows hold the same value"},
	} {
		plan, err := Examine(c.p, c.bits)
		if err != nil || !strings.Contains(plan.String(), c.want) {
			t.Errorf("Examine(%+v, %d) = %v\n%v\nwant in it: %s", c.p, c.bits, err, plan, c.want)
		}
	}
}

// No profile that is accepted gives a plan without sense.
func FuzzPropose(f *testing.F) {
	f.Add(1_000_000, 50_000, 0.2, 16, 8, 0.5)
	f.Add(1, 1, 0.0, 1, 0, 0.999)
	f.Add(math.MaxInt, 2, 0.5, 256, math.MaxInt, 1e-300)
	f.Fuzz(func(t *testing.T, rows, distinct int, topShare float64, partitions, otherBits int, share float64) {
		p := Profile{Rows: rows, Distinct: distinct, TopShare: topShare, TopPartitions: partitions, OtherBits: otherBits}
		plan, err := Propose(p, share)
		if err != nil {
			if !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("Propose(%+v, %v) = %v, want %v", p, share, err, kmsencrypted.ErrConfig)
			}
			return
		}
		const rounding = 1e-6
		if plan.Bits < 1 || plan.Bits > 256 || plan.Found < plan.Sought || plan.Found > float64(rows)*(1+rounding) ||
			!(0 <= plan.SameValue && plan.SameValue <= 1) || !(1 <= plan.ValuesPerColumn) || !(0 < plan.MeanFound) || !(0 < plan.TopFound) {
			t.Errorf("Propose(%+v, %v) = %#v, want sensible numbers", p, share, plan)
		}
		for _, line := range append(plan.Leaks(), plan.String()) {
			if strings.Contains(line, "NaN") || strings.Contains(line, "Inf") || strings.Contains(line, "%!") {
				t.Errorf("Propose(%+v, %v) says %q", p, share, line)
			}
		}
	})
}
