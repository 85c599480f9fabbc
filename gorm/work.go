package kmsgorm

import (
	"errors"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// work is the state of one statement: the changes made to it for GORM's callback, and
// the work that remains after the callback.
type work struct {
	*table
	rows           rows
	all            rows     // as the program gave them
	selects, omits []string // of the program
	begun          bool     // this package began a transaction
	savepoint      bool     // and set a savepoint in one of the program
	binding        rows     // whose rows get values of the program's that they are bound to

	create
	update
}

// create is the state of an INSERT.
type create struct {
	sealed     []placed // when the records were sealed before the transaction
	later      rows     // to be sealed when the database has given their ids
	existing   rows     // whose rows an upsert overwrites
	asSealed   rows     // copies of those that are inserted with an id
	copied     rows     // those of which they are copies
	indexed    bool     // their blind indexes are computed, and inserted with them
	idAssigned bool     // the database makes the ids
	isUpsert   bool
	named      []string // encrypted columns that an upsert overwrites, nil for all
	uncertain  bool     // what became of the rows: an upsert
	counted    bool     // every row must be written
}

// update is the state of an UPDATE.
type update struct {
	dest      any           // as it was
	whole     bool          // the program updates with the record itself
	ownSet    *ownSet       // taken from the statement
	copyOf    reflect.Value // the record, if rows has a copy that is written instead
	given     []string      // the columns that are written of a copy
	published bool          // the record has them
	change    *field.Write  // what the record writes
	assigned  clause.Set    // and what GORM does
	condition *unchanged
}

func (t *table) begin(db *gorm.DB, list rows) *work {
	w := &work{table: t, rows: list, all: list, selects: db.Statement.Selects, omits: db.Statement.Omits}
	w.dest = db.Statement.Dest
	db.Statement.Settings.Store(current(db), w)
	return w
}

// currentWork and unconfirmedWork are the addresses of statements, as keys of what
// belongs to one of them alone: its Settings are copied to others. They are what
// [gorm.DB.InstanceSet] makes a text of, at each call.
type (
	currentWork     uintptr
	unconfirmedWork uintptr
)

func current(db *gorm.DB) currentWork {
	return currentWork(reflect.ValueOf(db.Statement).Pointer())
}

func unconfirmed(db *gorm.DB) unconfirmedWork {
	return unconfirmedWork(reflect.ValueOf(db.Statement).Pointer())
}

// peekWork returns the work that begin stored in the statement.
func peekWork(db *gorm.DB) *work {
	v, _ := db.Statement.Settings.Load(current(db))
	w, _ := v.(*work)
	return w
}

// workOf is like peekWork, and removes the work, because a statement may be used again.
// It is for the callback after GORM's.
func workOf(db *gorm.DB) *work {
	v, _ := db.Statement.Settings.LoadAndDelete(current(db))
	w, _ := v.(*work)
	return w
}

// of adds which of the program's records an error is about, if there are many.
func (w *work) of(row *any, err error) error {
	if i := slices.Index(w.asSealed, row); i >= 0 {
		row = w.copied[i]
	}
	i := slices.Index(w.all, row)
	if err == nil || i < 0 || len(w.all) == 1 {
		return err
	}
	return field.Failures{{Index: i, Err: err}}
}

// inTransaction begins a transaction unless the statement is in one.
func (w *work) inTransaction(db *gorm.DB) error {
	stmt := db.Statement
	if _, already := stmt.ConnPool.(gorm.TxCommitter); !already && !db.DryRun {
		tx := db.Begin()
		if tx.Error != nil {
			return tx.Error
		}
		stmt.ConnPool, w.begun = tx.Statement.ConnPool, true
	}
	return nil
}

// end ends a transaction of inTransaction.
func (w *work) end(db *gorm.DB) {
	if !w.begun {
		return
	}
	if db.Error != nil {
		db.Rollback()
	} else if db.Commit().Error == nil && !db.DryRun && !w.uncertain {
		w.saved()
	}
	db.Statement.ConnPool = db.ConnPool
}

// confirmed records that a statement succeeded. Outside a transaction the records are
// saved. Inside one it calls mark; if GORM began the transaction for this statement,
// [Plugin.confirm] saves the records after the commit.
func (w *work) confirmed(db *gorm.DB, mark func()) {
	if _, inTransaction := db.Statement.ConnPool.(gorm.TxCommitter); !inTransaction {
		w.saved()
		return
	}
	mark()
	w.publish()
	if _, begun := db.InstanceGet("gorm:started_transaction"); begun {
		db.Statement.Settings.Store(unconfirmed(db), w)
	}
}

// confirm runs after GORM ended the transaction that it began for a statement.
func (p *Plugin) confirm(db *gorm.DB) {
	if v, ok := db.Statement.Settings.LoadAndDelete(unconfirmed(db)); ok {
		if w, _ := v.(*work); w != nil && db.Error == nil {
			w.saved()
		}
	}
}

// saved marks the records as stored in the database.
func (w *work) saved() {
	w.model.Saved(w.rows...)
	w.publish()
}

// leaveOut prevents GORM from writing the encrypted columns.
func (w *work) leaveOut(stmt *gorm.Statement) {
	stmt.Omits = slices.Concat(w.omits, w.columns)
}

// restore resets the statement to what the program passed.
func (w *work) restore(stmt *gorm.Statement) { stmt.Selects, stmt.Omits = w.selects, w.omits }

// unchanged is the condition that the columns of a record still have the values that
// were read. Its columns can be replaced after it was added to a statement.
type unchanged struct {
	*table
	columns []field.Assignment
}

// Build implements [clause.Expression].
func (u *unchanged) Build(builder clause.Builder) {
	for i, a := range u.columns {
		if i > 0 {
			builder.WriteString(" AND ")
		}
		var either []clause.Expression
		for _, value := range a.Values() {
			if a.Exact {
				either = append(either, exactly{a.Column, value})
				continue
			}
			either = append(either, clause.Eq{Column: clause.Column{Name: a.Column}, Value: u.bound(a.Column, value)}) // IS NULL for nil
		}
		clause.And(clause.Or(either...)).Build(builder)
	}
}

// exactly is the condition that a column holds a text, character by character.
type exactly struct {
	column string
	value  any
}

// Build implements [clause.Expression].
func (e exactly) Build(builder clause.Builder) {
	stmt, ok := builder.(*gorm.Statement)
	if !ok {
		_ = builder.AddError(errors.ErrUnsupported)
		return
	}
	d := dialectOf(stmt.DB)
	compared, before, after := d.Exact(stmt.Quote(clause.Column{Name: e.column}))
	_, _ = builder.WriteString(compared + " " + d.Same() + " " + before)
	builder.AddVar(builder, e.value)
	_, _ = builder.WriteString(after)
}

// own is a statement of this package on the connection of another.
func own(db *gorm.DB) *gorm.DB {
	tx := db.Session(&gorm.Session{NewDB: true, SkipHooks: true}).Set(settingOwn, true)
	if expr := db.Statement.TableExpr; expr != nil {
		return tx.Table(expr.SQL, expr.Vars...)
	}
	return tx.Table(db.Statement.Table)
}
