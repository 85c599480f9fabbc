// Package rubyyaml reads and writes the YAML of Ruby's Psych, as Rails stores it
// in serialized columns and Lockbox in attributes of type hash and array:
//
//	t, err := lockbox.ParseType("hash", rubyyaml.Codec{})
//
// Ruby's YAML is version 1.1 with rules of its own: yes is true, 012 is ten, :name
// is a symbol. Reading follows Psych's rules. Ruby reads back what is written as
// the same value, because everything ambiguous is quoted.
//
// A Ruby value is one of these in Go: nil, bool, int64, *big.Int (beyond int64),
// float64, string, []byte (binary strings), [Symbol], time.Time, [Date], []any and
// [Hash]. Objects of other classes are refused, as in Rails. For dates and times in
// a column see [Codec].
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
	// ClassError reports an object of a Ruby class that this package does not read.
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

// maxDepth is the maximum nesting of lists and hashes, in both directions.
const maxDepth = 1000

// Codec implements lockbox.YAML with [Marshal] and [Unmarshal]. The zero value
// accepts only what Rails permits in a column by default. It refuses a date or a
// time, because Rails could not read the column at all.
type Codec struct {
	// Times permits dates and times, for an application whose
	// yaml_column_permitted_classes lists Date and Time.
	Times bool
}

// Marshal is like the function [Marshal]. It returns [kmsencrypted.ErrConfig] for a
// date or time unless Times is set.
func (c Codec) Marshal(v any) ([]byte, error) { return marshal(v, c.Times) }

// Unmarshal is like the function [Unmarshal]. It returns a [ClassError] for a date
// or time unless Times is set.
func (c Codec) Unmarshal(data []byte, into any) error { return unmarshal(data, into, c.Times) }

// malformed returns [kmsencrypted.ErrMalformed] for text that is not Ruby's YAML.
// It hides errors of the parser, because they may quote the plaintext.
func malformed(err error) error {
	return fmt.Errorf("rubyyaml: %w: %w", kmsencrypted.ErrMalformed, err)
}

func configError(err error) error {
	return fmt.Errorf("rubyyaml: %w: %w", kmsencrypted.ErrConfig, err)
}
