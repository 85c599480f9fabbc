package field

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/kmsencrypted/kmsencrypted"
)

// A record moves when a plain column changes on which its encryption context or
// [kmsencrypted.Version.ProviderFor] depends, such as its tenant. In the same
// statement the data key is wrapped under the new context, or replaced if the
// provider is another one. Contexts are functions, so the tag kms:"context" declares
// the columns that they read. A change of any other column is an error.

// placed is the place where the data key in a key column is wrapped.
type placed struct {
	version int
	place   kmsencrypted.Place
	by      []reflect.Value // the columns tagged context then
}

// companions are the values of the columns tagged context in the row, and those sent
// to the row since, the oldest first. The lists never change.
type companions [][]reflect.Value

// hasOwnContext reports whether the context or the provider of a version may depend
// on more than the primary key, which never changes.
func (s *schema) hasOwnContext(box *kmsencrypted.Box, k *keySpec, version int) bool {
	recipe, err := box.Version(version)
	return err == nil && !k.isMaster && (s.config.Context != nil || recipe.Context != nil || recipe.ProviderFor != nil)
}

// place returns where a version wraps the key of the group now, or nil if that
// cannot change.
func (g *group) place(version int) (*placed, error) {
	if !g.schema.hasOwnContext(g.box, g.spec, version) {
		return nil, nil
	}
	p, err := g.box.Place(version, g.binding(g.spec))
	return &placed{version, p, g.record.companions()}, err
}

// companions returns the columns tagged context as they are in the struct.
func (r record) companions() []reflect.Value {
	values := make([]reflect.Value, len(r.schema.companions))
	for i, c := range r.schema.companions {
		values[i] = reflect.New(r.at(c.index).Type()).Elem()
		values[i].Set(r.at(c.index))
	}
	return values
}

// note remembers the columns tagged context of a record that was just read.
func (g *group) note() {
	if len(g.schema.companions) > 0 && !g.spec.isMaster && g.key.was == nil {
		g.key.was = companions{g.record.companions()}
	}
}

// as returns the record with other values in the columns tagged context.
func (g *group) as(values []reflect.Value) *group {
	then, r := *g, *g.recordWork
	r.v = r.schema.copyOf(r.v)
	r.row = r.v.Addr().Interface()
	for i, c := range r.schema.companions {
		r.at(c.index).Set(values[i])
	}
	then.recordWork = &r
	return &then
}

// wasPlaced is where the key column was wrapped as the row has it. Of a key that was
// not opened, and after a new record seal in the same column, the columns tagged
// context tell.
func (g *group) wasPlaced() (*placed, error) {
	if g.key.placed != nil || g.key.was == nil {
		return g.key.placed, nil
	}
	return g.lastKnown().place(kmsencrypted.ColumnVersion(g.key.h.stored.text))
}

// lastKnown is the record with the columns tagged context that its row has.
func (g *group) lastKnown() *group { return g.as(g.key.was[len(g.key.was)-1]) }

// asWrapped is the record as it was when the key column was wrapped. The key of a
// record that was opened is closed if it has no value to open.
func (g *group) asWrapped() *group {
	switch {
	case !g.moved || g.key.IsOpen():
		return g
	case g.key.placed != nil:
		return g.as(g.key.placed.by)
	}
	return g.lastKnown()
}

// hasMoved reports whether the key column is wrapped elsewhere than where the record
// belongs now.
func (g *group) hasMoved() bool {
	was, err := g.wasPlaced()
	if err != nil || was == nil {
		return false
	}
	now, err := g.place(was.version)
	return err == nil && now != nil && now.place != was.place
}

// explainsPlace reports whether the columns tagged context explain where the key is.
func (g *group) explainsPlace(at placed) bool {
	then, err := g.as(at.by).place(at.version)
	return err == nil && then != nil && then.place == at.place
}

// move detects that a record has moved since its key was opened or wrapped.
func (g *group) move(op string, mode sealMode) sealMode {
	if g.isNew || g.spec.isMaster || !g.key.h.ciphertext() || g.err != nil {
		return mode
	}
	was, err := g.wasPlaced()
	if err != nil || was == nil {
		g.fail(op, g.spec.column, err)
		return mode
	}
	now, err := g.place(was.version)
	if err != nil || now == nil || now.place == was.place {
		g.fail(op, g.spec.column, err)
		return mode
	}
	if !g.explainsPlace(*was) {
		g.fail(op, g.spec.column, fmt.Errorf("%w: the encryption context or the provider of the record has changed, by a column that is not tagged `kms:\"context\"`", kmsencrypted.ErrConfig))
		return mode
	}
	switch {
	case g.schema.config.Files && mode != asRekeyed:
		g.fail(op, g.spec.column, kmsencrypted.ErrNeedsFiles)
	case mode == asRekeyed:
	case !now.place.SameProvider(was.place), g.keepsFormat() != nil:
		return asRekeyed
	case g.isSetWhole() && g.mayReplaceKey(): // under the new context
	case !g.key.IsOpen() && g.anyField((*head).readValue):
		g.fail(op, g.spec.column, fmt.Errorf("%w: the record has moved", kmsencrypted.ErrNotOpened))
	default:
		g.moved = true
	}
	return mode
}

// isSetWhole reports whether every field was set.
func (g *group) isSetWhole() bool {
	return !g.anyField(func(h *head) bool { return !h.dirty() })
}

// writeCompanions adds the columns tagged context to a write that touches one of
// them or the key.
func (g *group) writeCompanions(w *Write) {
	if g.key.was == nil {
		return
	}
	now := g.record.companions()
	for i, c := range g.schema.companions {
		if !hasAssignment(w.Set, c.column) {
			w.Set = append(w.Set, Assignment{Column: c.column, Value: plainValue(now[i])})
		}
		a := Assignment{Column: c.column, Value: plainValue(g.key.was[0][i])}
		for _, sent := range g.key.was[1:] {
			a.Or = append(a.Or, plainValue(sent[i]))
		}
		a.Exact = slices.ContainsFunc(a.Values(), func(v driver.Value) bool { _, isText := v.(string); return isText })
		if !hasAssignment(w.Where, c.column) {
			w.Where = append(w.Where, a)
		}
	}
}

func hasAssignment(list []Assignment, column string) bool {
	for _, a := range list {
		if a.Column == column {
			return true
		}
	}
	return false
}

// plainValue returns a plain field as an argument of a statement.
func plainValue(v reflect.Value) driver.Value {
	value, err := driver.DefaultParameterConverter.ConvertValue(v.Interface())
	if err != nil {
		return v.Interface() // a type that only the driver knows
	}
	return value
}

// sends reports whether a program writes one of the columns tagged context itself.
func (s *schema) sends(plain []string) bool {
	for _, c := range s.companions {
		for _, name := range plain {
			if name == c.column {
				return true
			}
		}
	}
	return false
}

// isForeign reports whether a wrap does not belong to this record under its context.
func isForeign(err error) bool {
	return errors.Is(err, kmsencrypted.ErrDecrypt) || errors.Is(err, kmsencrypted.ErrBinding)
}
