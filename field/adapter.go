package field

import (
	"cmp"
	"context"
	"reflect"

	"github.com/kmsencrypted/kmsencrypted"
)

// Adapter is what a [Model] offers to code that writes SQL for it: an adapter for
// a database library, or a program with statements of its own. It has all methods
// of the model and those below. An Adapter is a small value that shares the model;
// it is safe for concurrent use.
//
// To read records:
//
//  1. Select the columns of [Adapter.IDColumns] and [Adapter.Columns], and read
//     them into the struct with its Scan methods or with [Adapter.Scan].
//  2. Call [Model.Open] with all records of the result, or [Model.OpenLazily].
//
// To insert records:
//
//  1. Set the primary key, if the database does not make it.
//  2. Call [Model.SealNew].
//  3. Insert the columns of [Adapter.Columns] with the values of the struct, whose
//     fields are [driver.Valuer].
//  4. Call [Adapter.Saved] once the statement was committed, or [Adapter.Inserted]
//     inside a transaction that goes on. To repeat an insert after a rollback,
//     begin with [Adapter.DropAssignedIDs].
//
// To insert a record whose primary key the database makes, insert the plain
// columns first, set the key, and go on as for an update, in one transaction.
//
// To update a record:
//
//  1. Call [Model.Seal], [Model.Rewrap], [Model.Rekey] or [Model.Reindex].
//  2. Call [Adapter.Write]. If its Set is empty there is nothing to write.
//  3. UPDATE the columns in Set, and plain columns that are not in Omit, on condition
//     that the primary key matches and that the columns in Where hold what Where
//     says. NULL must equal NULL there.
//  4. If one row matched, call [Adapter.Saved], or [Adapter.Sent] inside a
//     transaction that goes on.
//  5. If none matched, read the key columns in Where again. Pass each that differs
//     to [Adapter.KeyChanged]. If that returns nil go back to step 2, once;
//     otherwise return its error.
//
// Compare the number of rows that matched, not of those that changed: MySQL reports
// the latter by default.
//
// Lists of columns are in the order of the struct.
type Adapter[R any] struct{ *Model[R] }

// Adapter returns the methods for writers of adapters. Programs that use one of
// the adapters in this module do not need it.
func (m *Model[R]) Adapter() Adapter[R] { return Adapter[R]{m} }

// Check returns [kmsencrypted.ErrConfig] for a nil or zero Model, for a nil record,
// and for a record that is listed twice, before an adapter begins with its work.
func (a Adapter[R]) Check(rows ...*R) error {
	return a.inner().check(untyped(rows))
}

// Columns returns all columns that the model manages: keys, fields, their parts
// and indexes.
func (a Adapter[R]) Columns() []string { return a.inner().spec().managedColumns() }

// Copy returns a copy of a record, which has embedded structs of its own also where
// the record has pointers to them. A data key is shared, as in any copy. Of nil it
// returns an empty record.
func (a Adapter[R]) Copy(row *R) *R {
	copied := new(R)
	a.inner().copyTo(copied, row)
	return copied
}

func (c *core) copyTo(to, row any) {
	if c.lacks(row) {
		return
	}
	copied := c.schema.copyOf(c.record(row).v)
	if dynamic, ok := to.(*any); ok {
		*dynamic = copied.Addr().Interface()
	} else {
		reflect.ValueOf(to).Elem().Set(copied)
	}
}

// IDColumns returns the columns of the primary key.
func (a Adapter[R]) IDColumns() []string {
	return columnsOf(a.inner().spec().ids)
}

// KeyColumns returns the columns of data keys.
func (a Adapter[R]) KeyColumns() (columns []string) {
	for _, k := range a.inner().spec().recordKeys() {
		columns = append(columns, k.column)
	}
	return columns
}

// KeyColumnOf returns the key column whose data key an encrypted column is sealed
// under. It returns "" for any other column, and for a column under Lockbox's master
// key.
func (a Adapter[R]) KeyColumnOf(column string) string {
	return a.inner().spec().keyColumnOf(column)
}

