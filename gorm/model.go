package kmsgorm

import (
	"context"
	"reflect"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// model calls a [*field.Model] of a record type that is known only when the
// program runs, as GORM's callbacks get it.
type model struct {
	rowType, rowsType reflect.Type // R and []*R

	sealMethod, sealNewMethod, openAllMethod, openLazilyMethod reflect.Value
	writeMethod, savedMethod, sentMethod, keyChangedMethod     reflect.Value
	unknownColumnsMethod                                       reflect.Value
	insertedMethod, isUnconfirmedMethod, dropAssignedIDsMethod reflect.Value
}

func newModel(m Model) (model, bool) {
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Type().Elem().PkgPath() != reflect.TypeFor[field.Key]().PkgPath() {
		return model{}, false
	}
	// Names in so many words: else the linker has to keep every method of the program.
	calls := model{
		sealMethod:       v.MethodByName("Seal"),
		sealNewMethod:    v.MethodByName("SealNew"),
		openAllMethod:    v.MethodByName("OpenAll"),
		openLazilyMethod: v.MethodByName("OpenLazily"),
		writeMethod:      v.MethodByName("Write"),
		savedMethod:      v.MethodByName("Saved"),
		sentMethod:       v.MethodByName("Sent"),
		keyChangedMethod: v.MethodByName("KeyChanged"),

		unknownColumnsMethod:  v.MethodByName("UnknownColumns"),
		insertedMethod:        v.MethodByName("Inserted"),
		isUnconfirmedMethod:   v.MethodByName("IsUnconfirmed"),
		dropAssignedIDsMethod: v.MethodByName("DropAssignedIDs"),
	}
	calls.rowsType = calls.openAllMethod.Type().In(1)
	calls.rowType = calls.rowsType.Elem().Elem()
	return calls, true
}

// The methods below are those of the model; rows is a []*R, row a *R.

func (m model) seal(ctx context.Context, rows reflect.Value) error {
	return asError(m.sealMethod.CallSlice([]reflect.Value{reflect.ValueOf(ctx), rows}))
}

func (m model) sealNew(ctx context.Context, rows reflect.Value) error {
	return asError(m.sealNewMethod.CallSlice([]reflect.Value{reflect.ValueOf(ctx), rows}))
}

func (m model) openAll(ctx context.Context, rows reflect.Value) error {
	return asError(m.openAllMethod.Call([]reflect.Value{reflect.ValueOf(ctx), rows}))
}

func (m model) openLazily(rows reflect.Value) { m.openLazilyMethod.CallSlice([]reflect.Value{rows}) }

func (m model) saved(rows reflect.Value) { m.savedMethod.CallSlice([]reflect.Value{rows}) }

func (m model) sent(rows reflect.Value) { m.sentMethod.CallSlice([]reflect.Value{rows}) }

func (m model) inserted(idAssigned bool, rows reflect.Value) {
	m.insertedMethod.CallSlice([]reflect.Value{reflect.ValueOf(idAssigned), rows})
}

func (m model) unknownColumns(existing []string) []string {
	return m.unknownColumnsMethod.Call([]reflect.Value{reflect.ValueOf(existing)})[0].Interface().([]string)
}

func (m model) isUnconfirmed(row reflect.Value) bool {
	return m.isUnconfirmedMethod.Call([]reflect.Value{row})[0].Bool()
}

func (m model) dropAssignedIDs(rows reflect.Value) {
	m.dropAssignedIDsMethod.CallSlice([]reflect.Value{rows})
}

func (m model) write(row reflect.Value) (field.Write, error) {
	out := m.writeMethod.Call([]reflect.Value{row})
	return out[0].Interface().(field.Write), asError(out)
}

func (m model) keyChanged(ctx context.Context, row reflect.Value, column string, now any) error {
	value := reflect.ValueOf(&now).Elem() // an any, also where it is nil
	return asError(m.keyChangedMethod.Call([]reflect.Value{reflect.ValueOf(ctx), row, reflect.ValueOf(column), value}))
}

// asError is the last result.
func asError(out []reflect.Value) error {
	err, _ := out[len(out)-1].Interface().(error)
	return err
}

// list is the rows given, as a []*R.
func (m model) list(rows ...reflect.Value) reflect.Value {
	return reflect.Append(reflect.MakeSlice(m.rowsType, 0, len(rows)), rows...)
}

// find lists the records in a value of GORM's: a struct, or a slice or array of
// structs or of pointers. It returns false if there is anything else in it, or a
// struct that cannot be changed because it was passed by value.
func (m model) find(v reflect.Value) (rows reflect.Value, ok bool) {
	rows = m.list()
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Array {
		for i := range v.Len() {
			more, ok := m.find(v.Index(i))
			if !ok {
				return rows, false
			}
			rows = reflect.AppendSlice(rows, more)
		}
		return rows, true
	}
	if !v.IsValid() || v.Type() != m.rowType || !v.CanAddr() {
		return rows, false
	}
	return reflect.Append(rows, v.Addr()), true
}
