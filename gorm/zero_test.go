package kmsgorm_test

import (
	"testing"

	"gorm.io/gorm"

	"github.com/kmsencrypted/kmsencrypted/field"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
)

// A plugin without models, and models that nobody made, are an error and no panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	zerotest.Methods(t, new(kmsgorm.Plugin))
	zerotest.Methods(t, (*kmsgorm.Plugin)(nil))
	initialize := func(models ...field.AnyModel) func() error {
		return func() error { return kmsgorm.New(models...).Initialize(&gorm.DB{Config: &gorm.Config{}}) }
	}
	zerotest.Calls(t, map[string]func() error{
		"New()":              initialize(),
		"New(nil)":           initialize(nil),
		"New of a nil model": initialize((*field.Model[struct{}])(nil)),
		"New of a zero one":  initialize(new(field.Model[struct{}])),
		"a nil *gorm.DB":     func() error { return kmsgorm.New(new(field.Model[struct{}])).Initialize(nil) },
		"a zero gorm.DB":     func() error { return kmsgorm.New(new(field.Model[struct{}])).Initialize(new(gorm.DB)) },
	})
}
