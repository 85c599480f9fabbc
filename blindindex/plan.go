package blindindex

import (
	"fmt"
	"math"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// Profile describes a column before it is indexed. Use the numbers expected when
// the table is large: an index that is safe among a million rows reveals more
// among a thousand.
type Profile struct {
	// Rows is the number of rows with a value, at least 1.
	Rows int
	// Distinct is the number of different values in these rows; 0 means one for each
	// row.
	Distinct int
	// TopShare is the share of rows that hold the most frequent value, up to 1; 0
	// means that all values are equally frequent.
	TopShare float64
	// TopPartitions is the number of index values of the most frequent value
	// ([Options.Partitions]); 0 means 1. The other values have one each.
	TopPartitions int
	// OtherBits is the sum of the widths of other indexes on the same value, such as
	// one of its last digits. Together they reveal more.
	OtherBits int
}

// Plan says what an index of a certain width costs and reveals. The numbers are
// expectations over the choice of the key, for a value of ordinary frequency.
// String returns the same in words.
type Plan struct {
	Profile
	// Bits is the width, for [Options.Bits].
	Bits int
	// Sought is the number of rows that hold the value looked up.
	Sought float64
	// Found is the number of rows that a look-up returns, including Sought.
	Found float64
	// ValuesPerColumn is the number of distinct values that share one index value, at
	// least 1.
	ValuesPerColumn float64
	// SameValue is the probability that a row with the same index value as a given
	// one (and the same values of the indexes of OtherBits) holds the same value.
	// That is what somebody who reads the table knows about the two.
	SameValue float64
	// TopFound and MeanFound are the number of rows that share the index value of the
	// most frequent value, and an index value on average.
	TopFound, MeanFound float64
}

// Propose returns the narrowest index whose look-ups return at most a given share
// of false rows: 0.5 means one false row for each sought, 0.9 nine. The more false
// rows a program can open and drop, the less the column reveals. Propose returns
// [kmsencrypted.ErrConfig] if falseShare is not between 0 and 1 or the profile is
// impossible.
func Propose(p Profile, falseShare float64) (Plan, error) {
	if !(0 < falseShare && falseShare < 1) {
		return Plan{}, fmt.Errorf("blindindex: %w: the share of false rows must lie between 0 and 1, not %v", kmsencrypted.ErrConfig, falseShare)
	}
	p, err := p.complete()
	if err != nil {
		return Plan{}, err
	}
	// A look-up of m among N rows meets (N-m)/2^b false ones. That is the share s
	// of all rows found when 2^b = (N-m)(1-s)/(ms).
	m := p.ordinary()
	candidates := (float64(p.Rows) - m) * (1 - falseShare) / (m * falseShare)
	bits := 1
	for bits < 8*MaxSize && math.Ldexp(1, bits) < candidates {
		bits++
	}
	return p.plan(bits), nil
}

// Examine returns what an index of a given width, 1 to 256 bits, costs and
// reveals. 256 means no truncation. Examine returns [kmsencrypted.ErrConfig] for
// another width or an impossible profile.
func Examine(p Profile, bits int) (Plan, error) {
	if bits < 1 || bits > 8*MaxSize {
		return Plan{}, fmt.Errorf("blindindex: %w: an index has 1 to %d bits, not %d", kmsencrypted.ErrConfig, 8*MaxSize, bits)
	}
	p, err := p.complete()
	if err != nil {
		return Plan{}, err
	}
	return p.plan(bits), nil
}

// complete checks the profile and fills in the defaults.
func (p Profile) complete() (Profile, error) {
	refused := func(what string) (Profile, error) {
		return Profile{}, fmt.Errorf("blindindex: %w: %s", kmsencrypted.ErrConfig, what)
	}
	p.Distinct = orDefault(p.Distinct, p.Rows)
	p.TopPartitions = orDefault(p.TopPartitions, 1)
	switch {
	case p.Rows < 1:
		return refused("a plan needs rows")
	case p.Distinct < 1 || p.Distinct > p.Rows:
		return refused("distinct values must be 1 to the number of rows")
	case p.TopPartitions < 1 || p.TopPartitions > MaxPartitions:
		return refused(fmt.Sprintf("partitions must be 1 to %d", MaxPartitions))
	case p.OtherBits < 0:
		return refused("the widths of other indexes cannot be negative")
	}
	even := 1 / float64(p.Distinct)
	if p.TopShare == 0 {
		p.TopShare = even
	}
	// Every other value occupies at least one row.
	most := float64(p.Rows-p.Distinct+1) / float64(p.Rows)
	const rounding = 1e-9
	if !(even-rounding <= p.TopShare && p.TopShare <= most+rounding) {
		return refused(fmt.Sprintf("with these rows and distinct values the top share lies between %.3g and %.3g", even, most))
	}
	return p, nil
}

// ordinary returns the number of rows of a value other than the most frequent one.
func (p Profile) ordinary() float64 {
	if p.Distinct == 1 {
		return float64(p.Rows)
	}
	return (1 - p.TopShare) * float64(p.Rows) / float64(p.Distinct-1)
}

// together returns the width of all indexes on the value. Beyond 256 bits the
// width makes no difference.
func (p Profile) together(bits int) int { return bits + min(p.OtherBits, 8*MaxSize) }

func (p Profile) plan(bits int) Plan {
	rows, distinct, spread := float64(p.Rows), float64(p.Distinct), float64(p.TopPartitions)
	m, top := p.ordinary(), p.TopShare*rows/spread
	chance := math.Ldexp(1, -bits) // that another value has the same index value

	// The number of index values in use, of 2^b.
	used := -math.Expm1((distinct-1+spread)*math.Log1p(-chance)) / chance

	// Of all other rows, m-1 agree with a given one because they hold its value,
	// the rest by chance.
	same := max(0, m-1)
	byChance := math.Ldexp(rows-1-same, -p.together(bits))
	sameValue := 1.0
	if same+byChance > 0 {
		sameValue = same / (same + byChance)
	}

	return Plan{
		Profile:         p,
		Bits:            bits,
		Sought:          m,
		Found:           m + (rows-m)*chance,
		ValuesPerColumn: 1 + (distinct-1)*chance,
		SameValue:       sameValue,
		TopFound:        top + (rows-top)*chance,
		MeanFound:       rows / min(used, rows),
	}
}

// FalseShare returns the share of false rows among those that a look-up returns.
func (p Plan) FalseShare() float64 { return 1 - p.Sought/p.Found }

// String describes the cost and the leaks of the index in words, one line for each
// point.
func (p Plan) String() string {
	lines := append([]string{fmt.Sprintf("%s for %s rows with %s distinct values: a look-up returns about %s, %s of them sought (%s false).",
		count(float64(p.Bits), "bit"), number(float64(p.Rows)), number(float64(p.Distinct)),
		count(p.Found, "row"), number(p.Sought), percent(p.FalseShare()))}, p.Leaks()...)
	return strings.Join(lines, "\n")
}

// Leaks describes in words what somebody learns who reads the index column without
// its key. The last line says what the key adds.
func (p Plan) Leaks() []string {
	leaks := []string{"Rows without a value are seen: NULL stays NULL."}
	different := "Rows with different index values hold different values"
	if p.TopPartitions > 1 {
		different += fmt.Sprintf(", but for the most frequent one, which has %d index values", p.TopPartitions)
	}
	leaks = append(leaks, different+".")
	if p.Distinct == 1 {
		leaks = append(leaks, "All rows hold the same value: an index tells nothing and finds nothing.")
	} else {
		leaks = append(leaks, p.equality(), p.frequency())
	}
	if p.ValuesPerColumn < 2 && p.Distinct > 2 {
		leaks = append(leaks, "Few values share their index value with another: equality is told nearly as by an index that is not truncated. A larger share of false rows hides more.")
	}
	if p.Found > p.Sought+math.Sqrt(float64(p.Rows)) {
		leaks = append(leaks, fmt.Sprintf("Look-ups open more false rows than the square root of the table, %s: a wider index is cheaper.", number(math.Sqrt(float64(p.Rows)))))
	}
	return append(leaks, fmt.Sprintf("Anybody who has the index key can test a guessed value at the cost of one hash; a wrong guess agrees with a given row by chance once in %s.",
		number(math.Ldexp(1, p.Bits))))
}

func (p Plan) equality() string {
	text := fmt.Sprintf("Rows with the same index value hold the same value with a probability of %s: an index value stands for %s on average.",
		percent(p.SameValue), count(p.ValuesPerColumn, "value"))
	if p.OtherBits > 0 {
		text += fmt.Sprintf(" The %s of other indexes on it are counted in: all together narrow a value down to one in %s.",
			count(float64(p.OtherBits), "bit"), number(min(math.Ldexp(1, p.together(p.Bits)), float64(p.Distinct))))
	}
	return text
}

// frequency describes the most frequent value. It stands out if its group is twice
// as large as the average one.
func (p Plan) frequency() string {
	groups := fmt.Sprintf("its index value is on %s, an average one on %s.", count(p.TopFound, "row"), number(p.MeanFound))
	if p.TopFound < 2*p.MeanFound {
		return "The most frequent value does not stand out: " + groups
	}
	text := "The most frequent value stands out: " + groups + " Anybody who knows which value that is can find these rows."
	if need := float64(p.TopPartitions) * math.Ceil(p.TopFound/p.MeanFound); need <= MaxPartitions {
		text += fmt.Sprintf(" Spread over about %.0f partitions it would not stand out.", need)
	}
	return text
}

func count(n float64, noun string) string {
	text := number(n) + " " + noun
	if number(n) != "1" {
		text += "s"
	}
	return text
}

// number formats a positive number for people: 12,345 or 3.2, and beyond a
// thousand million million as a power of two.
func number(n float64) string {
	switch {
	case n >= 1e15:
		return fmt.Sprintf("2^%.0f", math.Log2(n))
	case n < 100 && n != math.Trunc(n):
		return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0")
	}
	text := fmt.Sprintf("%.0f", n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func percent(share float64) string {
	switch {
	case share > 0 && share < 0.001:
		return "less than 0.1 %"
	case share < 1 && share > 0.999:
		return "more than 99.9 %"
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", 100*share), ".0") + " %"
}
