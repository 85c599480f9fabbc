package field_test

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

type keyed[T any] struct {
	ID   T                `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Card field.Of[string] `db:"card"`
}

func idFault[T any](t *testing.T) error {
	_, err := field.NewDynamicModel(nativeBox(t, kmsencrypted.Version{Provider: kmstest.Memory()}), reflect.TypeFor[keyed[T]](), field.Config{Table: "cards"})
	return err
}

func TestPrimaryKeyTypes(t *testing.T) {
	t.Parallel()
	type day struct{ time.Time }
	for name, want := range map[string]struct {
		err     error
		refused bool
	}{
		"int32":      {idFault[int32](t), false},
		"string":     {idFault[string](t), false},
		"netip.Addr": {idFault[netip.Addr](t), false},
		"[]byte":     {idFault[[]byte](t), true},
		"time.Time":  {idFault[time.Time](t), true},
		"of a time":  {idFault[day](t), true},
		"float64":    {idFault[float64](t), true},
		"*string":    {idFault[*string](t), true},
	} {
		if errors.Is(want.err, kmsencrypted.ErrConfig) != want.refused {
			t.Errorf("%s: %v, want refused = %v", name, want.err, want.refused)
		}
	}
}
