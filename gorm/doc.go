// Package kmsgorm is a plugin for gorm.io/gorm that seals records before they are
// written and opens them after they were read. It stands in the folder gorm.
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
//	err = db.Find(&list).Error // opened, with the data keys unwrapped side by side
//	list[0].Email.Set("ada@example.net")
//	err = db.Save(&list[0]).Error
//
// GORM reads the tag gorm, package field the tag db. [gorm.DB.Use] returns
// [kmsencrypted.ErrConfig] where they differ in a table, a column or the primary
// key. Every encrypted column needs a type, or GORM takes it for a relation.
//
// # Writing
//
// Create makes a new data key for every record. Where the database assigns the
// id, the rows are inserted with empty encrypted columns, and these are updated
// in the same transaction, because a data key is bound to the id: such columns
// may not be NOT NULL.
//
// Save and Updates write what was set in a record, and of the encrypted columns
// nothing else: columns that were not loaded, and those of an empty struct, stay
// as they are. Updates with a struct or a map of new values, Update and UpdateColumn
// take plaintexts too, for one record whose id is known: db.Model(&c). The columns
// are listed after all callbacks and field clauses, so that soft delete, optimistic
// locks and what callbacks set work as without this package.
//
// An update has the condition that the key column is still the one that was loaded.
// If it is not, the error is [kmsencrypted.ErrConflict] and nothing was written. If a
// condition of yours does not hold, no row is affected and there is no error. Select
// and Omit take the encrypted columns of a record together: they are written if one
// is selected, and not if one is omitted.
//
// OnConflict with UpdateAll by the primary key or a unique blind index, Save of a
// list, and Save of a record that the UPDATE did not find lock the stored rows and
// write under their data keys. What was neither read nor set stays as it is. Save of
// a record that was read and deleted since is [kmsencrypted.ErrConflict].
//
// A transaction of your own may be repeated with the same records after a rollback,
// with savepoints or without: Create takes new ids from the database, and Save sends
// again what it had sent. Until such a record is read again, it compares what it
// sends again, so that a value that somebody else wrote since is [kmsencrypted.ErrConflict].
//
// # What is refused
//
// What goes around the record is an error, with SkipHooks too: an encrypted
// column of many records at once, in Set or an upsert's assignments, or in a map with
// Table and a name ([kmsencrypted.ErrUnsealed]); another id for a stored record, an
// upsert by any other column that overwrites encrypted ones ([errors.ErrUnsupported]);
// a plaintext compared with an encrypted column ([kmsencrypted.ErrUnsealed]); Pluck
// or a map for an encrypted column ([kmsencrypted.ErrNotOpened]).
//
// # Transactions and the key service
//
// GORM puts a statement into a transaction, which holds a connection. The key service
// is called before it begins, except where what is sealed is known only inside:
// where the database assigns the id, in upserts, in associations that are saved with
// their parent, where a hook of yours sets a value in a record that had none or
// changes the id or the context, and where a record was rewrapped meanwhile. Give
// records ids of your own, or set [gorm.Config.SkipDefaultTransaction], where the
// service may be slow.
//
// Plaintexts are looked for when a statement is complete: in conditions, joins,
// HAVING, ORDER BY, functions, tuples and subqueries, under any alias. A placeholder
// that stands in one comparison with an encrypted column must be bound to a field
// that was read or sealed, to an index, or to NULL. A refused subquery fails the
// statement around it, and nothing of it reaches GORM's log.
//
// # What is not seen
//
// The text of Raw and Exec, constants written into SQL, and what [gorm.DB.Scan],
// [gorm.DB.Rows] and ScanRows read: fields stay closed there, and a string gets the
// ciphertext. The last wall is in the database: see [field.Model.CheckConstraint].
package kmsgorm
