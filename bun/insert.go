package kmsbun

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

// insertion is an INSERT of records. bun makes the statement of plain columns and of
// what could be sealed before; package records seals and writes the rest.
type insertion struct {
	*table
	q       *bun.InsertQuery
	whole   bun.InsertQuery // with all columns
	db      session
	in      *records.Insertion[any]
	rows    []*any
	unknown bool // the database assigns an id
	skips   bool // ON CONFLICT DO NOTHING
}

// beforeInsert seals the records of an INSERT, as far as their ids are known, and takes
// the statement over.
func (t *table) beforeInsert(ctx context.Context, q *bun.InsertQuery) error {
	rows := t.rows(q.GetModel())
	if len(rows) == 0 {
		return nil // the guard looks at the statement
	}
	db := connOf(q, q.DB())
	if err := t.checkInsert(q, db); err != nil {
		return err
	}
	columns, _ := named(q, t.bun)
	if columns != nil && firstOf(t.managed, columns) == "" {
		return nil // nothing of ours is inserted
	}
	i := &insertion{table: t, q: q, db: sessionOn(db), rows: rows, skips: onOf(q).Query != "" || *ignoreOf(q)}
	var err error
	if i.in, err = t.records.Begin(ctx, i.db, rows); err != nil {
		return i.in.End(false, err)
	}
	i.unknown = len(i.in.Unknown()) > 0
	i.whole = *q
	if len(i.in.Unsealed()) > 0 {
		*columnsOf(q) = slices.Clone(*columnsOf(q))
		q.ExcludeColumn(t.managed...)
	}
	q.Conn(&conn{db, i.run, true})
	return nil
}

// checkInsert refuses what goes around the records.
func (t *table) checkInsert(q *bun.InsertQuery, db bun.IConn) error {
	const op = "insert"
	if err := t.checkReturning(op, q); err != nil {
		return err
	}
	if c, ok := db.(*conn); ok && c.once {
		return t.refused(op, "", errors.ErrUnsupported, "a query inserts records once: make another one")
	}
	if *replaceOf(q) {
		return t.refused(op, "", errors.ErrUnsupported, "REPLACE deletes a row with columns that are unknown here: delete or update the record")
	}
	if *ignoreOf(q) && t.dialect == field.MySQL {
		return t.refused(op, "", errors.ErrUnsupported, "INSERT IGNORE stores what was cut: read the record, and insert it if there is none")
	}
	if on := strings.ToUpper(onOf(q).Query); on != "" && !strings.HasSuffix(strings.TrimSpace(on), "DO NOTHING") {
		return t.refused(op, "", errors.ErrUnsupported, "an upsert would replace encrypted columns of a row that was not read, and its data key if it has one: read the record, and insert or update it")
	}
	for name := range *valuesOf(q) {
		if slices.Contains(t.managed, name) {
			return t.refused(op, name, kmsencrypted.ErrUnsealed, "set it in the record")
		}
		if slices.Contains(t.context, name) || slices.Contains(t.ids, name) {
			return t.refused(op, name, errors.ErrUnsupported, "the data key is bound to it: set it in the record")
		}
	}
	columns, plain := named(q, t.bun)
	if !plain {
		return t.refused(op, "", errors.ErrUnsupported, "name the columns of a record one by one")
	}
	for _, column := range slices.Concat(t.managed, t.context) {
		if firstOf(t.managed, columns) != "" && !slices.Contains(columns, column) {
			return t.refused(op, column, errors.ErrUnsupported, "the encrypted columns of a record and those of its context are inserted together: name all or none")
		}
	}
	return nil
}

// run inserts the records. bun may ask for what the statement returns.
func (i *insertion) run(ctx context.Context, text string, returns bool) (a answer, err error) {
	if text, err = i.sealedAgain(ctx, text); err != nil {
		return a, i.in.End(false, err)
	}
	write := func(db records.DB) error {
		if a, err = i.insert(ctx, db.(session), text, returns); err != nil || a.affected < int64(len(i.rows)) {
			return err
		}
		if len(i.in.Unsealed()) > 0 {
			if err := i.in.Complete(ctx, db); err != nil {
				return err
			}
		}
		if i.in.ReadsAgain() {
			return i.in.ReadAgain(ctx, db)
		}
		return nil
	}
	if i.unknown || i.in.ReadsAgain() {
		err = i.db.Atomically(ctx, write)
	} else {
		err = write(i.db)
	}
	if err == nil && a.affected < int64(len(i.rows)) {
		if !i.skips {
			err = fmt.Errorf("%w: the database inserted %d rows of %d", kmsencrypted.ErrConflict, a.affected, len(i.rows))
		} else { // which ones is unknown: none of the records counts as stored
			_ = i.in.End(false, errors.ErrUnsupported)
			a.lastID = 0
			return a, nil
		}
	}
	if len(i.rows) > 1 {
		a.lastID = 0 // bun would count on from it
	}
	return a, i.in.End(i.db.Commits(), err)
}

