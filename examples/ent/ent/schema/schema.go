// Package schema describes customers, whose addresses are encrypted, and their orders.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"

	kment "github.com/kmsencrypted/kmsencrypted/ent"
)

// Customer has an encrypted column that can be searched.
type Customer struct{ ent.Schema }

// Fields implements [ent.Interface].
func (Customer) Fields() []ent.Field {
	return []ent.Field{
		field.String("name"),
		kment.Key("encrypted_kms_key"),
		kment.Of[string]("email").StorageKey("email_ciphertext"),
		kment.Index("email_bidx", "of=Email", "expression=lower"),
	}
}

// Edges implements [ent.Interface].
func (Customer) Edges() []ent.Edge { return []ent.Edge{edge.To("orders", Order.Type)} }

// Order has an encrypted column.
type Order struct{ ent.Schema }

// Fields implements [ent.Interface].
func (Order) Fields() []ent.Field {
	return []ent.Field{
		field.Int("amount"),
		kment.Key("encrypted_kms_key"),
		kment.Of[string]("gift_note").StorageKey("gift_note_ciphertext"),
	}
}

// Edges implements [ent.Interface].
func (Order) Edges() []ent.Edge {
	return []ent.Edge{edge.From("customer", Customer.Type).Ref("orders").Unique()}
}