func (s *schema) keyColumnOf(column string) string {
	for _, k := range s.recordKeys() {
		for _, f := range k.fields {
			if f.column == column {
				return k.column
			}
		}
	}
	return ""
}

// PlainColumns returns the columns of the struct that the model does not manage
// and that are not part of the primary key, by their tags.
func (a Adapter[R]) PlainColumns() []string { return columnsOf(a.inner().spec().plain) }

// ContextColumns returns the plain columns tagged context. [Adapter.Write] lists them
// with the key column, so that a record does not move meanwhile.
func (a Adapter[R]) ContextColumns() []string { return columnsOf(a.inner().spec().companions) }

// Replacement is a column that replaces another one, by the tag migrating=.
type Replacement struct{ Column, Old string }

// Replacements returns the columns that are about to replace others. Read neither
// without the other, because [Model.Open] takes the value of the old one. Compare
// both when either is written for many records. Columns tagged migrated= are not
// among them.
func (a Adapter[R]) Replacements() []Replacement { return a.inner().spec().replacements() }

func (s *schema) replacements() (list []Replacement) {
	for _, f := range s.replacing {
		if f.takesOld() {
			list = append(list, Replacement{f.column, f.oldColumn})
		}
	}
	return list
}

// CheckRead returns [kmsencrypted.ErrNotLoaded] for the columns of a result if one
// tagged migrating= is among them without the one that it replaces.
func (a Adapter[R]) CheckRead(columns []string) error {
	if err := a.inner().usable(nil); err != nil {
		return err
	}
	return a.inner().schema.checkRead(columns)
}

// ReplacedBy returns the encrypted column that replaces a plain one, by the tag
// migrating= or migrated=, or "" if none does. Never write the plain one alone.
func (a Adapter[R]) ReplacedBy(plain string) string { return a.inner().spec().replacedBy(plain) }

func (s *schema) replacedBy(plain string) string {
	for _, f := range s.replacing {
		if f.oldColumn == plain {
			return f.column
		}
	}
	return ""
}

// AdoptReplaced prepares a record for an INSERT that overwrites the row stored:
// plain columns that others replace get their values there if the program set
// neither. If it set the plain one, the other gets its value.
func (a Adapter[R]) AdoptReplaced(row, stored *R) {
	if c := a.inner(); !c.lacks(row) && !c.lacks(stored) {
		c.record(row).adoptOld(c.record(stored))
	}
}

// OpenStored is like [Model.Open] but leaves every field as its own column has it,
// also one tagged migrating=. Such a record must not be written by [Model.Seal].
func (a Adapter[R]) OpenStored(ctx context.Context, rows ...*R) error {
	return a.inner().open(ctx, untyped(rows), false)
}

// IndexColumn is the column of a blind index and the columns it is computed from. A
// source that the table does not have, tagged `db:"-"`, is not among them.
type IndexColumn struct {
	Column  string
	Sources []string
}

// IndexColumns returns the blind indexes, and the columns tagged activerecord, which are
// their own source.
func (a Adapter[R]) IndexColumns() []IndexColumn { return a.inner().spec().indexColumns() }

func (s *schema) indexColumns() (list []IndexColumn) {
	for _, x := range s.indexes {
		index := IndexColumn{Column: x.column}
		for _, source := range x.sources {
			if source.column != "" {
				index.Sources = append(index.Sources, source.column)
			}
		}
		list = append(list, index)
	}
	for _, f := range s.activeRecordColumns() {
		list = append(list, IndexColumn{Column: f.column, Sources: []string{f.column}})
	}
	return list
}

// Box returns the Box that the model seals and opens with.
func (a Adapter[R]) Box() *kmsencrypted.Box {
	if c := a.inner(); c != nil {
		return c.box
	}
	return nil
}

// Name returns the model's name in encryption contexts.
func (a Adapter[R]) Name() string { return a.inner().spec().name }

// BoundTable returns the table's name in what ciphertexts are bound to: see
// [Config.As].
func (a Adapter[R]) BoundTable() string { return a.inner().spec().table }