// sealedAgain seals what a hook of the program set after the records were sealed, and
// makes the statement again.
func (i *insertion) sealedAgain(ctx context.Context, text string) (string, error) {
	if !reflect.PointerTo(i.rowType).Implements(reflect.TypeFor[bun.BeforeAppendModelHook]()) {
		return text, unwritable(text)
	}
	for _, row := range i.rows {
		if slices.Contains(i.in.Unsealed(), row) {
			continue
		}
		if err := i.model.Seal(ctx, row); err != nil {
			return "", err
		}
	}
	text, err := rendered(i.q)
	if err == nil {
		err = unwritable(text)
	}
	return text, err
}

// insert sends bun's statement, or one for each record if the database assigns ids:
// which of them belongs to which row is never computed.
func (i *insertion) insert(ctx context.Context, db session, text string, returns bool) (all answer, err error) {
	if !i.unknown {
		return i.send(ctx, db.conn, i.overriding(text), returns)
	}
	for _, row := range i.rows {
		one := i.whole
		*columnsOf(&one) = slices.Clone(*columnsOf(&i.whole))
		one.Model(*row)
		if slices.Contains(i.in.Unsealed(), row) {
			one.ExcludeColumn(i.managed...)
		}
		text, err := rendered(&one)
		if err != nil {
			return all, err
		}
		a, err := i.send(ctx, db.conn, text, returns)
		if err == nil && a.affected == 1 {
			err = i.takeID(ctx, one.GetModel(), row, a)
		}
		if err != nil {
			return all, err
		}
		all.affected += a.affected
		if len(all.rows) > 0 && !slices.Equal(all.columns, a.columns) {
			all.columns = nil
		} else {
			all.columns = a.columns
		}
		all.rows = append(all.rows, a.rows...)
	}
	if returns && (len(all.columns) == 0 || len(all.rows) < len(i.rows)) {
		return all, i.tellIDs(&all)
	}
	return all, nil
}

// tellIDs makes a result of the ids: bun reads one row for each record, but the
// statements of some returned nothing, or other columns.
func (i *insertion) tellIDs(a *answer) (err error) {
	a.result = result{columns: i.ids}
	for _, row := range i.rows {
		var ids []driver.Value
		for _, id := range i.model.IDValues(row) {
			value, err := driver.DefaultParameterConverter.ConvertValue(id)
			if err != nil {
				return records.Hide(err, nil)
			}
			ids = append(ids, value)
		}
		a.rows = append(a.rows, ids)
	}
	return nil
}

// takeID sets the id that the database assigned, and what else it returned.
func (i *insertion) takeID(ctx context.Context, m bun.Model, row *any, a answer) error {
	if len(a.rows) > 0 {
		rows, err := a.result.open()
		if err != nil {
			return err
		}
		defer rows.Close()
		_, err = m.ScanRows(ctx, rows)
		return err
	}
	if slices.Contains(i.in.Unknown(), row) && a.lastID != 0 && len(i.bun.PKs) == 1 {
		return i.bun.PKs[0].ScanValue(structOf(row), a.lastID)
	}
	return nil
}

// overriding lets PostgreSQL take a given id where it is GENERATED ALWAYS.
func (i *insertion) overriding(text string) string {
	const values = ") VALUES ("
	if i.dialect != field.Postgres {
		return text
	}
	before, after, ok := strings.Cut(text, values)
	if !ok {
		return text
	}
	return before + ") OVERRIDING SYSTEM VALUE VALUES (" + after
}

// rendered returns the statement of a query, which panics if it has none.
func rendered(q fmt.Stringer) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = configError("%v: no statement", reflect.TypeOf(q))
			if failure, ok := r.(error); ok {
				err = records.Hide(failure, nil)
			}
		}
	}()
	return q.String(), nil
}
