// Package kment encrypts fields of entities of entgo.io/ent: it seals them when ent
// writes them, and opens them after ent has read them. Its folder is ent.
//
// Declare the columns in the schema, beside those of ent:
//
//	func (Customer) Fields() []ent.Field {
//		return []ent.Field{
//			field.String("name"), // of entgo.io/ent/schema/field
//			kment.Key("encrypted_kms_key"),
//			kment.Of[string]("email").StorageKey("email_ciphertext"),
//			kment.Index("email_bidx", "of=Email", "expression=lower"),
//		}
//	}
//
// Generate the code with the extension of package kmsentc (folder ent/entc), create a
// model for each encrypted entity, and wrap the driver of the client:
//
//	customers, err := field.NewModel[ent.Customer](box, field.Config{Table: "customers"})
//	drv, err := sql.Open(dialect.Postgres, dsn) // of entgo.io/ent/dialect/sql
//	kms, err := kment.Wrap(drv, customers)
//	client := ent.NewClient(ent.Driver(kms))
//
// Then use ent as always. In generated code package field is named kmsfield, because
// ent has a package of that name; a program imports it under any name:
//
//	c, err := client.Customer.Create().SetName("Ada").SetEmail(kmsfield.New("ada@example.org")).Save(ctx)
//	list, err := client.Customer.Query().WithOrders().All(ctx) // opened
//	c, err = list[0].Update().SetEmail(kmsfield.New("ada@example.net")).Save(ctx)
//	c, err = client.Customer.Query().Where(kment.Lookup(customers.Lookup("Email", "ada@example.net"))).Only(ctx)
//
// The extension adds no name to the generated package. The code that it generates
// refuses to work with another driver ([kmsencrypted.ErrConfig]), so none of these steps
// can be forgotten.
//
// # Reading
//
// A query opens its entities with one call to the key service for each key, and so does
// each edge that it loads. The calls run concurrently, while no connection is held
// outside a transaction. If one entity does not open, the query fails; query under
// [Lazily] to read the others, or to open fields only when [field.Of.Plain] asks for
// them. With Select, encrypted columns need the key column in the same query. Columns
// that are not selected stay closed.
//
// Select and GroupBy read encrypted columns into fields of their own type, closed. Into
// a string they are [kmsencrypted.ErrNotOpened]. [Lookup] finds entities by a blind
// index.
//
// # Writing
//
// Hooks, defaults, validators and privacy rules of the program run before anything is
// sealed: they see and set plaintexts. Create and CreateBulk make a new data key for
// every entity; a bulk is sealed together.
//
// UpdateOne and UpdateOneID write what is set in the update, under the data key of the
// entity. The UPDATE of ent gets the condition that the row still has this key.
// Otherwise the error is [kmsencrypted.ErrConflict]: query the entity again and repeat the
// change. A condition of your own that does not hold is a NotFoundError, as usual. A field
// that was changed in the entity itself would be lost in silence, so an update of that
// entity is [kmsencrypted.ErrUnsealed]: set it in the update. UpdateOneID queries the
// entity first, in the way of ent's hooks.
//
// A column tagged `kms:"context"` moves the entity to another encryption context, and in
// the same statement its data key. It must be required or Nillable, because NULL would
// read as the zero value. Set it by UpdateOne of the entity, not from the other end of an
// edge.
//
// # Primary keys
//
// An entity has one id. It is bound to it:
//
//   - An id that the program sets, such as a UUID, takes one INSERT. If it is no integer
//     it is read back in the same transaction. A row under another spelling would never
//     open: the error is [kmsencrypted.ErrLossy], and nothing is inserted.
//   - On PostgreSQL an id of a serial or identity column is fetched before the INSERT.
//   - Elsewhere the row is inserted with NULL in its encrypted columns, sealed, and
//     completed in one transaction, during which the key service is called. A bulk is
//     inserted row by row, because no database promises in which order it returns ids,
//     and ent computes those of MySQL.
//
// The key service is also called during a transaction of ent's own when an entity is
// created with edges in other tables, and when another program rewrapped a row between
// its query and its update.
//
// # Transactions
//
// A client of a transaction works like any other. After a rollback, use the entities as
// they were before it. On MariaDB and MySQL statements that write are strict, in any
// sql_mode.
//
// # What is refused
//
// These are errors before a statement is sent:
//
//   - Update of many entities that sets or clears an encrypted column
//     ([kmsencrypted.ErrUnsealed]) or one that contexts are made of
//     ([errors.ErrUnsupported]): query the entities, and use UpdateOne for each.
//   - A plaintext compared with an encrypted column or an index, such as
//     customer.EmailEQ(kmsfield.New("…")), in every form of predicate, modifier and
//     ORDER BY ([kmsencrypted.ErrUnsealed]): use [Lookup].
//   - OnConflict of an encrypted entity ([errors.ErrUnsupported]): it would overwrite or
//     lose a data key.
//   - Modify, ExecContext and tables of edges that write an encrypted column or one that
//     contexts are made of.
//
// # What is not seen
//
// The options Debug and Log of a client log the arguments of a statement before it can be
// refused. Fields are redacted there, but a plaintext that a program compares as a string
// is not. So log below this package: kment.Wrap(dialect.Debug(drv), customers).
//
// Constants in SQL of your own, results of QueryContext, and statements that do not go
// through the driver. A constraint protects the database against such writes: see
// [field.Model.CheckConstraint].
package kment
