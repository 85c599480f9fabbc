// Package zero has a field that nobody made.
package zero

import (
	"entgo.io/ent"

	kment "github.com/kmsencrypted/kmsencrypted/ent"
)

type Customer struct{ ent.Schema }

func (Customer) Fields() []ent.Field { return []ent.Field{new(kment.Field)} }
