package vet

import (
	"go/ast"
	"go/types"
	"maps"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/tools/go/types/typeutil"
)

const (
	library   = "github.com/kmsencrypted/kmsencrypted"
	fieldPath = library + "/field"
)

// isType reports whether a type, or what it points to, is the named type, of any
// type arguments.
func isType(t types.Type, path, name string) bool {
	n := namedOf(t)
	return n != nil && n.Obj().Name() == name && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == path
}

func namedOf(t types.Type) *types.Named {
	if t == nil {
		return nil
	}
	t = types.Unalias(t)
	if p, ok := t.(*types.Pointer); ok {
		t = types.Unalias(p.Elem())
	}
	n, _ := t.(*types.Named)
	return n
}

// function is what a call calls, as far as it has a name.
type function struct {
	path, pkg string     // of the package; that of the type for a method
	recv      types.Type // nil for a function
	name      string
	signature *types.Signature
}

func (f function) is(path string, names ...string) bool {
	return f.path == path && slices.Contains(names, f.name)
}

// typeName is the name of the type of a method.
func (f function) typeName() string {
	if n := namedOf(f.recv); n != nil {
		return n.Obj().Name()
	}
	return ""
}

// called returns what a call calls: a function, a method, a variable or a builtin.
func (c *checker) called(call *ast.CallExpr) function {
	o := typeutil.Callee(c.TypesInfo, call)
	if o == nil {
		return function{}
	}
	f := function{name: o.Name()}
	f.signature, _ = o.Type().Underlying().(*types.Signature)
	if o.Pkg() != nil {
		f.path, f.pkg = o.Pkg().Path(), o.Pkg().Name()
	}
	if _, ok := o.(*types.Func); ok && f.signature.Recv() != nil {
		f.recv = f.signature.Recv().Type()
		if n := namedOf(f.recv); n != nil && n.Obj().Pkg() != nil {
			f.path, f.pkg = n.Obj().Pkg().Path(), n.Obj().Pkg().Name()
		}
	}
	return f
}

// model is a struct with encrypted fields.
type model struct {
	name    string
	table   string // "" if it is not known
	columns map[string]bool
	keys    []string
}

// structFields calls f for the fields of a struct and of those that it embeds.
func structFields(t types.Type, f func(v *types.Var, tag reflect.StructTag)) {
	seen := make(map[types.Type]bool) // a struct may embed a pointer to itself
	var visit func(t types.Type)
	visit = func(t types.Type) {
		s, ok := t.Underlying().(*types.Struct)
		if !ok || seen[t] {
			return
		}
		seen[t] = true
		for i := range s.NumFields() {
			v := s.Field(i)
			if n := namedOf(v.Type()); v.Embedded() && n != nil && (n.Obj().Pkg() == nil || n.Obj().Pkg().Path() != fieldPath) {
				visit(n)
			}
			f(v, reflect.StructTag(s.Tag(i)))
		}
	}
	visit(t)
}

func (m *model) read(t types.Type) {
	m.columns, m.keys = make(map[string]bool), nil
	structFields(t, func(v *types.Var, tag reflect.StructTag) {
		column, _, _ := strings.Cut(tag.Get("db"), ",")
		if column == "" {
			column, _, _ = strings.Cut(tag.Get("bun"), ",")
		}
		switch {
		case column == "" || column == "-":
		case isType(v.Type(), fieldPath, "Of"):
			m.columns[column] = true
		case isType(v.Type(), fieldPath, "Key"):
			m.keys = append(m.keys, column)
		}
	})
}

// models returns the structs with encrypted fields that the package declares or makes a
// field.Model of: those whose tables are known here, or all if no table is.
func (c *checker) models() []*model {
	byType := make(map[*types.Named]*model)
	add := func(n *types.Named) *model {
		if n == nil || n.TypeParams().Len() > 0 {
			return nil
		}
		if byType[n] == nil {
			m := &model{name: n.Obj().Name()}
			if m.read(n); len(m.columns) == 0 {
				return nil
			}
			byType[n] = m
		}
		return byType[n]
	}
	for _, o := range c.TypesInfo.Defs {
		if t, ok := o.(*types.TypeName); ok && !t.IsAlias() {
			add(namedOf(t.Type()))
		}
	}
	c.newModels(func(call *ast.CallExpr, row types.Type, config *ast.CompositeLit) {
		if m := add(namedOf(row)); m != nil && config != nil {
			if table := element(config, "Table"); table != nil {
				m.table = strings.ToLower(c.text(table))
				m.table = m.table[strings.LastIndexByte(m.table, '.')+1:]
			}
		}
	})
	all := slices.Collect(maps.Values(byType))
	if known := slices.DeleteFunc(slices.Clone(all), func(m *model) bool { return m.table == "" }); len(known) > 0 {
		all = known
	}
	slices.SortFunc(all, func(a, b *model) int { return strings.Compare(a.name, b.name) })
	return all
}

// newModels calls f for each call of field.NewModel, with its configuration if that is
// written in the call.
func (c *checker) newModels(f func(call *ast.CallExpr, row types.Type, config *ast.CompositeLit)) {
	c.inspect.Preorder([]ast.Node{(*ast.CallExpr)(nil)}, func(n ast.Node) {
		call := n.(*ast.CallExpr)
		if !c.called(call).is(fieldPath, "NewModel") || len(call.Args) != 2 {
			return
		}
		var row types.Type
		ast.Inspect(call.Fun, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && id.Name == "NewModel" {
				if args := c.TypesInfo.Instances[id].TypeArgs; args.Len() == 1 {
					row = args.At(0)
				}
			}
			return true
		})
		config, _ := ast.Unparen(call.Args[1]).(*ast.CompositeLit)
		if row != nil {
			f(call, row, config)
		}
	})
}

// element returns the value of a key in a composite literal, nil if it is not there.
func element(l *ast.CompositeLit, name string) ast.Expr {
	for _, e := range l.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if id, ok := kv.Key.(*ast.Ident); ok && id.Name == name {
				return kv.Value
			}
		}
	}
	return nil
}

// takes reports whether a function has a parameter of a type of net/http.
func (c *checker) takes(f *ast.FuncType, names ...string) bool {
	if f.Params == nil {
		return false
	}
	for _, p := range f.Params.List {
		for _, name := range names {
			if isType(c.TypesInfo.TypeOf(p.Type), "net/http", name) {
				return true
			}
		}
	}
	return false
}
