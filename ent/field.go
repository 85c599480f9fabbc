package kment

import (
	"database/sql/driver"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"entgo.io/ent/dialect"
	"entgo.io/ent/schema"
	entfield "entgo.io/ent/schema/field"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// Field is a column of package field in an ent schema: see [Key], [Of], [Index] and
// [Part]. It implements [entgo.io/ent.Field].
//
// The column may be NULL, and is text unless its options say binary.
type Field struct{ described *entfield.Descriptor }

// Key is the column with the wrapped data key of an entity, a [field.Key], by
// convention "encrypted_kms_key". options are the words of the tag kms, such as
// "name=phone".
func Key(name string, options ...string) *Field {
	f := describe(name, reflect.TypeFor[field.Key](), options)
	f.described.Immutable = true
	return f
}

// Of is an encrypted column whose plaintext is a T: a [field.Of]. options are the words
// of the tag kms, such as "padding=32" or "key=phone".
//
//	kment.Of[string]("email").StorageKey("email_ciphertext")
func Of[T any](name string, options ...string) *Field {
	return describe(name, reflect.TypeFor[field.Of[T]](), options)
}

// Index is a blind index, a [field.Index]. options are the words of the tag kms; of=
// is required, and names the Go field:
//
//	kment.Index("email_bidx", "of=Email", "expression=lower")
func Index(name string, options ...string) *Field {
	f := describe(name, reflect.TypeFor[field.Index](), options)
	f.described.Immutable = true
	return f
}

// Part is the iv or salt of a column that attr_encrypted wrote, a [field.Part].
func Part(name string, options ...string) *Field {
	f := describe(name, reflect.TypeFor[field.Part](), options)
	f.described.Immutable = true
	return f
}

// StorageKey sets the name of the column, if it is not that of the field.
func (f *Field) StorageKey(column string) *Field {
	if f.made() {
		f.described.StorageKey = column
	}
	return f
}

// Comment sets the comment of the field.
func (f *Field) Comment(c string) *Field {
	if f.made() {
		f.described.Comment = c
	}
	return f
}

// SchemaType sets the type of the column by dialect, such as
// [entgo.io/ent/dialect.Postgres]. It must hold any text, or any bytes with the option
// binary.
func (f *Field) SchemaType(types map[string]string) *Field {
	if f.made() {
		f.described.SchemaType = maps.Clone(types)
	}
	return f
}

// Annotations adds annotations to the field.
func (f *Field) Annotations(annotations ...schema.Annotation) *Field {
	if f.made() {
		f.described.Annotations = append(f.described.Annotations, annotations...)
	}
	return f
}

// Descriptor implements [entgo.io/ent.Field].
func (f *Field) Descriptor() *entfield.Descriptor {
	if !f.made() {
		return &entfield.Descriptor{Err: configError("the field was not made by Key, Of, Index or Part")}
	}
	return f.described
}

func (f *Field) made() bool { return f != nil && f.described != nil }

// Annotation is what the code generator needs to know of a [Field].
type Annotation struct {
	Options string            // the words of the tag kms
	Imports map[string]string // packages of the Go type, by path
}

// AnnotationName is the name of [Annotation] in templates.
const AnnotationName = "KMS"

// Name implements [entgo.io/ent/schema.Annotation].
func (Annotation) Name() string { return AnnotationName }

var (
	texts = map[string]string{dialect.MySQL: "text", dialect.Postgres: "text", dialect.SQLite: "text"}
	bytes = map[string]string{dialect.MySQL: "blob", dialect.Postgres: "bytea", dialect.SQLite: "blob"}
	// indexed are texts and bytes that MySQL can index.
	indexedTexts = map[string]string{dialect.MySQL: "varchar(64)", dialect.Postgres: "text", dialect.SQLite: "text"}
	indexedBytes = map[string]string{dialect.MySQL: "varbinary(64)", dialect.Postgres: "bytea", dialect.SQLite: "blob"}
)

func describe(name string, t reflect.Type, options []string) *Field {
	words := strings.Join(options, ",")
	types, isIndex := texts, t == reflect.TypeFor[field.Index]()
	switch isBinary := slices.Contains(strings.Split(words, ","), "binary"); {
	case isIndex && isBinary:
		types = indexedBytes
	case isIndex:
		types = indexedTexts
	case isBinary:
		types = bytes
	}
	imports := make(map[string]string)
	// Imports of other packages with a base name that ent uses are left out of the
	// generated code. So package field has another name there.
	ident := identifier(t, imports)
	d := entfield.Other(name, reflect.Zero(t).Interface().(driver.Valuer)).SchemaType(types).Optional().Descriptor()
	d.Info.Ident, d.Info.PkgName, d.Info.RType.Ident = ident, packageName("field", d.Info.PkgPath), ident
	d.Tag = `json:"-"`
	if words != "" {
		d.Tag += " kms:" + strconv.Quote(words)
	}
	d.Annotations = append(d.Annotations, Annotation{Options: words, Imports: imports})
	return &Field{d}
}

// identifier returns a type as generated code spells it, and adds the packages that it
// needs.
func identifier(t reflect.Type, imports map[string]string) string {
	if t.Name() == "" {
		switch t.Kind() {
		case reflect.Pointer:
			return "*" + identifier(t.Elem(), imports)
		case reflect.Slice:
			return "[]" + identifier(t.Elem(), imports)
		case reflect.Array:
			return fmt.Sprintf("[%d]%s", t.Len(), identifier(t.Elem(), imports))
		case reflect.Map:
			return "map[" + identifier(t.Key(), imports) + "]" + identifier(t.Elem(), imports)
		}
		return t.String()
	}
	if t.PkgPath() == "" {
		return t.Name()
	}
	base, arguments, _ := strings.Cut(t.Name(), "[")
	pkg, _, _ := strings.Cut(t.String(), ".")
	pkg = packageName(pkg, t.PkgPath())
	imports[t.PkgPath()] = pkg
	if arguments == "" {
		return pkg + "." + base
	}
	return pkg + "." + base + "[" + qualified.ReplaceAllStringFunc(arguments, func(path string) string {
		slash := strings.LastIndex(path, "/")
		dot := slash + 1 + strings.Index(path[slash+1:], ".")
		name := packageName(path[slash+1:dot], path[:dot])
		imports[path[:dot]] = name
		return name + path[dot:]
	})
}

// packageName is the name of a package in generated code, which has others of some
// names.
func packageName(name, path string) string {
	if taken[name] && path != name {
		return "kms" + name
	}
	return name
}

// taken are the names of the packages that generated code imports, other than those of
// the standard library whose path is their name.
var taken = map[string]bool{
	"context": true, "dialect": true, "driver": true, "ent": true, "entsql": true, "errors": true, "field": true,
	"fmt": true, "hook": true, "json": true, "kment": true, "log": true, "math": true, "migrate": true, "predicate": true,
	"privacy": true, "reflect": true, "regexp": true, "schema": true, "sql": true, "sqlgraph": true, "sqljson": true,
	"stdsql": true, "strings": true, "sync": true, "time": true,
}

// qualified is a type in the arguments of a generic one, with the path of its package.
var qualified = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_.~/-]*\.[A-Za-z_][A-Za-z0-9_]*`)
