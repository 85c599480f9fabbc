// Package kmsbun seals records before github.com/uptrace/bun writes them and opens them
// after it has read them. Its folder is bun.
//
//	type Customer struct {
//		bun.BaseModel `bun:"table:customers"`
//		ID            int64            `bun:",pk,autoincrement" db:"id"`
//		Name          string           `db:"name"`
//		Key           field.Key        `bun:"encrypted_kms_key" db:"encrypted_kms_key"`
//		Email         field.Of[string] `bun:"email_ciphertext" db:"email_ciphertext"`
//	}
//
//	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
//	err = kmsbun.Use(db, customers)
//
//	ada := Customer{Name: "Ada", Email: field.New("ada@example.org")}
//	_, err = db.NewInsert().Model(&ada).Exec(ctx)
//
//	var list []Customer
//	err = db.NewSelect().Model(&list).Scan(ctx) // opened, with the data keys unwrapped concurrently
//	list[0].Email.Set("ada@example.net")
//	_, err = db.NewUpdate().Model(&list[0]).WherePK().Exec(ctx)
//
// bun reads the tag bun, package field the tag db. [Use] returns
// [kmsencrypted.ErrConfig] if they differ in a table, a column or the primary key.
//
// # Reading
//
// A SELECT into the model of its query, Model(&record) or Model(&records), opens what it
// read, also in relations, with one call to the key service for each data key. The calls
// run concurrently, after the rows were read. Columns that are not selected stay closed;
// selected encrypted columns need the key column and the primary key. For relations of
// structs without encrypted columns call [UseRelations]. [Matches] finds records by a
// blind index.
//
// # Writing
//
// An INSERT makes a new data key for every record. A data key is bound to the id of its
// record. PostgreSQL is asked for an id of the sequence first. Elsewhere, and without a
// sequence, the row is inserted with NULL in its encrypted columns, and these are updated
// in the same transaction, one record after the other. They must be nullable.
//
// An UPDATE of one record, Model(&record).WherePK(), writes the encrypted columns that
// were set, and no others, if the row still has the key column that was read. Otherwise
// it returns [kmsencrypted.ErrConflict] and writes nothing. bun's own statement writes
// the plain columns, under the conditions of the program; the encrypted ones, with those
// of the encryption context, follow in the same transaction. If the conditions do not
// hold, no row is affected and there is no error; they are joined by AND, those with OR
// in a WhereGroup. On MariaDB and MySQL the row counts as affected if it was found and
// something encrypted was written; otherwise it counts if it changed. A query that names columns with Column
// writes the encrypted ones if it names those that changed; key and index columns need
// not be named.
//
// # Transactions
//
// What belongs together is sent in a transaction: one of its own, or in a [bun.Tx] under
// a savepoint. The query hooks of the program see bun's statement, not those that this
// package adds. This package does not learn whether a [bun.Tx] is committed. After a
// rollback make the queries again with the same records; see package kmssqlx, which has
// the same rules. The key service is called before a connection is taken, unless the
// database assigns ids or another program rewrapped the record.
//
// # Primary keys
//
// A record whose id is no integer is read again in the transaction of its INSERT. A row
// under another spelling would never open, such as that of an upper-case UUID in a uuid
// column: it is rolled back, and the error is [kmsencrypted.ErrLossy].
//
// # What is refused
//
// What goes around the record is an error before a statement is sent: an encrypted column
// in Set, Value, Bulk, a map, another struct or an INSERT in SQL
// ([kmsencrypted.ErrUnsealed]); columns of the encryption context and ids in Set and
// Value, On with DO UPDATE or DUPLICATE KEY UPDATE, Replace, and Ignore on MariaDB and
// MySQL, which cuts what is too long ([errors.ErrUnsupported]: read the record, then insert or
// update it); a SELECT of an encrypted column into a text, a map, another struct or a
// destination beside the model ([kmsencrypted.ErrNotOpened]). Every INSERT and UPDATE of
// records is strict on MariaDB and MySQL, in any sql_mode.
//
// bun writes arguments into its statements. A query hook looks for plaintexts in the
// complete text, also of SQL of the program: an encrypted column or index that is
// compared with a constant, in conditions, joins, HAVING, ORDER BY, functions, tuples
// and subqueries, is [kmsencrypted.ErrUnsealed] unless the constant has the form of what
// the column stores. The refused text does not reach the other query hooks, if Use was
// called before they were added.
//
// # What is not seen
//
// Statements on the [*sql.DB] inside the [*bun.DB], prepared ones, and the results of
// Rows and NewRaw, and of DELETE with RETURNING: there fields stay closed, until
// [field.Model.Open] is called, and a string contains the ciphertext. On a [bun.Conn]
// a refused statement in SQL reaches the driver with a context that has ended; pgx then
// closes the connection. After ResetQueryHooks nothing looks at texts. The AutoMigrator
// of bun needs a database without [Use], and [bun.WithConnResolver] is refused. A
// constraint protects the database against other writes: see
// [field.Model.CheckConstraint].
package kmsbun
