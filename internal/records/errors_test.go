package records

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"
)

type coded struct{ error }

func (coded) SQLState() string { return "23505" }

type valuer string

func (v valuer) Value() (driver.Value, error) { return string(v), nil }

// Error texts of real drivers, and the part of each that is shown.
func TestHide(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		args []any
		want string
	}{
		{"context canceled", []any{"Ada"}, "context canceled"},
		{"missing destination name age in *main.Customer", []any{7}, "missing destination name age in *main.Customer"},
		{"Error 1062 (23000): Duplicate entry 'Ada' for key 'name'", []any{"Ada"}, "Error 1062 (23000): Duplicate entry … for key 'name'"},
		{"Error 1062 (23000): Duplicate entry 'Ada' for key 'Ada' for key 'people.name'", []any{"Ada"}, "Error 1062 (23000): Duplicate entry … for key 'people.name'"},
		{"Error 1406 (22001): Data too long for column 'note' at row 1", []any{1}, "Error 1406 (22001): Data too long for column 'note'"},
		{"SQL logic error: no such column: phone_ciphertext (1)", []any{1}, "no such column: phone_ciphertext"},
		{"SQL logic error: table people has no column named name (1)", []any{1}, "table people has no column named name"},
		{"constraint failed: UNIQUE constraint failed: people.name, people.town (2067)", []any{"people"}, "UNIQUE constraint failed: people.name, people.town"},
		{`ERROR: duplicate key value violates unique constraint "people_name_key" (SQLSTATE 23505)`, []any{"key"}, `violates unique constraint "people_name_key"`},
		{`ERROR: relation "people" does not exist (SQLSTATE 42P01)`, []any{"people"}, `relation "people" does not exist`},
		{`ERROR: column "phone_ciphertext" of relation "people" does not exist (SQLSTATE 42703)`, []any{"people"}, `column "phone_ciphertext" of relation "people" does not exist`},
		{`ERROR: column "ada@example.org" does not exist`, []any{"ada"}, "ERROR: column …"},
		{`sql: Scan error on column index 1, name "name": converting driver.Value type string ("Ada") to a int: invalid syntax`, nil, "sql: Scan error on column index 1, name …"},
		{"BIGINT value is out of range in `t`.`a` - 5", nil, "BIGINT value is out of range in …"},
		{"failed to encode args[0]: unable to encode 471100 into binary format for bool (OID 16)", []any{471100}, "*errors.errorString"},
		{"unable to encode []byte{0x41, 0x64} into binary format", []any{[]byte("Ad")}, "*errors.errorString"},
		{"refused: Ada Lovelace is blocked", []any{"Lovelace, Ada"}, "*errors.errorString"},
		{"refused: Ada", []any{new("Ada")}, "*errors.errorString"},
		{"refused: Ada", []any{valuer("Ada")}, "*errors.errorString"},
		{"refused: Ada", []any{(*valuer)(nil), nil, sql.NullString{}}, "refused: Ada"},
	} {
		cause := errors.New(c.text)
		err := Hide(cause, c.args)
		if err.Error() != c.want || !errors.Is(err, cause) {
			t.Errorf("Hide(%s, %v) = %v, want %s", c.text, c.args, err, c.want)
		}
	}
	err := Hide(fmt.Errorf("wrapped: %w", coded{errors.New(`duplicate key in "name"`)}), nil)
	if want := "wrapped: duplicate key in … (SQLSTATE 23505)"; err.Error() != want {
		t.Errorf("Hide = %v, want %s", err, want)
	}
	if err := Hide(nil, nil); err != nil {
		t.Errorf("Hide(nil) = %v", err)
	}
}