// KeysOnly reports whether the model declares no column under its keys: see
// [Config.KeysOnly].
func (a Adapter[R]) KeysOnly() bool { return a.inner().spec().config.KeysOnly }

// HasFiles reports whether records may have attached files: see [Config.Files].
func (a Adapter[R]) HasFiles() bool { return a.inner().spec().config.Files }

// RowType returns the struct type of a row: R, or the type that the rows of a
// dynamic model point to.
func (a Adapter[R]) RowType() reflect.Type {
	if c := a.inner(); c != nil {
		return c.row
	}
	return nil
}

// Memo returns what f returned when it was first called for key. It saves an
// adapter from comparing the struct with its library at every call. Keys are
// compared with ==; use a type of your own. f may run more than once at the same
// time. The first result is kept; an error is not.
func (a Adapter[R]) Memo(key any, f func() (any, error)) (any, error) {
	if err := a.inner().usable(nil); err != nil {
		return nil, err
	}
	if v, ok := a.memo.Load(key); ok {
		return v, nil
	}
	v, err := f()
	if err != nil {
		return nil, err
	}
	v, _ = a.memo.LoadOrStore(key, v)
	return v, nil
}

// ID returns the primary key of a record as texts, in the order of
// [Adapter.IDColumns]. These are the texts that ciphertexts are bound to. It
// returns nil while any column of the key is zero.
func (a Adapter[R]) ID(row *R) []string { return a.inner().id(row) }

func (c *core) id(row any) []string {
	if c.lacks(row) {
		return nil
	}
	if id := c.record(row).id(); len(id) > 0 {
		return id
	}
	return nil
}

// IDValues returns the columns of the primary key as arguments of a statement.
func (a Adapter[R]) IDValues(row *R) []any { return a.inner().values(row, a.inner().spec().ids) }

// SetID fills in the primary key from the texts of [Adapter.ID]. Texts that are
// not valid are [kmsencrypted.ErrMalformed]. So is a primary key that has a text
// but no [encoding.TextUnmarshaler] to read it.
func (a Adapter[R]) SetID(row *R, id []string) error {
	if err := a.inner().usable([]any{row}); err != nil {
		return err
	}
	return a.inner().record(row).setID(id)
}

// Scan reads the current row of a result into a record, by the names of its
// columns. Columns that the struct does not have are skipped. NULL leaves a plain
// field as it is. rows is a [*sql.Rows] or similar.
func (a Adapter[R]) Scan(rows Rows, row *R) error {
	if err := a.inner().usable([]any{row}); err != nil {
		return err
	}
	return a.inner().record(row).scan(rows)
}

// Rows is what [Adapter.Scan] needs of a [*sql.Rows].
type Rows interface {
	Columns() ([]string, error)
	Scan(dest ...any) error
}

// Write returns what has to be written of a record. It makes no call. A plaintext
// that was not sealed is [kmsencrypted.ErrUnsealed].
// plain names the plain columns that the caller sets in the same statement: those
// tagged context are compared, and the key with them.
func (a Adapter[R]) Write(row *R, plain ...string) (Write, error) { return a.inner().write(row, plain) }

// Saved tells records that the database now holds what [Adapter.Write] returned,
// for good: the statement was committed. Inside a transaction that goes on call
// [Adapter.Sent] or [Adapter.Inserted] instead.
func (a Adapter[R]) Saved(rows ...*R) { a.inner().saved(untyped(rows)) }

// Sent tells records that what [Adapter.Write] returned was sent to the database
// and may be there or not: in a transaction that may still be rolled back, or before
// an error that does not say. Until a record is read again, or [Adapter.Saved] says
// that the transaction was committed, Write lists these columns again, on condition
// that each holds what was read or what was sent.
func (a Adapter[R]) Sent(rows ...*R) { a.inner().sent(untyped(rows)) }

// Inserted tells records that they were inserted in a transaction that may still
// be rolled back. idAssigned says that the database made their primary keys.
func (a Adapter[R]) Inserted(idAssigned bool, rows ...*R) {
	a.inner().insertedRows(idAssigned, untyped(rows))
}

