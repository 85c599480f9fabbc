package field

import (
	"context"
	"reflect"
)

func (c *core) mend(ctx context.Context, row any, keyColumn, wrapped string) (mended []string, err error) {
	if err := c.usable([]any{row}); err != nil {
		return nil, err
	}
	now := c.record(row)
	was := c.record(c.schema.copyOf(now.v).Addr().Interface())
	for _, k := range c.schema.keys {
		if k.column != keyColumn || k.isMaster {
			continue
		}
		if err := was.key(k).Scan(wrapped); err != nil {
			return nil, err
		}
		err = c.open(ctx, []any{was.row}, true)
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
