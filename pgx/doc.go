// Package kmspgx reads and writes records with encrypted columns through
// [github.com/jackc/pgx/v5]: a pool, a connection or a transaction of pgx itself,
// without database/sql.
//
// A program creates a [field.Model] once for each struct, and calls the functions of
// this package instead of those of pgx:
//
//	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
//
//	rows, _ := pool.Query(ctx, "SELECT * FROM customers WHERE id = $1", 7)
//	c, err := kmspgx.CollectOneRow(ctx, rows, customers)
//
//	c.Email.Set("countess@example.org")
//	c.Name = "Ada King"
//	err = kmspgx.Update(ctx, pool, customers, &c, "name")
//
// All functions take a [*pgxpool.Pool], a [*pgxpool.Conn], a [*pgx.Conn] or a
// [pgx.Tx].
//
// # Reading
//
// [CollectRows] and [CollectOneRow] read the rows of any query of pgx into structs, by
// the db tags, and open them with one call to the key service for each record. The
// calls run concurrently, while no connection of a pool is held. Columns that are not
// selected stay closed. Selected encrypted columns need the key column and the primary
// key in the same query.
//
// [Query] is the Query of pgx for queries by a blind index: it takes a
// [field.Lookup], and the rows found are compared with the values looked up. To open
// fields only when they are needed, read with pgx itself and call
// [field.Model.OpenLazily].
//
// # Writing
//
// [Insert] writes whole records, [Update] the changes of one. It updates a plain
// column only if it is named. [CopyFrom] is the fastest way to write many records, and
// a [Batch] writes records of several models in one round trip. Each writes all or
// nothing.
//
// Columns that the database fills, such as generated ones, are tagged
// `db:"created_at,readonly"`: they are read and never written. With
// `db:"created_at,returned"` an insert reads them back too, in its transaction. A field
// without a tag is written to the column with its name in small letters and underscores.
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
//   - One that is set, such as a UUID, is used. If it is no integer, it is compared
//     with what the database made of it, as columns tagged context are. A row with
//     another spelling would never open, such as that of an upper-case UUID in a uuid
//     column: it is deleted or rolled back, and the error is [kmsencrypted.ErrLossy].
//   - One that is zero is fetched from the sequence of a serial or identity column,
//     before the INSERT.
//   - If there is no such sequence, or the tag is `db:"id,returned"`, the row is
//     inserted without its encrypted columns, sealed, and completed in one
//     transaction. The columns must allow NULL, and the key service is called while the
//     transaction is open. [CopyFrom] returns [kmsencrypted.ErrNoID].
//   - If nothing depends on the id ([kmsencrypted.Version.OmitID] and a context
//     without it), the record is sealed first and inserted once.
//
// # Transactions
//
// Operations of several statements run in a transaction: one of their own, or under a
// savepoint if the program is in one.
//
// This package does not learn whether your transaction is committed. So a record that
// was written in one remembers what it sent. Its next Update sends that again, if each
// of these columns still holds what was read or sent before; otherwise it returns
// [kmsencrypted.ErrConflict]. After a rollback, also to a savepoint, call the same
// functions with the same records again; Insert drops an id that the database had
// assigned. Plain columns are written when they are named. Reading the record again
// clears this state.
//
// After an error nothing was written, and a record still has its changes. After a
// deadlock call the function again; in a transaction start again with the reads. A Batch
// is made anew.
//
// If the connection is lost or the context ends while the database commits, it may
// have written the record although the function returns an error. An Update called
// again writes the same values, or returns [kmsencrypted.ErrConflict]: read the record
// then. An Insert called again makes a second row if the database
// assigns the id, unless a unique index refuses it: look for the row first, or set
// the id yourself.
//
// # Modes and poolers
//
// Everything works in the five modes of [pgx.QueryExecMode]. Behind PgBouncer before
// 1.21 in transaction mode, which has no prepared statements, set
// [pgx.QueryExecModeExec] or [pgx.QueryExecModeSimpleProtocol]: append
// default_query_exec_mode=exec to the connection string. In other modes pgx prepares
// statements on one connection and executes them on another; the error names the
// setting.
//
// # Errors
//
// The texts of errors of the server and of pgx quote arguments and stored values.
// Errors of this package show only the part of such a text before the first quotation
// mark or the names of table, column and constraint, and an SQLSTATE. [errors.As]
// finds the [pgconn.PgError] itself.
package kmspgx
