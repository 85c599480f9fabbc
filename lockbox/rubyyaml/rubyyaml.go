// Package rubyyaml reads and writes the YAML of Ruby's Psych, as Rails stores it
// in serialized columns and Lockbox in attributes of type hash and array:
//
//	t, err := lockbox.ParseType("hash", rubyyaml.Codec{})
//
// Ruby's YAML is version 1.1 with rules of its own: yes is true, 012 is ten,
// :name is a symbol. Reading follows Psych's rules; what is written reads back
// in Ruby as the same value, because everything doubtful is put in quotes.
//
// A value of Ruby is one of these in Go: nil, bool, int64, *big.Int (beyond
// int64), float64, string, []byte (binary strings), [Symbol], time.Time, [Date],
// []any and [Hash]. Objects of other classes are refused, as Rails does. Dates
// and times are such objects in a column, see [Codec].
package rubyyaml

import (
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// The Ruby values that Go has no type for.
type (
	// Hash is a Ruby hash: entries in order, keys of any kind.
	Hash = rubycompat.Hash
	// Pair is one entry of a [Hash].
	Pair = rubycompat.Pair
	// Symbol is a Ruby symbol, without its colon.
	Symbol = rubycompat.Symbol
	// ClassError says which class a plaintext names that is not read here.
	ClassError = rubycompat.ClassError
)

// Date is a day without a time.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// String returns the date in the form 2006-01-02.
func (d Date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day) }

// MarshalText returns [Date.String].
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// maxDepth is how deep lists and hashes may lie inside each other, in both directions.
const maxDepth = 1000

// Codec is [Marshal] and [Unmarshal] as an implementation of lockbox.YAML. The
// zero value keeps to what Rails permits in a column by default: it refuses a date
// or a time, with which Rails could not read the column at all.
type Codec struct {
	// Times permits dates and times, for an application whose
	// yaml_column_permitted_classes list Date and Time.
	Times bool
}

// Marshal is the function [Marshal] with what c permits; a date or time that it
// does not is [kmsencrypted.ErrConfig].
func (c Codec) Marshal(v any) ([]byte, error) { return marshal(v, c.Times) }

// Unmarshal is the function [Unmarshal] with what c permits; a date or time that
// it does not is a [ClassError].
func (c Codec) Unmarshal(data []byte, into any) error { return unmarshal(data, into, c.Times) }

// malformed is [kmsencrypted.ErrMalformed] for text that is not Ruby's YAML. The
// errors of the parser may quote the plaintext, so that they are not shown.
func malformed(err error) error {
	return fmt.Errorf("rubyyaml: %w: %w", kmsencrypted.ErrMalformed, err)
}

func configError(err error) error {
	return fmt.Errorf("rubyyaml: %w: %w", kmsencrypted.ErrConfig, err)
}
