package kmsgorm

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/kmsencrypted/kmsencrypted"
)

// The transaction of a statement holds a connection, which should not wait for a key
// service. So records are sealed before GORM begins the transaction, where possible.
// If the program's hooks change a record afterwards, it is sealed again under the
// same data key, which takes no call.

// placed is the id that the data keys of a record were bound to when they were made, and
// where those are wrapped for which the id does not decide it.
type placed struct {
	id     []string
	places []kmsencrypted.Place
}

func (t *table) placeOf(row *any) (p placed, err error) {
	p.id = t.model.ID(row)
	box := t.model.Box()
	for _, column := range t.moving {
		place, err := box.Place(t.model.KeyVersion(column), t.model.Binding(column, row))
		if err != nil {
			return p, err
		}
		p.places = append(p.places, place)
	}
	return p, nil
}

// mayChange reports whether hooks of the program may still change the records.
func mayChange(stmt *gorm.Statement) bool {
	s := stmt.Schema
	return !stmt.SkipHooks && (s.BeforeSave || s.BeforeCreate || s.BeforeUpdate)
}

// early returns the error of work before the transaction, unless a hook may still
// correct its cause. An unavailable key service is always reported, so that it is not
// called twice.
func early(stmt *gorm.Statement, err error) error {
	if err != nil && mayChange(stmt) && !errors.Is(err, kmsencrypted.ErrUnavailable) {
		return nil
	}
	return err
}

// prepareCreate seals records whose ids are known.
func (t *table) prepareCreate(db *gorm.DB) error {
	stmt := db.Statement
	if stmt.Schema == nil || stmt.Schema.ModelType != t.rowType || db.DryRun {
		return nil
	}
	found, ok := t.find(stmt.ReflectValue)
	if _, upsert := stmt.Clauses["ON CONFLICT"]; !ok || upsert {
		return nil
	}
	t.model.DropAssignedIDs(found...)
	w := t.begin(db, found)
	if included, _ := t.included(stmt, true); !included || !t.hasID(stmt.Context, found) {
		return nil
	}
	if err := t.model.SealNew(stmt.Context, found...); err != nil {
		return early(stmt, err)
	}
	for _, row := range found {
		p, err := t.placeOf(row)
		if err != nil {
			return err
		}
		w.sealed = append(w.sealed, p)
	}
	return nil
}

// sealNew seals new records under the data keys that they got before the
// transaction. A record whose id or context has changed since gets a new data key.
func (w *work) sealNew(stmt *gorm.Statement) error {
	var same, other rows
	for i, row := range w.rows {
		now, err := w.placeOf(row)
		if err == nil && i < len(w.sealed) && slices.Equal(now.id, w.sealed[i].id) && slices.Equal(now.places, w.sealed[i].places) {
			same = append(same, row)
		} else {
			other = append(other, row)
		}
	}
	return errors.Join(w.model.Seal(stmt.Context, same...), w.model.SealNew(stmt.Context, other...))
}

// prepareUpdate seals the columns of one record that an update writes.
func (t *table) prepareUpdate(db *gorm.DB) error {
	stmt := db.Statement
	if stmt.Schema == nil || stmt.Schema.ModelType != t.rowType {
		return t.checkOtherType(db)
	}
	w := t.begin(db, nil)
	w.whole = reflect.TypeOf(stmt.Dest) == reflect.PointerTo(t.rowType) && stmt.Dest == stmt.Model
	w.takeSet(stmt)
	if err := t.checkSet(stmt); err != nil || db.DryRun {
		return err
	}
	if err := w.target(db); err != nil || len(w.rows) == 0 {
		return err
	}
	if err := w.readKeys(db); err != nil {
		return err
	}
	return early(stmt, w.model.Seal(stmt.Context, w.rows...))
}

// checkOtherType refuses encrypted columns in an update by another struct or by the
// name of the table.
func (t *table) checkOtherType(db *gorm.DB) error {
	if err := t.checkSet(db.Statement); err != nil {
		return err
	}
	if checked, err := t.checkMaps("update", db.Statement); checked || err != nil {
		return err
	}
	return t.checkForeign("update", db, reflect.ValueOf(db.Statement.Dest))
}

// readKeys reads the key columns of a record that the program made itself instead of
// reading it from the database, for Save and for new values of a record with an id.
func (w *work) readKeys(db *gorm.DB) error {
	ctx, row := db.Statement.Context, w.rows[0]
	if w.whole && !slices.Contains(db.Statement.Selects, "*") || !w.hasSet(row) {
		return nil
	}
	keys := w.model.KeyColumns()
	for _, column := range keys {
		if !w.fields[column].ReflectValueOf(ctx, valueOf(row)).IsZero() {
			return nil
		}
	}
	now := make(map[string]any)
	found := own(db).Select(keys).Where(clause.Where{Exprs: w.byID(ctx, row)}).Limit(1).Find(&now)
	if found.Error != nil || found.RowsAffected == 0 {
		return found.Error
	}
	for _, column := range keys {
		if now[column] == nil {
			continue
		}
		if err := w.fields[column].ReflectValueOf(ctx, valueOf(row)).Addr().Interface().(sql.Scanner).Scan(now[column]); err != nil {
			return err
		}
	}
	return nil
}

// hasSet reports whether a record has values to seal.
func (t *table) hasSet(row *any) bool {
	for _, f := range t.fields {
		if s, ok := f.ReflectValueOf(context.Background(), valueOf(row)).Addr().Interface().(settable); ok && s.IsSet() {
			return true
		}
	}
	return false
}
