package field

import (
	"fmt"
	"strings"
)

// Protected is a column that a model manages, for an inventory: what an auditor asks for.
type Protected struct {
	Column string
	// Kind is "key", "value", "part" (the iv or salt beside a value) or "index".
	Kind string
	// Key is the key column under which a value is sealed, or "" for keys of the application:
	// Lockbox's master key, those of ActiveRecord Encryption, and of blind indexes.
	Key string
	// Of has the columns that an index or part belongs to.
	Of []string
	// Form is the Ruby form of a value, such as "lockbox", which is written under versions of format
	// Ruby. Empty is the native one.
	Form string
	// How names an index's algorithm and what is done before: "argon2id of lower".
	How string
	// Leaks is what the column tells somebody who sees the table: "length", "length to 16
	// bytes", "equality and frequency". Empty means nothing beyond that there is a value.
	Leaks string
	// Deterministic means that equal values are equal in the column.
	Deterministic bool
}

// Inventory returns every column that the model manages, in the order of keys, values,
// parts and indexes.
func (a Adapter[R]) Inventory() []Protected { return a.inner().spec().inventory() }

func (s *schema) inventory() (list []Protected) {
	var parts []Protected
	for _, key := range s.keys {
		if !key.isMaster {
			list = append(list, Protected{Column: key.column, Kind: "key"})
		}
	}
	for _, key := range s.keys {
		under := key.column
		if key.isMaster {
			under = ""
		}
		for _, f := range key.fields {
			list = append(list, Protected{Column: f.column, Kind: "value", Key: under, Form: string(f.ruby), Leaks: f.leaks(), Deterministic: f.deterministic})
			for _, part := range f.parts() {
				parts = append(parts, Protected{Column: part.column, Kind: "part", Key: under, Of: []string{f.column}})
			}
		}
	}
	list = append(list, parts...)
	for _, x := range s.indexes {
		list = append(list, Protected{Column: x.column, Kind: "index", Of: x.sourceNames(), How: x.how(), Leaks: x.leaks(), Deterministic: true})
	}
	return list
}

func (f *fieldSpec) leaks() string {
	var leaks []string
	if f.deterministic {
		leaks = append(leaks, "equality and frequency")
	}
	if f.padding > 0 {
		return strings.Join(append(leaks, fmt.Sprintf("length to %d bytes", f.padding)), ", ")
	}
	return strings.Join(append(leaks, "length"), ", ")
}

// sourceNames are the columns of an index, or its fields where the database has none.
func (x *indexSpec) sourceNames() (names []string) {
	for _, s := range x.sources {
		if s.column != "" {
			names = append(names, s.column)
		} else {
			names = append(names, s.goName)
		}
	}
	return names
}

func (x *indexSpec) how() string {
	how := x.algorithm
	if how == "" {
		how = "argon2id"
	}
	if x.slow {
		how += ", slow"
	}
	if x.expression != "" {
		how += " of " + x.expression
	}
	return how
}

func (x *indexSpec) leaks() string {
	if x.bits > 0 {
		return fmt.Sprintf("equality and frequency, to %d bits", x.bits)
	}
	return "equality and frequency"
}