// IsUnconfirmed reports whether a record was inserted in a transaction whose end
// it does not know.
func (a Adapter[R]) IsUnconfirmed(row *R) bool { return a.inner().isUnconfirmed(row) }

// DropAssignedIDs empties the primary keys of records that are to be inserted once
// more, where the database had made them: after a rollback it may give them to
// other rows.
func (a Adapter[R]) DropAssignedIDs(rows ...*R) { a.inner().dropAssignedIDs(untyped(rows)) }

// KeyChanged decides what to do when a conditional update matched no row. Read
// the key column again and pass its value. If it still wraps the data key that the
// record was sealed under, somebody rewrapped it: the record takes over the new
// column, KeyChanged returns nil, and [Adapter.Write] may be tried once more.
// Otherwise it returns [kmsencrypted.ErrConflict]: read the record again and repeat
// the change.
func (a Adapter[R]) KeyChanged(ctx context.Context, row *R, column string, now any) error {
	return a.inner().keyChanged(ctx, row, column, now)
}

// Plaintext returns what [Of.Get] returns of the field of an encrypted column, and nil for
// NULL, where the caller knows columns and no types. It returns [kmsencrypted.ErrConfig] for another column.
func (a Adapter[R]) Plaintext(column string, row *R) (any, error) {
	if err := a.inner().usable([]any{row}); err != nil {
		return nil, err
	}
	return a.inner().record(row).plaintextOf(column)
}

// Key returns the record's key in a key column; nil if the model has no such column.
func (a Adapter[R]) Key(column string, row *R) *Key {
	c := a.inner()
	if k := c.spec().keyOf(column); k != nil && !c.lacks(row) {
		return c.record(row).key(k)
	}
	return nil
}

// KeyVersion returns the version that a key column is written at: that of
// [Config.KeyVersions], otherwise the current one of the Box. It returns 0 if the column
// is not a key of the model.
func (a Adapter[R]) KeyVersion(column string) int {
	if k := a.inner().spec().keyOf(column); k != nil {
		return cmp.Or(k.target, a.Box().Current())
	}
	return 0
}

// Binding returns what the data key in a key column of a record is bound to. It
// returns the zero value if the column is not a key of the model.
func (a Adapter[R]) Binding(column string, row *R) kmsencrypted.Binding {
	c := a.inner()
	if k := c.spec().keyOf(column); k != nil && !c.lacks(row) {
		return c.record(row).binding(k)
	}
	return kmsencrypted.Binding{}
}

// PlacedByID reports whether the primary key alone decides where the data key in a key
// column is wrapped at [Adapter.KeyVersion]: no function of the program is asked for its
// context or provider.
func (a Adapter[R]) PlacedByID(column string) bool {
	c := a.inner()
	k := c.spec().keyOf(column)
	return k != nil && !c.schema.hasOwnContext(c.box, k, a.KeyVersion(column))
}

// SealIndexes computes the blind indexes of what was set in records that are not in
// the database yet. It takes no data key and makes no call: for an INSERT that is to
// find out whether a record is there before the database has made its primary key.
func (a Adapter[R]) SealIndexes(ctx context.Context, rows ...*R) error {
	return a.inner().indexNew(ctx, untyped(rows))
}

// AddKey gives a record without a data key one at the current version, although
// nothing has to be sealed yet. It makes one call. [Adapter.Write] then has the key
// column. A record that was read with ciphertexts but without a data key is
// [kmsencrypted.ErrNoDataKey].
func (a Adapter[R]) AddKey(ctx context.Context, column string, row *R) error {
	return a.inner().addKey(ctx, column, row)
}

// AddSharedKey is [Adapter.AddKey] for a record of which the program has a copy that was
// read earlier. If the copy was read without a data key and got one since, the record gets
// the same one, with no call. Otherwise a copy without a data key takes over the new one,
// which counts as sent: see [Adapter.Sent]. Under a record seal, and if the encryption
// context has changed, the data key of the copy is not for this record: then writing
// the copy is [kmsencrypted.ErrConflict].
func (a Adapter[R]) AddSharedKey(ctx context.Context, column string, row, earlier *R) error {
	return a.inner().addSharedKey(ctx, column, row, earlier)
}

