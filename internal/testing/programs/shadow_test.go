package programs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// state is what the table has to hold, by primary key.
type state map[string]*row

type row struct {
	id      string   // as the program spelt it
	tenants []string // one, or several where a write may have taken the change along
	title   string
	values  map[string]choice
}

// choice is a value that a column has to hold, or several of which it may hold any:
// a column that was NULL when it was read and is set to NULL need not be written.
type choice []*string

func (c choice) allows(value *string) bool {
	return slices.ContainsFunc(c, func(want *string) bool { return show(want) == show(value) })
}

func (c choice) String() string {
	texts := make([]string, len(c))
	for i, want := range c {
		texts[i] = show(want)
	}
	return strings.Join(texts, " or ")
}

// choices are values of which there is one each.
func choices(values map[string]*string) map[string]choice {
	certain := make(map[string]choice, len(values))
	for name, value := range values {
		certain[name] = choice{value}
	}
	return certain
}

// effect is what a call that was acknowledged did.
type effect func(state)

func (s state) clone() state {
	copied := make(state, len(s))
	for id, r := range s {
		copied[id] = &row{r.id, slices.Clone(r.tenants), r.title, maps.Clone(r.values)}
	}
	return copied
}

// after is the state that a transaction sees.
func (s state) after(effects []effect) state {
	view := s.clone()
	for _, do := range effects {
		do(view)
	}
	return view
}

// pin takes what was read for the one value of each column.
func (r *row) pin(got record, values map[string]*string) {
	r.tenants = []string{got.values().Tenant}
	maps.Copy(r.values, choices(values))
}

// differs says what an opened record has that the row should not have; "" if it is
// as it should be. A column may have spelled the tenant otherwise.
func (r *row) differs(got record, spelled func(string) string) string {
	v := got.values()
	if !slices.ContainsFunc(r.tenants, func(want string) bool { return spelled(want) == spelled(v.Tenant) }) {
		return fmt.Sprintf("tenant %q, want %q", v.Tenant, r.tenants)
	}
	if v.Title != r.title {
		return fmt.Sprintf("title %q, want %q", v.Title, r.title)
	}
	for _, c := range columnsOf(got) {
		value, err := c.get(got)
		if err != nil {
			return fmt.Sprintf("%s: %v", c.name, err)
		}
		want := r.values[c.name]
		if want == nil {
			want = choice{nil}
		}
		if !want.allows(value) {
			return fmt.Sprintf("%s is %s, want %v", c.name, show(value), want)
		}
	}
	return ""
}
