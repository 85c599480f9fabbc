package blindindex

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	key := testKey()
	for name, c := range map[string]struct {
		key    []byte
		column string
		o      Options
	}{
		"no key":                      {nil, "email_bidx", Options{}},
		"short key":                   {key[1:], "email_bidx", Options{}},
		"hex digits as bytes":         {[]byte(hex.EncodeToString(key)), "email_bidx", Options{}},
		"no column":                   {key, "", Options{}},
		"size too large":              {key, "email_bidx", Options{Size: 33}},
		"size negative":               {key, "email_bidx", Options{Size: -1}},
		"size too small for argon2":   {key, "email_bidx", Options{Size: 3}},
		"bits too many":               {key, "email_bidx", Options{Bits: 257}},
		"bits negative":               {key, "email_bidx", Options{Bits: -1}},
		"bits and size":               {key, "email_bidx", Options{Bits: 16, Size: 16}},
		"insecure key without PBKDF2": {key, "email_bidx", Options{InsecureKey: true}},
		"insecure key that is empty":  {nil, "email_bidx", Options{InsecureKey: true, Algorithm: PBKDF2{}}},
	} {
		x, err := New(c.key, c.column, c.o)
		if !errors.Is(err, kmsencrypted.ErrConfig) || x != nil {
			t.Errorf("%s: New = %v, %v, want %v", name, x, err, kmsencrypted.ErrConfig)
			continue
		}
		if strings.Contains(err.Error(), hex.EncodeToString(key[1:])) {
			t.Errorf("%s: New = %v, want an error without the key", name, err)
		}
	}
}

// What blind_index does not have: the bytes were computed with OpenSSL.
func TestNativeForms(t *testing.T) {
	t.Parallel()
	const (
		value = "test@example.org"
		whole = "d42e3790527238f3c825f26f39c5fab939fb08db268b03c16fab9e767f56665f"
		part1 = "1f6608136512ec15c340703cda9bd28ccdb9da60915c77b072326ef6ae57af38"
		last  = "cf38048059871fb1cc5918b1de0ff21612b7dda23f6dbc154f1c91a20424fe4f"
	)
	compound, err := Compound("lovelace", 1815)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		o     Options
		value any
		want  []string
	}{
		{"HMAC", Options{}, value, []string{whole}},
		{"HMAC of the empty text", Options{}, "", []string{"8969fbfb34c4777dfac67f8c5c68e83ec37ace783c98b3722a979878e625871b"}},
		{"compound", Options{}, compound, []string{"bb74ca84f847df3c64857bf70c894f99a9f33a3a98952fc3405a36c04264f61a"}},
		{"size", Options{Size: 5}, value, []string{whole[:10]}},
		{"16 bits", Options{Bits: 16}, value, []string{"d42e"}},
		{"12 bits", Options{Bits: 12}, value, []string{"d420"}},
		{"2 bits", Options{Bits: 2}, value, []string{"c0"}},
		{"256 bits", Options{Bits: 256}, value, []string{whole}},
		{"12 bits of Argon2id", Options{Bits: 12, Algorithm: Argon2id{}}, value, []string{"4fd0"}}, // blind_index.json has the whole: 4fd9…
		{"two partitions", Options{Partitions: func(string) int { return 2 }}, value, []string{whole, part1}},
	} {
		c.o.Encoding = Raw
		lookup, err := fast(t, c.o).Lookup(c.value)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, column := range lookup.Columns {
			got = append(got, hex.EncodeToString(column.Bytes()))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: Lookup = %s, want %s", c.name, got, c.want)
		}
	}
	all := fast(t, Options{Encoding: Raw, Partitions: func(string) int { return MaxPartitions }})
	lookup, err := all.Lookup(value)
	if err != nil || len(lookup.Columns) != MaxPartitions || hex.EncodeToString(lookup.Columns[255].Bytes()) != last {
		t.Errorf("Lookup over %d partitions = %d columns, %v, want the last to be %s", MaxPartitions, len(lookup.Columns), err, last)
	}
}

func TestNullAndEmpty(t *testing.T) {
	t.Parallel()
	x := fast(t, Options{})
	for _, null := range []any{nil, (*string)(nil), []byte(nil), Plaintext{}} {
		if got := compute(t, x, null); !got.IsNull() {
			t.Errorf("Compute(%#v) = %q, want NULL", null, got.Text())
		}
	}
	if got := compute(t, x, ""); got.IsNull() || got != compute(t, x, []byte{}) {
		t.Errorf("Compute of the empty text = NULL %t, want one index for text and bytes", got.IsNull())
	}
	if a, b := compute(t, x, 123), compute(t, x, "123"); a != b {
		t.Error("Compute(123) differs from Compute(\"123\"), want them equal")
	}
	// An expression sees NULL and may give it an index, as v.to_s does in Ruby.
	toS := fast(t, Options{Expression: func(p Plaintext) (Plaintext, error) { return Text(p.Text()), nil }})
	if got := compute(t, toS, nil); got != compute(t, x, "") {
		t.Errorf("Compute(NULL) under to_s = %q, want the index of the empty text", got.Text())
	}
}

