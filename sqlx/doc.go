// Package kmssqlx reads and writes records with encrypted columns through
// [github.com/jmoiron/sqlx], on PostgreSQL, MariaDB and MySQL, and SQLite.
//
// A program that uses sqlx keeps its handles, its queries and its struct tags. It
// makes a [field.Model] once, and calls the functions of this package where it
// read or wrote the struct:
//
//	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
//
//	err = db.GetContext(ctx, &c, "SELECT * FROM customers WHERE id = $1", 7)              // before
//	err = kmssqlx.Get(ctx, db, customers, &c, "SELECT * FROM customers WHERE id = $1", 7) // after
//
// All functions take a [*sqlx.DB], a [*sqlx.Conn] or a [*sqlx.Tx].
//
// # Reading
//
// [Get] and [Select] take a query as those of sqlx do, and open what it returns:
// one call to the key service for each record, side by side, while no database
// connection is held. Columns that are not selected stay closed; those that are
// need the key column and the primary key beside them. Beyond sqlx:
//
//   - ? is a placeholder on every database; a query with $1 is left alone.
//   - A slice as an argument is spread over IN (?), as by [sqlx.In].
//   - So is a [field.Lookup], and what its index found is compared with what was
//     sought: WHERE email_bidx IN (?) with customers.Lookup("Email", "ada@example.org").
//   - The destination is replaced, not filled in, so that a struct that is used
//     again holds no value of the record before.
//
// [NamedGet] and [NamedSelect] take names instead. To open fields only when they
// are asked for, read with sqlx itself and call [field.Model.OpenLazily].
//
// # Writing
//
// [Insert] writes whole records, [Update] what changed in one. A plain column is
// updated only if it is named, for two reasons: a struct cannot tell whether it
// was read with all its columns, and of two programs that change different
// columns neither shall undo the other's work.
//
//	c.Email.Set("countess@example.org")
//	c.Name = "Ada King"
//	err = kmssqlx.Update(ctx, db, customers, &c, "name")
//
// Columns that the database fills, such as generated ones, are tagged
// `db:"created_at,readonly"`: they are read and never written.
//
// An UPDATE happens only if the row still has the data key under which the record
// was sealed. [kmsencrypted.ErrConflict] says that it has another one: two
// programs gave it its first key at the same time, or a rotation came between.
// Read the record again and repeat the change. [Rewrap] and [Rekey] rotate one
// record under the same conditions.
//
// # Primary keys
//
// A record is bound to its primary key, so that must be known when it is sealed.
//
//   - One that is set, such as a UUID, is used: one INSERT. If it is no integer the
//     INSERT returns it as the database has it, for which PostgreSQL and MariaDB want
//     the right to SELECT it; MySQL is asked by another statement. A row under another
//     spelling would never open, such as that of an upper-case UUID in a uuid column or
//     a short text in a char(10) on PostgreSQL: it is deleted or rolled back, and the
//     error is [kmsencrypted.ErrLossy]. So is the first key of a row that was not read.
//   - One that is zero is fetched from the sequence of a serial or identity
//     column on PostgreSQL, before the INSERT.
//   - Elsewhere the row is inserted without its encrypted columns, sealed, and
//     completed in one transaction. The columns must allow NULL, and the key
//     service is called while the transaction is open.
//   - On PostgreSQL too, if the tag says so: `db:"id,returned"`. Use it where
//     something else than the sequence decides about the id, such as a trigger:
//     a record that was sealed for another id does not open.
//   - Where [kmsencrypted.Version.OmitID] and a context without the id say that
//     nothing depends on it, the record is sealed first and inserted once.
//
// Many records go into few statements. MySQL, unlike MariaDB from 10.5, cannot tell
// the ids that it made for several rows, so each row there is an INSERT and an
// UPDATE of its own; set the ids where that is too slow.
//
// # Transactions
//
// What takes several statements is done in a transaction: one of its own, or in a
// [*sqlx.Tx] under a savepoint.
//
// Whether a transaction of yours is committed nobody tells this package. So a record
// that was written in one, or on a [*sqlx.Conn], remembers what it sent: its next
// Update sends that again, if each of these columns still holds what was read or
// sent before; else it is [kmsencrypted.ErrConflict]. After a rollback, to a savepoint
// too, call the same functions with the same records again; Insert drops an id that
// the database had made. Plain columns are written when they are named. Reading the
// record again ends all that.
//
// After an error nothing was written, and a record still has what it had to
// write; a deadlock or a lost connection is answered by calling the function
// again, or in a transaction by beginning anew from the reads on.
//
// # Errors
//
// The texts of drivers quote arguments and stored values. Errors of this package
// show of such a text only what comes before the first quotation mark, and an
// SQLSTATE; the driver's error itself is found by [errors.As].
//
// # What the package needs to know
//
// A database is recognised by its driver's name at [sqlx.Open] or [sqlx.NewDb].
// Under a name that sqlx does not know, and MariaDB, MySQL and SQLite on a
// [*sqlx.Conn], it is asked each time it is written to. Names of tables and
// columns are quoted, so they are to be spelt as the database has them. On
// MariaDB an update sets LAST_INSERT_ID() to 1: it tells a row that matched from
// one that changed.
package kmssqlx
