// Package kmsgorm is a plugin for gorm.io/gorm that seals records before GORM
// writes them and opens them after GORM has read them. Its folder is gorm.
//
//	type Customer struct {
//		ID    int64            `db:"id"`
//		Name  string           `db:"name"`
//		Key   field.Key        `db:"encrypted_kms_key" gorm:"column:encrypted_kms_key;type:text"`
//		Email field.Of[string] `db:"email_ciphertext"  gorm:"column:email_ciphertext;type:text"`
//	}
//
//	customers, err := field.NewModel[Customer](box, field.Config{Table: "customers"})
//	err = db.Use(kmsgorm.New(customers))
//
//	ada := Customer{Name: "Ada", Email: field.New("ada@example.org")}
//	err = db.Create(&ada).Error
//
//	var list []Customer
//	err = db.Find(&list).Error // opened, with the data keys unwrapped concurrently
//	list[0].Email.Set("ada@example.net")
//	err = db.Save(&list[0]).Error
//
// GORM reads the tag gorm, package field the tag db. [gorm.DB.Use] returns
// [kmsencrypted.ErrConfig] if they differ in a table, a column or the primary key.
// Every encrypted column needs a type in its gorm tag; otherwise GORM takes the field
// for a relation.
//
// # Writing
//
// Create makes a new data key for every record. A data key is bound to the id of its
// record. So if the database assigns the id, Create inserts the rows with NULL in
// their encrypted columns and updates these columns in the same transaction. They must
// be nullable.
//
// Save and Updates write the encrypted columns that were set, and no others. Columns
// that were not loaded do not change, nor do those of an empty struct. Updates
// with a struct or a map of new values, Update and UpdateColumn take plaintexts too,
// for one record whose id is known: db.Model(&c), or, as gorm.G needs it, conditions
// that pin the primary key, such as Where("id = ?", id), by which the plugin reads the
// record first. The plugin lists the columns after all callbacks and field clauses have
// run, so soft delete, optimistic locks and values set by callbacks work as without
// this package.
//
// An update requires that the row still has the key column that was loaded. Otherwise
// it returns [kmsencrypted.ErrConflict] and writes nothing. If a condition of your own
// does not hold, no row is affected and there is no error. Select and Omit apply to all
// encrypted columns of a record together: if one is selected, all are written; if one
// is omitted, none is.
//
// Three operations lock the stored rows and write under the data keys of these rows:
// OnConflict by the primary key or a unique blind index with UpdateAll, or with
// encrypted columns among its AssignmentColumns; Save of a list; and Save of a record
// that the UPDATE did not find. Columns that were neither read nor set do not change,
// nor do those that the assignments do not name. On MySQL and MariaDB it is an error
// ([errors.ErrUnsupported]) if another unique column leads to a row with another
// primary key. Save of a record that was read, and whose row was deleted since, returns
// [kmsencrypted.ErrConflict].
//
// A transaction of your own may be repeated with the same records after a rollback,
// with savepoints or without: Create takes new ids from the database, and Save sends
// again what it had sent. Until such a record is read again, it compares what it
// sends again, so that a value that somebody else wrote since is [kmsencrypted.ErrConflict].
//
// # Primary keys
//
// A record is bound to its primary key and to the columns tagged context. Unless all of
// them are integers, another query in the same transaction asks what the database has
// in them after an INSERT, and after an UPDATE that sets one of them. A row with another
// spelling would never open, such as that of an upper-case UUID in a uuid column, of
// a short text in a char(10) on PostgreSQL, or of an id that a collation takes for
// that of another row: it is deleted again, or the UPDATE is undone, and the error is
// [kmsencrypted.ErrLossy]. So is the first key of a row that was not read.
//
// A zero is an id that the database assigns, in SQLite too. In a composite primary
// key a number 0 is a value. Save takes a record with such a key for a new one, as
// GORM does: write it by db.Model(&c).Select("*").Updates(&c).
//
// # What is refused
//
// What goes around the record is an error, with SkipHooks too: an encrypted
// column of many records at once, in Set or an upsert's assignments, or in a map with
// Table and a name ([kmsencrypted.ErrUnsealed]); a column tagged context in such a
// statement, in SQL, or in an upsert that would move a stored row that was not read
// ([errors.ErrUnsupported]: read the record and save it); another id for a stored record, an
// upsert by any other column that overwrites encrypted ones ([errors.ErrUnsupported]);
// a plaintext compared with an encrypted column ([kmsencrypted.ErrUnsealed]); Pluck
// or a map for an encrypted column ([kmsencrypted.ErrNotOpened]); INSERT IGNORE and
// UPDATE IGNORE on MariaDB and MySQL, which cut what is too long
// ([errors.ErrUnsupported]). Other statements are strict there, in any sql_mode.
//
// # Transactions and the key service
//
// GORM runs a statement in a transaction, which holds a connection. The plugin calls
// the key service before the transaction begins, except in these cases:
//
//   - the database assigns the id
//   - upserts
//   - associations that are saved with their parent
//   - a hook of yours sets a value in a record without one, or changes the id or the
//     context
//   - another program rewrapped the record in the meantime
//
// If the key service may be slow, assign ids yourself, or set
// [gorm.Config.SkipDefaultTransaction].
//
// The plugin looks for plaintexts in the complete statement: in conditions, joins,
// HAVING, ORDER BY, functions, tuples and subqueries, under any alias. A placeholder
// that is compared with an encrypted column must be bound to a field that was read or
// sealed, to an index, or to NULL. A refused subquery makes its whole statement fail,
// and its values do not reach GORM's log.
//
// # What is not seen
//
// The plugin does not see the text of Raw and Exec, constants in SQL, and the results
// of [gorm.DB.Scan], [gorm.DB.Rows] and ScanRows: there fields stay closed, and a
// string contains the ciphertext. A constraint protects the database against such
// writes: see [field.Model.CheckConstraint].
package kmsgorm
