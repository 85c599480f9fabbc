package field

import (
	"context"
	"reflect"
)

func (m *Model[R]) mend(ctx context.Context, row *R, keyColumn, wrapped string) (mended []string, err error) {
	if err := m.usable([]*R{row}); err != nil {
		return nil, err
	}
	before := m.clone(row)
	now, was := m.record(row), m.record(before)
	for _, k := range m.schema.keys {
		if k.column != keyColumn || k.isMaster {
			continue
		}
		if err := was.key(k).Scan(wrapped); err != nil {
			return nil, err
		}
		err = m.Open(ctx, before)
		for _, f := range k.fields {
			if now.field(f).head().state == closed && was.field(f).head().state == opened {
				now.field(f).set(reflect.ValueOf(indirect(was.field(f).plaintext())))
				mended = append(mended, f.column)
			}
		}
		was.key(k).Wipe()
	}
	if len(mended) > 0 {
		err = nil // other fields of the record are under its own key
	}
	return mended, err
}

// clone copies a record. The copy shares what its fields point to.
func (m *Model[R]) clone(row *R) *R {
	c := *row
	if reflect.TypeFor[R]().Kind() == reflect.Interface { // of a dynamic model
		p := reflect.New(m.row)
		p.Elem().Set(m.record(row).v)
		c = p.Interface().(R)
	}
	return &c
}
