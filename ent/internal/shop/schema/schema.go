// Package schema describes the entities of the tests of package kment.
package schema

import (
	"database/sql"
	"net/netip"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"github.com/google/uuid"

	kment "github.com/kmsencrypted/kmsencrypted/ent"
)

// Tenant owns customers. Nothing of it is encrypted.
type Tenant struct{ ent.Schema }

// Fields implements [ent.Interface].
func (Tenant) Fields() []ent.Field { return []ent.Field{field.String("name")} }

// Edges implements [ent.Interface].
func (Tenant) Edges() []ent.Edge {
	return []ent.Edge{edge.To("customers", Customer.Type)}
}

// Customer has an id from the database, two keys, and a tenant.
type Customer struct{ ent.Schema }

// Fields implements [ent.Interface].
func (Customer) Fields() []ent.Field {
	return []ent.Field{
		field.String("name"),
		field.Int("visits").Default(0),
		field.String("nickname").Optional().Nillable(),
		field.Int("tenant_id").Optional().Nillable().StructTag(`kms:"context"`),
		kment.Key("encrypted_kms_key"),
		kment.Of[string]("email").StorageKey("email_ciphertext"),
		kment.Of[*string]("phone").StorageKey("phone_ciphertext"),
		kment.Of[map[string]netip.Addr]("devices").StorageKey("devices_ciphertext"),
		kment.Index("email_bidx", "of=Email", "expression=lower", "algorithm=hmac_sha256"),
		kment.Key("card_kms_key", "name=card"),
		kment.Of[[]byte]("card", "key=card", "binary").StorageKey("card_ciphertext"),
	}
}

// Edges implements [ent.Interface].
func (Customer) Edges() []ent.Edge {
	return []ent.Edge{
		edge.From("tenant", Tenant.Type).Ref("customers").Field("tenant_id").Unique(),
		edge.To("notes", Note.Type),
		edge.To("friends", Customer.Type),
	}
}

// Note has an id from the program.
type Note struct{ ent.Schema }

// Fields implements [ent.Interface].
func (Note) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("id", uuid.UUID{}).Default(uuid.New),
		field.String("title").Optional(),
		kment.Key("encrypted_kms_key"),
		kment.Of[string]("text").StorageKey("text_ciphertext"),
		kment.Of[sql.Null[int64]]("number", "padding=32").StorageKey("number_ciphertext"),
	}
}

// Edges implements [ent.Interface].
func (Note) Edges() []ent.Edge {
	return []ent.Edge{edge.From("customer", Customer.Type).Ref("notes").Unique()}
}

// Account has a text as id, which PostgreSQL spells otherwise, and a plain column that an
// encrypted one is about to replace.
type Account struct{ ent.Schema }

// Fields implements [ent.Interface].
func (Account) Fields() []ent.Field {
	return []ent.Field{
		field.String("id").MaxLen(10).SchemaType(map[string]string{dialect.Postgres: "char(10)"}),
		field.String("mail").Default(""),
		kment.Key("encrypted_kms_key"),
		kment.Of[string]("email", "migrating=Mail").StorageKey("email_ciphertext"),
		kment.Of[string]("phone").StorageKey("phone_ciphertext"),
	}
}

// Person is the record of package ormtest.
type Person struct{ ent.Schema }

// Annotations implements [ent.Interface].
func (Person) Annotations() []schema.Annotation {
	return []schema.Annotation{entsql.Annotation{Table: "people"}}
}

// Fields implements [ent.Interface].
func (Person) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("id"),
		field.String("tenant_id").StructTag(`kms:"context"`),
		field.String("name"),
		field.String("note"),
		kment.Key("encrypted_kms_key"),
		kment.Of[string]("email").StorageKey("email_ciphertext"),
		kment.Index("email_bidx", "of=Email", "expression=lower", "algorithm=hmac_sha256"),
		kment.Key("encrypted_kms_key_phone", "name=phone"),
		kment.Of[*string]("phone", "key=phone").StorageKey("phone_ciphertext"),
		kment.Of[*string]("nickname", "activerecord", "deterministic"),
	}
}
