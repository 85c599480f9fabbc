package kmspgx

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

// Insert seals records under new data keys and inserts all or none of them, with
// one call to the key service for each. A copy of another record becomes a record
// of its own. For a slice: field.Pointers(slice)...
//
// If the primary key is zero, the database assigns it, and Insert sets it in the
// record; see "Primary keys" in the package comment. If Insert fails, the ids are
// unchanged, and an error about one of many records is [field.Failures] with its
// index. After a transaction was rolled back, repeat it with the same records:
// Insert drops an id that the database had assigned, and the record gets another
// one.
func Insert[R any](ctx context.Context, db DB, m *field.Model[R], rows ...*R) error {
	t, err := tableFor("insert", db, m, rows...)
	if err != nil || len(rows) == 0 {
		return err
	}
	return failed("insert", m.Table(), records.Insert(ctx, session{db}, t, rows...))
}

// InsertOptions are the options of [InsertMany].
type InsertOptions struct {
	// ChunkSize is how many records are sealed and inserted at a time. 0 is 1000.
	ChunkSize int
	// Progress is called after each chunk, by the goroutine of the caller, with the
	// number of records inserted so far. Nil reports nothing.
	Progress func(done, total int)
}

// InsertMany inserts records as [Insert] does, in chunks: all or none of a chunk. It
// seals a chunk on all processors before the transaction of that chunk begins. It
// stops at the first error and returns how many records it inserted. To continue,
// call it with rows[inserted:]. An error about one record is [field.Failures] with
// its index in rows.
func InsertMany[R any](ctx context.Context, db DB, m *field.Model[R], rows []*R, o InsertOptions) (inserted int, err error) {
	t, err := tableFor("insert", db, m, rows...)
	if err != nil {
		return 0, err
	}
	inserted, err = records.InsertMany(ctx, session{db}, t, rows, records.Chunks(o))
	return inserted, failed("insert", m.Table(), err)
}

// Update seals what was set in a record and writes it with one UPDATE: the
// encrypted columns that changed, and the named plain columns, or all of them with
// the name "*". It does nothing if there is nothing to write.
//
// The UPDATE finds the row only if its key column is unchanged since it was read,
// or wraps the same data key. Otherwise another program gave the row another data
// key, and Update returns [kmsencrypted.ErrConflict]: read the record again and
// repeat the change. It returns [pgx.ErrNoRows] if the row does not exist. After an
// error, and after a rollback of the transaction db, the record still has its
// changes, so Update can be called again: see "Transactions" in the package
// comment.
func Update[R any](ctx context.Context, db DB, m *field.Model[R], row *R, plain ...string) error {
	t, err := tableFor("update", db, m, row)
	if err != nil {
		return err
	}
	return failed("update", m.Table(), records.Update(ctx, session{db}, t, row, plain...))
}

// Rewrap moves a record that was read to the current version of the Box and writes
// its key column, under the conditions and with the errors of [Update]. The data
// key stays: see [field.Model.Rewrap].
func Rewrap[R any](ctx context.Context, db DB, m *field.Model[R], row *R) error {
	t, err := tableFor("rewrap", db, m, row)
	if err != nil {
		return err
	}
	return failed("rewrap", m.Table(), records.Rewrap(ctx, session{db}, t, row))
}

// Rekey gives a record that was read a new data key at the current version and
// writes all its encrypted columns. It returns [kmsencrypted.ErrConflict] if one
// of them has changed since. See [field.Model.Rekey].
func Rekey[R any](ctx context.Context, db DB, m *field.Model[R], row *R) error {
	t, err := tableFor("rekey", db, m, row)
	if err != nil {
		return err
	}
	return failed("rekey", m.Table(), records.Rekey(ctx, session{db}, t, row))
}

// Delete deletes the row of a record by its primary key. It returns
// [pgx.ErrNoRows] if the row does not exist.
func Delete[R any](ctx context.Context, db DB, m *field.Model[R], row *R) error {
	t, err := tableFor("delete", db, m, row)
	if err != nil {
		return err
	}
	return failed("delete", m.Table(), records.Delete(ctx, session{db}, t, row))
}
