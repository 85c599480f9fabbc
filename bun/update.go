package kmsbun

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
	"github.com/kmsencrypted/kmsencrypted/internal/sqlscan"
)

// change is an UPDATE of one record. bun's statement sets the plain columns, under the
// conditions of the program. If it finds the row, package records writes the encrypted
// ones and those of the context in the same transaction, under its own conditions.
type change struct {
	*table
	q     *bun.UpdateQuery
	db    session
	row   *any
	named []string // plain columns that package records writes
}

// beforeUpdate seals the record of an UPDATE and takes the statement over.
func (t *table) beforeUpdate(ctx context.Context, q *bun.UpdateQuery) error {
	db := connOf(q, q.DB())
	if c, ok := db.(*conn); ok {
		if c.once {
			return t.refused("update", "", errors.ErrUnsupported, "a query updates a record once: make another one")
		}
		db = c.IConn
	}
	if err := t.checkReturning("update", q); err != nil {
		return err
	}
	rows := t.rows(q.GetModel())
	if len(rows) != 1 || isList(q.GetModel()) || len(*setOf(q)) > 0 {
		return t.beforeSet(q, db)
	}
	for name := range *valuesOf(q) {
		if err := t.checkSet(name); err != nil {
			return err
		}
	}
	c := &change{table: t, q: q, db: sessionOn(db), row: rows[0]}
	wanted, plain := named(q, t.bun)
	switch {
	case !plain:
		return t.refused("update", "", errors.ErrUnsupported, "name the columns of a record one by one")
	case wanted != nil && firstOf(slices.Concat(t.fields, t.context, t.replaced), wanted) == "":
		return t.beforeSet(q, db) // nothing of ours is written
	}
	if err := c.prepare(ctx, wanted); err != nil {
		return err
	}
	q.Conn(&conn{db, c.run, true})
	return nil
}

func isList(m bun.Model) bool {
	_, ok := m.(bun.TableModel)
	return !ok || !isStruct(m.Value())
}

// beforeSet looks at an UPDATE that is not of one record, and makes it strict.
func (t *table) beforeSet(q *bun.UpdateQuery, db bun.IConn) error {
	if isList(q.GetModel()) || len(*setOf(q)) > 0 {
		text, err := rendered(q)
		if err != nil {
			return nil // bun says so itself
		}
		for _, name := range sqlscan.Parse(text, t.options()).Written {
			if err := t.checkSet(name); err != nil {
				return err
			}
		}
	}
	send := func(ctx context.Context, text string, returns bool) (answer, error) {
		return t.send(ctx, db, text, returns)
	}
	q.Conn(&conn{db, send, false})
	return nil
}

// checkSet refuses a column that is set beside the record.
func (t *table) checkSet(column string) error {
	const op = "update"
	switch {
	case slices.Contains(t.managed, column):
		return t.refused(op, column, kmsencrypted.ErrUnsealed, saveRecord)
	case slices.Contains(t.replaced, column):
		return t.refused(op, column, kmsencrypted.ErrUnsealed, "an encrypted column replaces it: "+saveRecord)
	case slices.Contains(t.context, column):
		return t.refused(op, column, errors.ErrUnsupported, "the data keys are bound to it: "+saveRecord)
	case slices.Contains(t.ids, column):
		return t.refused(op, column, errors.ErrUnsupported, "the data key is bound to the id: insert a new record instead")
	}
	return nil
}

const saveRecord = "read the record, set it there, and update it with Model(&record).WherePK()"

// prepare seals the record, and leaves to bun's statement what is plain.
func (c *change) prepare(ctx context.Context, wanted []string) error {
	if err := c.checkWhere(); err != nil {
		return err
	}
	if err := c.model.Seal(ctx, c.row); err != nil {
		return err
	}
	if wanted == nil {
		for _, f := range c.bun.DataFields {
			if !f.SkipUpdate() {
				wanted = append(wanted, f.Name)
			}
		}
		c.q.Column(wanted...)
	}
	w, err := c.model.Write(c.row)
	if err != nil {
		return c.failed(err)
	}
	mine := slices.Concat(c.managed, c.context, c.replaced, w.Omit)
	for _, a := range w.Set {
		if slices.Contains(c.fields, a.Column) && !c.names(wanted, a.Column) {
			return c.refused("update", a.Column, errors.ErrUnsupported, "it was set, but the query does not name it: the encrypted columns of a record are written together")
		}
		mine = append(mine, a.Column)
	}
	if len(w.Set) > 0 || c.isKeyless() { // nothing else tells that the context of a row without a key changed
		for _, column := range c.context {
			if slices.Contains(wanted, column) {
				c.named = append(c.named, column)
			}
		}
	}
	// Columns that are excluded must be in the list, and one must stay.
	*columnsOf(c.q) = slices.Clone(*columnsOf(c.q))
	rest := 0
	for _, column := range slices.Compact(slices.Sorted(slices.Values(wanted))) {
		if slices.Contains(mine, column) {
			c.q.ExcludeColumn(column)
		} else if !c.isID(column) {
			rest++
		}
	}
	if rest == 0 {
		column := c.managed[0]
		c.q.Column(column).Value(column, "?", bun.Ident(column))
	}
	return nil
}

