package kment

import (
	"context"
	"database/sql/driver"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// work is what is to be done with an entity when its statement is sent. Until then no
// hook, default or edge can change it any more, and a bulk is sealed at once.
type work interface {
	// run sends the statement. all are the works in it, of which this is the first.
	run(ctx context.Context, c conn, s statement, all []work) error
	// writes reports whether the work writes a column.
	writes(column string) bool
	on() *table
}

// value is an argument of a statement that its work provides. Without a Driver of this
// package it is refused like a plaintext.
type value struct {
	of     work
	column string // "" is the condition of an UPDATE
}

func (v *value) Value() (driver.Value, error) { return nil, kmsencrypted.ErrUnsealed }
func (v *value) String() string               { return "[redacted]" }

// refusal is an argument that makes a statement fail: ent keeps only the text of an
// error in a predicate.
type refusal struct{ err error }

func (r *refusal) Value() (driver.Value, error) { return nil, r.err }
func (r *refusal) String() string               { return "[refused]" }

// worksIn returns the works of a statement, in the order of its arguments.
func worksIn(args []any) (all []work) {
	for _, arg := range args {
		if v, ok := arg.(*value); ok && !slices.Contains(all, v.of) {
			all = append(all, v.of)
		}
	}
	return all
}
