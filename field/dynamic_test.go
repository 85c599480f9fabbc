package field_test

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// dynamicRow is a struct as a program makes it that learns of a table at run time.
func dynamicRow(columns ...reflect.StructField) reflect.Type {
	return reflect.StructOf(append([]reflect.StructField{
		{Name: "ID", Type: reflect.TypeFor[int64](), Tag: `db:"id"`},
		{Name: "Key", Type: reflect.TypeFor[field.Key](), Tag: `db:"encrypted_kms_key"`},
	}, columns...))
}

var nameColumn = reflect.StructField{Name: "Name", Type: reflect.TypeFor[field.Of[string]](), Tag: `db:"name_ciphertext"`}

type dynamicStatic struct {
	ID   int64            `db:"id"`
	Key  field.Key        `db:"encrypted_kms_key"`
	Name field.Of[string] `db:"name_ciphertext"`
}

// What a model of a struct type seals, one of a type made at run time opens and
// rekeys, and the other way round.
func TestDynamicModelNative(t *testing.T) {
	t.Parallel()
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		t.Fatal(err)
	}
	static, err := field.NewModel[dynamicStatic](box, field.Config{Table: "people"})
	if err != nil {
		t.Fatal(err)
	}
	dynamic, err := field.NewDynamicModel(box, dynamicRow(nameColumn), field.Config{Table: "people"})
	if err != nil {
		t.Fatal(err)
	}
	row := dynamicStatic{ID: 7, Name: field.New("Ada")}
	if err := static.Seal(t.Context(), &row); err != nil {
		t.Fatal(err)
	}
	other := reflect.New(dynamic.Adapter().RowType())
	copyColumns(t, other.Interface(), &row)
	pointer := other.Interface()
	before := keyText(t, &row.Key)
	if err := dynamic.Rekey(t.Context(), &pointer); err != nil {
		t.Fatal(err)
	}
	if got := other.Elem().Field(2).Interface().(field.Of[string]).Must(); got != "Ada" {
		t.Errorf("the dynamic model opens %q", got)
	}
	var back dynamicStatic
	copyColumns(t, &back, pointer)
	if keyText(t, &back.Key) == before {
		t.Error("the rekey left the key column as it was")
	}
	erased := static.Dynamic()
	var backRow any = &back
	if err := erased.Open(t.Context(), &backRow); err != nil || back.Name.Must() != "Ada" {
		t.Errorf("after the rekey: %v", err)
	}
	if erased.Adapter().RowType() != reflect.TypeFor[dynamicStatic]() || erased.Adapter().Box() != box {
		t.Errorf("RowType() = %v", erased.Adapter().RowType())
	}
}

// A model of keys only rewraps, sees a key that does not unwrap, and refuses the rest.
func TestKeysOnlyNative(t *testing.T) {
	t.Parallel()
	box, err := kmsencrypted.Config{Current: 2, Versions: map[int]kmsencrypted.Version{
		1: {Provider: testkey.New()}, 2: {Provider: testkey.New()},
	}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	old, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		t.Fatal(err)
	}
	full, err := field.NewModel[dynamicStatic](old, field.Config{Table: "people"})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := field.NewDynamicModel(box, dynamicRow(), field.Config{Table: "people", KeysOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	row := dynamicStatic{ID: 7, Name: field.New("Ada")}
	if err := full.Seal(t.Context(), &row); err != nil {
		t.Fatal(err)
	}
	read := reflect.New(keys.Adapter().RowType())
	copyColumns(t, read.Interface(), &row)
	pointer := read.Interface()
	if err := keys.Open(t.Context(), &pointer); err != nil {
		t.Fatal(err)
	}
	if err := keys.Rewrap(t.Context(), &pointer); err != nil {
		t.Fatal(err)
	}
	key := read.Elem().Field(1).Addr().Interface().(*field.Key)
	if version, _ := key.Version(); version != 2 {
		t.Errorf("version %d after the rewrap", version)
	}
	for name, refused := range map[string]error{
		"Rekey": keys.Rekey(t.Context(), &pointer),
		"Seal":  keys.Seal(t.Context(), &pointer),
	} {
		if !errors.Is(refused, kmsencrypted.ErrConfig) {
			t.Errorf("%s = %v, want ErrConfig", name, refused)
		}
	}
	read.Elem().Field(0).SetInt(8) // another record
	key.Wipe()
	if err := keys.Open(t.Context(), &pointer); err == nil {
		t.Error("the key column of another record opens")
	}
}

func TestKeysOnlyRefusals(t *testing.T) {
	t.Parallel()
	sealed, err := kmsencrypted.Config{Current: 1, Versions: map[int]kmsencrypted.Version{1: {Provider: testkey.New(), RecordSeal: true}}}.Box()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		box *kmsencrypted.Box
		row reflect.Type
	}{
		"a record seal":      {sealed, dynamicRow()},
		"an encrypted field": {plain, dynamicRow(nameColumn)},
		"no key":             {plain, reflect.StructOf([]reflect.StructField{{Name: "ID", Type: reflect.TypeFor[int64](), Tag: `db:"id"`}})},
	} {
		if _, err := field.NewDynamicModel(c.box, c.row, field.Config{Table: "people", KeysOnly: true}); !errors.Is(err, kmsencrypted.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

// copyColumns moves a row to another struct as a database would.
func copyColumns(t *testing.T, to, from any) {
	t.Helper()
	dst, src := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	dst.Field(0).Set(src.Field(0))
	for i := 1; i < min(dst.NumField(), src.NumField()); i++ {
		value, err := src.Field(i).Addr().Interface().(driver.Valuer).Value()
		if err == nil {
			err = dst.Field(i).Addr().Interface().(sql.Scanner).Scan(value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func keyText(t *testing.T, k *field.Key) string {
	t.Helper()
	value, err := k.Value()
	if err != nil {
		t.Fatal(err)
	}
	return value.(string)
}
