package starter

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// goType is how a program holds the values of a column.
type goType struct {
	text          string // in Go
	imports       string // the package of text
	tag           string // option of an encrypted field
	plain, sealed nullable
}

// nullable is a Go type, and the one that can be NULL.
type nullable struct{ value, null reflect.Type }

// typeOf is for values that have NULL as a nil pointer.
func typeOf[T any](text, imports, tag string) goType {
	return goType{text, imports, tag,
		nullable{reflect.TypeFor[T](), reflect.TypeFor[*T]()},
		nullable{reflect.TypeFor[field.Of[T]](), reflect.TypeFor[field.Of[*T]]()}}
}

// sliceOf is for values of which nil is NULL.
func sliceOf[T any](text, imports, tag string) goType {
	t := typeOf[T](text, imports, tag)
	t.plain.null, t.sealed.null = t.plain.value, t.sealed.value
	return t
}

// goTypes are the types of columns. The first that matches counts; what none matches stays a
// text.
var goTypes = []struct {
	match *regexp.Regexp
	is    goType
}{
	{regexp.MustCompile(`^(bool|boolean|tinyint\(1\))$`), typeOf[bool]("bool", "", "")},
	{regexp.MustCompile(`^bigint.*unsigned`), typeOf[uint64]("uint64", "", "")},
	{regexp.MustCompile(`^(big|small|medium|tiny)?(int|serial)`), typeOf[int64]("int64", "", "")},
	{regexp.MustCompile(`^(double|float|real)`), typeOf[float64]("float64", "", "")},
	{regexp.MustCompile(`^date$`), typeOf[time.Time]("time.Time", "time", "type=date")},
	{regexp.MustCompile(`^(timestamp|datetime)`), typeOf[time.Time]("time.Time", "time", "type=datetime")},
	{regexp.MustCompile(`^json`), sliceOf[json.RawMessage]("json.RawMessage", "encoding/json", "type=json")},
	{regexp.MustCompile(`^bytea|blob|binary`), sliceOf[[]byte]("[]byte", "", "")},
}

var textType = typeOf[string]("string", "", "")

// goTypeOf returns how a program holds the values of a column.
func goTypeOf(c Column) goType {
	name := strings.ToLower(c.Type)
	for _, t := range goTypes {
		if t.match.MatchString(name) {
			return t.is
		}
	}
	return textType
}

// of returns the Go type, as text and as it is, of values that may be NULL.
func (t goType) of(n nullable, null bool) (text string, is reflect.Type) {
	if null && n.null != n.value {
		return "*" + t.text, n.null
	}
	return t.text, n.value
}
