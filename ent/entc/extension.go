// Package kmsentc generates the code that package kment needs, as an extension of
// ent's code generator. A program that uses ent for its tables has a file like
// ent/entc.go, which go generate runs:
//
//	//go:build ignore
//
//	package main
//
//	import (
//		"log"
//
//		"entgo.io/ent/entc"
//		"entgo.io/ent/entc/gen"
//
//		kmsentc "github.com/kmsencrypted/kmsencrypted/ent/entc"
//	)
//
//	func main() {
//		if err := entc.Generate("./schema", &gen.Config{}, entc.Extensions(kmsentc.Extension{})); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// The generated code opens entities after a query, and seals them when a statement is
// sent. It adds no name to the package. Nothing changes for entities without a
// kment.Key.
package kmsentc

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	kment "github.com/kmsencrypted/kmsencrypted/ent"
)

//go:embed kms.tmpl
var templates string

// Extension is an [entc.Extension] for [entc.Extensions].
type Extension struct{ entc.DefaultExtension }

// Templates implements [entc.Extension].
func (Extension) Templates() []*gen.Template {
	return []*gen.Template{gen.MustParse(gen.NewTemplate("kms").Funcs(template.FuncMap{
		"kmsEncrypted": encrypted,
		"kmsReceiver":  receiver,
		"kmsTypes":     types,
	}).Parse(templates))}
}

// Hooks implements [entc.Extension]: it gives every field of an encrypted entity a tag
// with the name of its column, by which a field.Model knows it.
func (Extension) Hooks() []gen.Hook {
	return []gen.Hook{func(next gen.Generator) gen.Generator {
		return gen.GenerateFunc(func(g *gen.Graph) error {
			for _, t := range g.Nodes {
				if err := tag(t); err != nil {
					return err
				}
			}
			return next.Generate(g)
		})
	}}
}

func tag(t *gen.Type) error {
	if !encrypted(t) {
		return nil
	}
	if !t.HasOneFieldID() {
		return fmt.Errorf("kmsentc: %s: an encrypted entity has one id", t.Name)
	}
	for _, f := range slices.Concat([]*gen.Field{t.ID}, t.Fields) {
		if f.Optional && !f.Nillable && isContext(f) {
			return fmt.Errorf("kmsentc: %s.%s: encryption contexts are made of it, and NULL would read as its zero value: make it Nillable", t.Name, f.Name)
		}
		if _, ok := reflect.StructTag(f.StructTag).Lookup("db"); !ok {
			f.StructTag = strings.TrimSpace(f.StructTag + fmt.Sprintf(" db:%q", f.StorageKey()))
		}
	}
	return nil
}

func isContext(f *gen.Field) bool {
	return slices.Contains(strings.Split(reflect.StructTag(f.StructTag).Get("kms"), ","), "context")
}

// encrypted reports whether an entity has columns of package kment.
func encrypted(t *gen.Type) bool {
	return slices.ContainsFunc(t.Fields, func(f *gen.Field) bool { return f.Annotations[kment.AnnotationName] != nil })
}

// receiver returns the receiver of the methods of a builder. Older releases of ent do
// not say which it is, but have a function that makes it.
func receiver(scope map[any]any) (string, error) {
	if r, ok := scope["Receiver"].(string); ok {
		return r, nil
	}
	builder, named := scope["Builder"].(string)
	receiver, made := gen.Funcs["receiver"].(func(string) string)
	if !named || !made {
		return "", errors.New("kmsentc: this release of ent does not say what the receiver of a builder is")
	}
	return receiver(builder), nil
}

// imported is a line of an import declaration. Renamed ones are imported although the
// generator imports another package of that base name.
type imported struct {
	Name, Path string
	Renamed    bool
}

// types returns the packages of the Go types of fields.
func types(fields []*gen.Field, id *gen.Field) (list []imported, err error) {
	if id != nil && id.UserDefined {
		fields = append(slices.Clip(fields), id)
	}
	add := func(one imported) {
		if one.Path != "" && !slices.ContainsFunc(list, func(other imported) bool { return other.Path == one.Path }) {
			list = append(list, one)
		}
	}
	for _, f := range fields {
		own, ok := f.Annotations[kment.AnnotationName]
		if !ok {
			add(imported{Name: f.Type.PkgName, Path: f.Type.PkgPath})
			continue
		}
		var a kment.Annotation
		if err := decode(own, &a); err != nil {
			return nil, fmt.Errorf("kmsentc: %s: %w", f.Name, err)
		}
		for _, path := range slices.Sorted(maps.Keys(a.Imports)) {
			add(imported{Name: a.Imports[path], Path: path, Renamed: true})
		}
	}
	return list, nil
}

// decode reads an annotation, which ent passes as what JSON has no names for.
func decode(annotation any, into *kment.Annotation) error {
	text, err := json.Marshal(annotation)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
