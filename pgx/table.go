package kmspgx

import (
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/records"
)

var library = records.Library{Name: "pgx", NoRows: pgx.ErrNoRows}

type tableKey struct{}

// tableFor checks the arguments of an operation and returns the model's table.
func tableFor[R any](op string, db DB, m *field.Model[R], rows ...*R) (*records.Table[R], error) {
	if err := records.Usable(op, db, m, rows...); err != nil {
		return nil, err
	}
	t, err := m.Adapter().Memo(tableKey{}, func() (any, error) {
		return records.NewTable(library, field.Postgres, fieldsOf(reflect.TypeFor[R](), nil), m)
	})
	if err != nil {
		return nil, failed(op, m.Table(), err)
	}
	return t.(*records.Table[R]), nil
}

// fieldsOf returns the fields of a struct and of those embedded in it that
// [pgx.RowToStructByName] takes for columns.
func fieldsOf(t reflect.Type, index []int) (fields []records.Field) {
	for f := range t.Fields() {
		at := append(slices.Clone(index), f.Index...)
		tag, tagged := f.Tag.Lookup("db")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			fields = append(fields, fieldsOf(f.Type, at)...)
			continue
		case !f.IsExported() || name == "-":
			continue
		case !tagged:
			name = underscored(f.Name)
		}
		isSet := func(option string) bool { return slices.Contains(strings.Split(options, ","), option) }
		fields = append(fields, records.Field{Column: name, Index: at, Struct: f, ReadOnly: isSet("readonly"), Returned: isSet("returned")})
	}
	return fields
}

// underscored is the usual name of a column for a field without a tag: pgx finds
// any spelling that differs in case and underscores, but a statement has to name one.
func underscored(name string) string {
	var b strings.Builder
	letters := []rune(name)
	for i, r := range letters {
		begins := i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(letters[i-1]) || i+1 < len(letters) && unicode.IsLower(letters[i+1]))
		if begins && letters[i-1] != '_' {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