// names reports whether a list has an encrypted column, or the one that it replaces.
func (t *table) names(list []string, column string) bool {
	return slices.ContainsFunc(list, func(name string) bool { return name == column || t.model.ReplacedBy(name) == column })
}

func (t *table) isID(column string) bool { return slices.Contains(t.ids, column) }

// isKeyless reports whether a record has no data key as yet.
func (c *change) isKeyless() bool {
	return !slices.ContainsFunc(c.model.KeyColumns(), func(column string) bool {
		wrapped, err := c.model.Key(column, c.row).Value()
		return err != nil || wrapped != nil
	})
}

// checkWhere makes sure that bun's statement finds the row of the record, if it finds
// any. bun itself refuses a statement without conditions.
func (c *change) checkWhere() error {
	depth := 0
	for _, w := range *whereOf(c.q) {
		switch sep := strings.TrimSpace(w.Sep); {
		case sep == "(":
			depth++
		case sep == ")":
			depth--
		case depth == 0 && strings.EqualFold(sep, "OR"):
			return c.refused("update", "", errors.ErrUnsupported, "the conditions of a record are joined by AND: put those with OR into WhereGroup")
		}
	}
	if slices.EqualFunc(*whereFieldsOf(c.q), c.bun.PKs, func(a, b *schema.Field) bool { return a.Name == b.Name }) {
		return nil
	}
	if len(*whereOf(c.q)) == 0 && *whereFieldsOf(c.q) == nil {
		return nil
	}
	for i, id := range c.model.IDValues(c.row) {
		c.q.Where("?TableAlias.? = ?", bun.Ident(c.ids[i]), id)
	}
	return nil
}

// run writes the record. What the hooks of the program set after it was sealed is
// sealed now.
func (c *change) run(ctx context.Context, text string, returns bool) (a answer, err error) {
	if err := c.model.Seal(ctx, c.row); err != nil {
		return a, err
	}
	w, err := c.model.Write(c.row)
	if err != nil {
		return a, c.failed(err)
	}
	if len(w.Set)+len(c.named) == 0 {
		return c.send(ctx, c.db.conn, text, returns)
	}
	err = c.db.Atomically(ctx, func(tx records.DB) error {
		found := false
		if a, found, err = c.find(ctx, tx.(session), text, returns); err != nil || !found {
			return err
		}
		return c.records.Write(ctx, tx, c.row, c.named...)
	})
	if err == nil && a.affected > 0 && c.db.Commits() {
		c.model.Saved(c.row)
	}
	return a, err
}

// find sends bun's statement and reports whether it found the row.
func (c *change) find(ctx context.Context, tx session, text string, returns bool) (a answer, found bool, err error) {
	if c.dialect != field.MySQL {
		a, err = c.send(ctx, tx.conn, text, returns)
		return a, a.affected > 0, err
	}
	a, err = c.send(ctx, tx.conn, c.telling(text, "LAST_INSERT_ID(1)"), returns)
	found = a.affected > 0 || a.lastID > 0
	if err == nil && !found {
		found, err = c.findsBesideTriggers(ctx, tx, text)
	}
	if found {
		a.affected = 1
	}
	return a, found, err
}

// telling makes an UPDATE of MySQL evaluate an expression for each row that it finds. It
// counts rows that changed.
func (c *change) telling(text, expression string) string {
	column := c.dialect.Quoted(c.managed[0])
	return strings.Replace(text, " SET ", " SET "+column+" = IF("+expression+", "+column+", NULL), ", 1)
}

// findsBesideTriggers sends a statement again that changed no row. Triggers reset
// LAST_INSERT_ID, but no variable of the session.
func (c *change) findsBesideTriggers(ctx context.Context, tx session, text string) (found bool, err error) {
	if _, err := c.send(ctx, tx.conn, "SET @kmsencrypted = 0", false); err != nil {
		return false, err
	}
	if _, err := c.send(ctx, tx.conn, c.telling(text, "(@kmsencrypted := 1)"), false); err != nil {
		return false, err
	}
	rows, err := tx.Query(ctx, "SELECT @kmsencrypted")
	if err != nil {
		return false, records.Hide(err, nil)
	}
	for rows.Next() {
		err = errors.Join(err, rows.Scan(&found))
	}
	return found, records.Hide(errors.Join(err, rows.Err(), rows.Close()), nil)
}

func (c *change) failed(err error) error { return records.Failed("update", c.name, err) }
