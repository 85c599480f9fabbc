package records

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
)

// hidden wraps the error of a database or driver, whose text may quote arguments
// and stored values. [errors.Is] and [errors.As] find the error itself.
type hidden struct {
	text  string
	cause error
}

func (h *hidden) Error() string { return h.text }
func (h *hidden) Unwrap() error { return h.cause }

// Hide keeps the part of an error's text that cannot contain a value: the names of
// tables, columns and constraints, or else nothing from the first quote on, and
// nothing at all if a word of an argument is in the rest.
func Hide(err error, args []any) error {
	if err == nil {
		return nil
	}
	full := err.Error()
	text := full
	if i := strings.IndexAny(full, "'\"`"); i >= 0 {
		text = full[:i] + "…"
	}
	if named := namesIn(full); named != "" {
		text = named
	} else if sharesWord(text, args) {
		text = fmt.Sprintf("%T", err)
	}
	if state, ok := sqldialect.SQLState(err); ok && text != full {
		text += " (SQLSTATE " + state + ")"
	}
	return &hidden{text, err}
}

// HideNamed keeps the name in an error about the names in a query; after "in"
// sqlx prints the map or struct with all its values.
func HideNamed(err error) error {
	text, _, _ := strings.Cut(Hide(err, nil).Error(), " in ")
	return &hidden{text, err}
}

func sharesWord(text string, args []any) bool {
	known := make(map[string]bool)
	for _, arg := range args {
		for _, word := range words(argText(arg)) {
			known[word] = true
		}
	}
	for _, word := range words(text) {
		if known[word] {
			return true
		}
	}
	return false
}

// argText returns an argument in the forms in which drivers print it.
func argText(arg any) string {
	if v, ok := arg.(driver.Valuer); ok && !isNilPointer(arg) {
		arg, _ = v.Value()
	}
	if v := reflect.ValueOf(arg); v.Kind() == reflect.Pointer && !v.IsNil() {
		arg = v.Elem().Interface()
	}
	if b, ok := arg.([]byte); ok {
		return fmt.Sprintf("%s %v %#v", b, b, b)
	}
	return fmt.Sprint(arg)
}

func isNilPointer(arg any) bool {
	v := reflect.ValueOf(arg)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// Failed adds the operation and the record to an error, unless the model has done
// so.
func Failed(op, record string, err error) error {
	if err == nil || errors.As(err, new(*kmsencrypted.Error)) {
		return err
	}
	return &kmsencrypted.Error{Op: op, Record: record, Err: sqldialect.Explained(err)}
}
