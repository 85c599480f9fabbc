package kment_test

import (
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	kment "github.com/kmsencrypted/kmsencrypted/ent"
	"github.com/kmsencrypted/kmsencrypted/ent/internal/shop"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
)

// Drivers and models that nobody made are an error and no panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	zerotest.Methods(t, new(kment.Driver))
	zerotest.Methods(t, (*kment.Driver)(nil))
	drv := entsql.NewDriver(dialect.SQLite, entsql.Conn{})
	wrap := func(drv dialect.Driver, models ...field.AnyModel) func() error {
		return func() error { _, err := kment.Wrap(drv, models...); return err }
	}
	zerotest.Calls(t, map[string]func() error{
		"a nil driver":       wrap(nil, new(field.Model[shop.Note])),
		"no models":          wrap(drv),
		"a nil model":        wrap(drv, (*field.Model[shop.Note])(nil)),
		"no model":           wrap(drv, nil),
		"a zero model":       wrap(drv, new(field.Model[shop.Note])),
		"an unknown dialect": wrap(entsql.NewDriver(dialect.Gremlin, entsql.Conn{}), new(field.Model[shop.Note])),
		"a zero driver in use": func() error {
			return shop.NewClient(shop.Driver(new(kment.Driver))).Note.Create().SetText(field.New("")).Exec(t.Context())
		},
		"a nil field in schema": func() error { return (*kment.Field)(nil).StorageKey("x").Descriptor().Err },
	})
}
