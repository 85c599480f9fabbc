package vet

import (
	"go/ast"
	"go/types"
	"strings"
)

// conditions finds a field.Write whose Set is written by an UPDATE in the same function and
// whose Where is not looked at. An INSERT has no conditions.
func conditions(c *checker) {
	type use struct{ set, where, other bool }
	c.inspect.Preorder([]ast.Node{(*ast.FuncDecl)(nil)}, func(n ast.Node) {
		f := n.(*ast.FuncDecl)
		if f.Body == nil || !c.updates(f.Body) {
			return
		}
		uses, at := make(map[types.Object]*use), make(map[types.Object]*ast.Ident)
		selected := make(map[*ast.Ident]string)
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if id, ok := ast.Unparen(n.X).(*ast.Ident); ok {
					selected[id] = n.Sel.Name
				}
			case *ast.Ident:
				if o, ok := c.TypesInfo.Defs[n].(*types.Var); ok && isType(o.Type(), fieldPath, "Write") {
					uses[o], at[o] = new(use), n
				}
				if u := uses[c.TypesInfo.Uses[n]]; u != nil {
					switch selected[n] {
					case "Set":
						u.set = true
					case "Where":
						u.where = true
					case "":
						u.other = true
					}
				}
			}
			return true
		})
		for o, u := range uses {
			if u.set && !u.where && !u.other {
				c.report(at[o], "%s.Set is written and %s.Where is ignored, so a change by another program is lost: compare every column of Where in the UPDATE, where NULL equals NULL", o.Name(), o.Name())
			}
		}
	})
}

// updates reports whether a function has the text of an UPDATE.
func (c *checker) updates(body ast.Node) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && strings.Contains(strings.ToUpper(c.text(l)), "UPDATE ") {
			found = true
		}
		return !found
	})
	return found
}
