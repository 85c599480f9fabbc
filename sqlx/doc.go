// Package kmssqlx reads and writes records with encrypted columns through
// [github.com/jmoiron/sqlx], on PostgreSQL, MariaDB and MySQL, and SQLite.
//
// A program that uses sqlx keeps its handles, its queries and its struct tags. It
// creates a [field.Model] once, and calls the functions of this package instead of
// those of sqlx for this struct:
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
// [Get] and [Select] take a query like those of sqlx, and open the result with one
// call to the key service for each record. The calls run concurrently, while no
// database connection is held. Columns that are not selected stay closed. Selected
// encrypted columns need the key column and the primary key in the same query. In
// addition to sqlx:
//
//   - ? is a placeholder on every database; a query with $1 is unchanged.
//   - A slice as an argument is expanded in IN (?), as by [sqlx.In].
//   - So is a [field.Lookup], and the rows found are compared with the values looked
//     up: WHERE email_bidx IN (?) with customers.Lookup("Email", "ada@example.org").
//   - The destination is replaced, not filled in, so that a reused struct holds no
//     value of an earlier record.
//
// [NamedGet] and [NamedSelect] take names instead. To open fields only when they are
// needed, read with sqlx itself and call [field.Model.OpenLazily].
//
// # Writing
//
// [Insert] writes whole records, [Update] the changes of one. It updates a plain
// column only if it is named, for two reasons: a struct does not show whether all
// its columns were read, and two programs that change different columns must not
// undo each other's changes.
//
//	c.Email.Set("countess@example.org")
//	c.Name = "Ada King"
//	err = kmssqlx.Update(ctx, db, customers, &c, "name")
//
// Columns that the database fills, such as generated ones, are tagged
// `db:"created_at,readonly"`: they are read and never written. With
// `db:"created_at,returned"` Insert reads them back too, in its transaction.
//
// An UPDATE succeeds only if the row still has the data key under which the record
// was sealed. Otherwise the error is [kmsencrypted.ErrConflict]: two programs gave
// it its first key at the same time, or a rotation came between. Read the record
// again and repeat the change. [Rewrap] and [Rekey] rotate one record under the same
// conditions.
//
// # Primary keys
//
// A record is bound to its primary key, so the key must be known when it is sealed.
//
//   - One that is set, such as a UUID, is used: one INSERT. If it is no integer the
//     INSERT returns it as the database has it, for which PostgreSQL and MariaDB want
//     the right to SELECT it; MySQL is asked by another statement. A row under another
//     spelling would never open, such as that of an upper-case UUID in a uuid column or
//     a short text in a char(10) on PostgreSQL: it is deleted or rolled back, and the
//     error is [kmsencrypted.ErrLossy]. So is the first key of a row that was not read.
//     Columns tagged context are compared likewise, also when an update sets them.
//   - One that is zero is fetched from the sequence of a serial or identity
//     column on PostgreSQL, before the INSERT.
//   - Elsewhere the row is inserted without its encrypted columns, sealed, and
//     completed in one transaction. The columns must allow NULL, and the key
//     service is called while the transaction is open.
//   - On PostgreSQL too, if the tag asks for it: `db:"id,returned"`. Use it if
//     something other than the sequence assigns the id, such as a trigger, because a
//     record that was sealed for another id does not open.
//   - So a row whose id is the single number 0 gets no key: updating it is
//     [kmsencrypted.ErrNoID]. In a composite primary key a number 0 is a value.
//   - If nothing depends on the id ([kmsencrypted.Version.OmitID] and a context
//     without it), the record is sealed first and inserted once.
//
// Many records take few statements. MySQL, unlike MariaDB from 10.5, cannot return
// the ids that it assigned to several rows, so each row takes an INSERT and an
// UPDATE there. Set the ids yourself if that is too slow.
//
// # Transactions
//
// Operations of several statements run in a transaction: one of their own, or in a
// [*sqlx.Tx] under a savepoint.
//
// This package does not learn whether your transaction is committed. So a record
// that was written in one, or on a [*sqlx.Conn], remembers what it sent. Its next
// Update sends that again, if each of these columns still holds what was read or
// sent before; otherwise it returns [kmsencrypted.ErrConflict]. After a rollback,
// also to a savepoint, call the same functions with the same records again; Insert
// drops an id that the database had assigned. Plain columns are written when they
// are named. Reading the record again clears this state.
//
// After an error nothing was written, and a record still has its changes. After a
// deadlock call the function again; in a transaction start again with the reads.
//
// If the connection is lost or the context ends while the database commits, it may
// have written the record although the function returns an error. An Update called
// again writes the same values, or returns [kmsencrypted.ErrConflict]: read the record
// then. An Insert called again makes a second row if the database
// assigns the id, unless a unique index refuses it: look for the row first, or set
// the id yourself.
//
// # Errors
//
// The texts of drivers quote arguments and stored values. Errors of this package
// show only the part of such a text before the first quotation mark, and an
// SQLSTATE. [errors.As] finds the driver's error itself.
//
// # What the package needs to know
//
// The driver's name at [sqlx.Open] or [sqlx.NewDb] identifies the database. If sqlx
// does not know the name, and on a [*sqlx.Conn] for MariaDB, MySQL and SQLite, the
// package asks the database at each write. Names of tables and columns are quoted,
// so spell them as the database does. On MariaDB and MySQL every INSERT and UPDATE
// asks for strict mode itself, so that a value that does not fit into its column is
// an error and is never cut. On MariaDB an update sets LAST_INSERT_ID() to
// 1, to distinguish a row that matched from one that changed.
package kmssqlx
