// Package optional has a context column that reads as its zero value if it is NULL.
package optional

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"

	kment "github.com/kmsencrypted/kmsencrypted/ent"
)

type Customer struct{ ent.Schema }

func (Customer) Fields() []ent.Field {
	return []ent.Field{
		field.String("tenant").Optional().StructTag(`kms:"context"`),
		kment.Key("encrypted_kms_key"),
		kment.Of[string]("email"),
	}
}