func TestLongValues(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long text ", 100_000)
	for _, a := range []Algorithm{HMAC{}, Argon2id{}, PBKDF2{}, Scrypt{}} {
		x := fast(t, Options{Algorithm: a})
		one, other := compute(t, x, long), compute(t, x, long[:len(long)-1]+"!")
		if one == other {
			t.Errorf("%v: Compute of two texts of 1 MB that differ in the last byte are equal", a)
		}
	}
}

func TestErrorsOfExpression(t *testing.T) {
	t.Parallel()
	cause := errors.New("no")
	x := fast(t, Options{Expression: func(Plaintext) (Plaintext, error) { return Text("x"), cause }})
	if column, err := x.Compute("ada"); !errors.Is(err, cause) || !column.IsNull() || strings.Contains(err.Error(), "ada") {
		t.Errorf("Compute = %q, %v, want NULL and %v", column.Text(), err, cause)
	}
	if _, err := x.Lookup("ada"); !errors.Is(err, cause) {
		t.Errorf("Lookup = %v, want %v", err, cause)
	}
	if _, err := x.Compute(struct{}{}); !errors.Is(err, ErrValue) {
		t.Errorf("Compute(struct{}{}) = %v, want %v", err, ErrValue)
	}
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	spread := map[string]int{"common": 4, "none": 0, "many": MaxPartitions + 1}
	x := fast(t, Options{Partitions: func(text string) int {
		if n, ok := spread[text]; ok {
			return n
		}
		return 1
	}})
	if x.Deterministic() || !fast(t, Options{}).Deterministic() {
		t.Error("Deterministic() = with partitions true or without false, want the reverse")
	}
	lookup, err := x.Lookup("common")
	if err != nil || len(lookup.Columns) != 4 {
		t.Fatalf("Lookup(common) = %d columns, %v, want 4", len(lookup.Columns), err)
	}
	written := map[Column]int{}
	for range 400 {
		written[compute(t, x, "common")]++
	}
	for _, column := range lookup.Columns {
		// 100 are expected; fewer than 50 would be five standard deviations and more.
		if written[column] < 50 {
			t.Errorf("a partition was written %d times of 400, want about 100", written[column])
		}
		delete(written, column)
	}
	if len(written) != 0 {
		t.Errorf("%d columns were written that a look-up does not search for", len(written))
	}
	if got, want := compute(t, x, "rare"), compute(t, fast(t, Options{}), "rare"); got != want {
		t.Error("a value with one partition has another column than without partitions")
	}
	for _, value := range []string{"none", "many"} {
		if _, err := x.Compute(value); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Compute(%s) = %v, want %v", value, err, kmsencrypted.ErrConfig)
		}
		if _, err := x.Lookup(value); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("Lookup(%s) = %v, want %v", value, err, kmsencrypted.ErrConfig)
		}
	}
	if got := compute(t, x, nil); !got.IsNull() {
		t.Errorf("Compute(NULL) = %q, want NULL", got.Text())
	}
}

func TestKeyIsCopied(t *testing.T) {
	t.Parallel()
	key := testKey()
	x, err := New(key, "email_bidx", Options{Algorithm: HMAC{}})
	if err != nil {
		t.Fatal(err)
	}
	before := compute(t, x, "ada")
	clear(key)
	if after := compute(t, x, "ada"); after != before {
		t.Error("Compute changed after the caller wiped the key, want a copy of the key")
	}
}

func TestMemoryHardCallsAreLimited(t *testing.T) {
	t.Parallel()
	x := fast(t, Options{Algorithm: Argon2id{MemoryLog2: 3}})
	var p peak
	sum := x.sum
	x.sum = func(value []byte, partition int) ([]byte, error) {
		defer p.enter()()
		time.Sleep(time.Millisecond)
		return sum(value, partition)
	}
	var group sync.WaitGroup
	for i := range 10 * cap(x.slots) {
		group.Go(func() {
			if _, err := x.Compute(i); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if p.most > cap(x.slots) {
		t.Errorf("%d hashes ran at a time, want at most %d", p.most, cap(x.slots))
	}
	if x := fast(t, Options{}); x.slots != nil {
		t.Error("HMAC is limited, want it free")
	}
}

func TestNameAndBits(t *testing.T) {
	t.Parallel()
	x, err := Derive(testMaster(), "users", "email_bidx", Options{Size: 16})
	if err != nil {
		t.Fatal(err)
	}
	if x.Name() != "email_bidx" || x.Bits() != 128 {
		t.Errorf("Name(), Bits() = %q, %d, want email_bidx, 128", x.Name(), x.Bits())
	}
}

// A narrower index is the head of a wider one.
func FuzzBits(f *testing.F) {
	f.Add("ada", 1, 256)
	f.Add("", 7, 9)
	f.Add("x", 8, 16)
	f.Fuzz(func(t *testing.T, value string, narrow, wide int) {
		if narrow < 1 || wide > 256 || narrow > wide {
			return
		}
		head := compute(t, fast(t, Options{Bits: narrow, Encoding: Raw}), value).Bytes()
		whole := compute(t, fast(t, Options{Bits: wide, Encoding: Raw}), value).Bytes()
		if got := truncate(whole, narrow); string(got) != string(head) {
			t.Errorf("first %d of %d bits of %q = %x, want %x", narrow, wide, value, got, head)
		}
	})
}
