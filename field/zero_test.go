package field_test

import (
	"context"
	"errors"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// What nobody set up is ErrConfig, and no panic.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	config := field.Config{Table: "customers"}
	for name, box := range map[string]*kmsencrypted.Box{"nil": nil, "zero": {}} {
		if _, err := field.NewModel[customer](box, config); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("NewModel(%s box): %v, want ErrConfig", name, err)
		}
	}
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		t.Fatal(err)
	}
	made := newModel[customer](t, box, config)
	models := map[string]*field.Model[customer]{"nil": nil, "zero": {}, "made": made}
	for op, call := range map[string]func(*field.Model[customer], context.Context, ...*customer) error{
		"Seal":    (*field.Model[customer]).Seal,
		"SealNew": (*field.Model[customer]).SealNew,
		"Open":    (*field.Model[customer]).Open,
		"Rewrap":  (*field.Model[customer]).Rewrap,
		"Rekey":   (*field.Model[customer]).Rekey,
		"Reindex": (*field.Model[customer]).Reindex,
	} {
		for name, m := range models {
			for _, rows := range [][]*customer{{nil}, {new(customer), nil}, {new(customer)}} {
				if m == made && rows[len(rows)-1] != nil {
					continue
				}
				if err := call(m, t.Context(), rows...); !errors.Is(err, kmsencrypted.ErrConfig) {
					t.Errorf("%s of %d records by a %s model: %v, want ErrConfig", op, len(rows), name, err)
				}
			}
		}
		if err := call(made, t.Context()); err != nil {
			t.Errorf("%s of no record: %v", op, err)
		}
	}
}

// No method of a nil or zero Model panics, nor one that gets a nil record.
func TestZeroModelMethods(t *testing.T) {
	t.Parallel()
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		t.Fatal(err)
	}
	zerotest.Methods(t, field.Adapter[customer]{})
	zerotest.Methods(t, new(field.Model[customer]).Adapter())
	zerotest.Methods(t, new(field.Model[customer]).Dynamic().Adapter())
	zerotest.Methods(t, (*field.Model[customer])(nil).Dynamic().Adapter())
	made := newModel[customer](t, box, field.Config{Table: "customers"})
	zerotest.Methods(t, made.Adapter(), "Memo", "CheckRead")
	zerotest.Methods(t, made.Dynamic().Adapter(), "Memo", "CheckRead")
	if err := made.Dynamic().Seal(t.Context(), new(any)); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Seal of an any without a record = %v, want ErrConfig", err)
	}
	if _, err := (field.Lookup{}).Matches(new(customer)); !errors.Is(err, kmsencrypted.ErrConfig) {
		t.Errorf("Matches of a zero Lookup = %v, want ErrConfig", err)
	}
}