// AddKeys is [Adapter.AddKey] for every key column that is NULL, of many records. The
// error is that of the record, or [Failures] if there are many.
func (a Adapter[R]) AddKeys(ctx context.Context, rows ...*R) error {
	return a.inner().addKeys(ctx, untyped(rows), every)
}

// DataKeys returns the data keys in a key column of records that were read, for
// other data under them, such as files: see [Config.Files]. Each has its bytes, and
// the caller must wipe it. The zero value means a record without a data key. Keys
// that are not open in the records are unwrapped concurrently and stay open.
//
// The error is that of the record, or [Failures] if there are many records; the keys
// of the others are returned all the same. A column that is not a key of the model
// is [kmsencrypted.ErrConfig], one that was not read [kmsencrypted.ErrNotLoaded].
func (a Adapter[R]) DataKeys(ctx context.Context, column string, rows ...*R) ([]kmsencrypted.DataKey, error) {
	return a.inner().dataKeys(ctx, column, untyped(rows))
}

// RekeyWithFiles is like [Model.Rekey] but accepts a model with [Config.Files]. The
// caller must move everything else under the old data keys, which [Adapter.DataKeys]
// returned before, to the new ones in the same transaction. Package sqlstore does
// this with its Options.Dependents. Without it the files of the records are lost.
func (a Adapter[R]) RekeyWithFiles(ctx context.Context, rows ...*R) error {
	return a.inner().rekey(ctx, every, untyped(rows))
}

// Complete adds the wraps that key columns at the current version lack because a
// key service was away when they were written. A column that still lacks a wrap
// afterwards stays as it was, and the error is [kmsencrypted.ErrUnavailable]. Other
// key columns are left alone.
func (a Adapter[R]) Complete(ctx context.Context, rows ...*R) error {
	return a.inner().rewrap(ctx, opComplete, untyped(rows), (*group).lacksWrap)
}

// Incomplete returns the number of key columns of a record that [Adapter.Complete]
// would write. It makes no call.
func (a Adapter[R]) Incomplete(row *R) int {
	return a.inner().incomplete(row)
}

// CheckDerived compares what opened records hold besides their values. An index
// that differs from what is computed from its fields is
// [kmsencrypted.ErrStaleIndex]. A field tagged migrating= or migrated= that differs
// from the one it replaces is [kmsencrypted.ErrNotMigrated]. CheckDerived changes
// nothing. A slow index takes as long as when it is written. The error is [Failures]
// if there is more than one record.
func (a Adapter[R]) CheckDerived(ctx context.Context, rows ...*R) error {
	return a.inner().checkDerived(ctx, untyped(rows))
}

// CheckReplaced is the part of [Adapter.CheckDerived] that makes
// [kmsencrypted.ErrNotMigrated]. It compares what is in memory.
func (a Adapter[R]) CheckReplaced(_ context.Context, rows ...*R) error {
	return a.inner().checkAllReplaced(untyped(rows))
}

func (c *core) checkAllReplaced(rows []any) error {
	if err := c.usable(rows); err != nil {
		return err
	}
	w := c.newWork(rows)
	defer w.release()
	w.checkReplaced()
	return failures(w.records)
}

// Mend opens fields that do not open under the data key of their record with a
// data key that the record had before: wrapped is what the key column of that name
// held then. Fields that open are set to their value, so that Seal seals them under
// the record's own key. Mend returns their columns.
//
// The record must have been opened before. Such a field comes from a writer that
// did not compare the key column while the record was rekeyed. It cannot be told
// from an old value that somebody put back, so mend only rows whose history is
// known. A record under a record seal is not mended: this library never wrote a
// column that its seal does not cover.
func (a Adapter[R]) Mend(ctx context.Context, row *R, keyColumn, wrapped string) (mended []string, err error) {
	return a.inner().mend(ctx, row, keyColumn, wrapped)
}
