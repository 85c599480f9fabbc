package blindindex

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kmsencrypted/kmsencrypted"
)

// PrefixIndex finds values by their beginnings. It stores one column for each
// beginning of a value, from a minimum to a maximum number of characters. The
// columns go into a table of their own, one row each, with the id of the record. It
// is immutable and safe for concurrent use.
//
// Leaks: how long a value is, up to the maximum, and which values begin alike and
// how far. There are few beginnings: somebody who counts how often each index value
// occurs learns much about a column of names. A small range, a truncated index and
// [Options.Partitions] each reduce that.
type PrefixIndex struct {
	index       *Index
	least, most int
}

// NewPrefixIndex returns an index of the beginnings of least to most characters
// (code points), computed by index. The expression of index is applied before
// cutting. Each value costs most-least+1 hashes. NewPrefixIndex returns
// [kmsencrypted.ErrConfig] unless 1 <= least <= most, and for a nil or zero index.
func NewPrefixIndex(index *Index, least, most int) (*PrefixIndex, error) {
	if err := index.usable(); err != nil {
		return nil, err
	}
	if least < 1 || most < least {
		return nil, fmt.Errorf("blindindex: %s: %w: prefixes of %d to %d characters", index.name, kmsencrypted.ErrConfig, least, most)
	}
	return &PrefixIndex{index, least, most}, nil
}

// Name returns the name of the index column.
func (x *PrefixIndex) Name() string {
	if x == nil {
		return ""
	}
	return x.index.Name()
}

// Compute returns the columns to store for a value, none for NULL and for a value
// shorter than the minimum. Their order reveals nothing about the value. The errors
// are those of [Index.Compute], and [ErrValue] for text that is not valid UTF-8.
func (x *PrefixIndex) Compute(value any) ([]Column, error) {
	text, ok, err := x.express(value)
	if err != nil || !ok {
		return nil, err
	}
	var columns []Column
	length := 0
	for end := range runeEnds(text) {
		if length++; length < x.least {
			continue
		}
		column, err := x.index.computeOne(Text(text[:end]))
		if err != nil {
			return nil, err
		}
		columns = append(columns, column)
		if length == x.most {
			break
		}
	}
	// In the order of their length, the rows would reveal which is the longest.
	slices.SortFunc(columns, func(a, b Column) int { return strings.Compare(a.data, b.data) })
	return columns, nil
}

// Lookup returns what to search for to find the values that begin with a text. A
// text longer than the maximum is cut, so open the rows found and compare. Lookup
// returns [ErrValue] for NULL and for a text shorter than the minimum, which can
// match no row.
func (x *PrefixIndex) Lookup(beginning any) (Lookup, error) {
	text, ok, err := x.express(beginning)
	if err != nil {
		return Lookup{}, err
	}
	text = firstRunes(text, uint(x.most))
	if length := len([]rune(text)); !ok || length < x.least {
		return Lookup{}, fmt.Errorf("blindindex: %s: %w: a beginning needs at least %d characters, not %d", x.index.name, ErrValue, x.least, length)
	}
	columns, err := x.index.computeAll(Text(text))
	if err != nil {
		return Lookup{}, err
	}
	return Lookup{Name: x.index.name, Columns: columns}, nil
}

func (x *PrefixIndex) express(value any) (text string, ok bool, err error) {
	if x == nil {
		return "", false, errNoIndex
	}
	p, err := x.index.express(value)
	if err != nil || p.IsNull() {
		return "", false, err
	}
	valid, err := onText(p, Text)
	if err != nil {
		return "", false, fmt.Errorf("blindindex: %s: %w", x.index.name, err)
	}
	return valid.Text(), true, nil
}

// runeEnds yields the end of each character of a text.
func runeEnds(text string) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := range text {
			if i > 0 && !yield(i) {
				return
			}
		}
		if text != "" {
			yield(len(text))
		}
	}
}
