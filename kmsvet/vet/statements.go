package vet

import (
	"go/ast"
	"go/constant"
	"go/types"
	"regexp"
	"slices"
	"strings"
)

// runs are the names of functions that run the statement in an argument.
var runs = regexp.MustCompile(`^(Must|Named)?(Exec|Query|QueryRow)x?(Context|Contextx)?$|^(Prepare|Preparex|Queue|Raw|NewRaw)(Context)?$`)

// statements finds SQL that writes an encrypted column of a model of the package.
func statements(c *checker) {
	models := c.models()
	if len(models) == 0 {
		return
	}
	c.inspect.WithStack([]ast.Node{(*ast.CallExpr)(nil)}, func(n ast.Node, push bool, stack []ast.Node) bool {
		call := n.(*ast.CallExpr)
		if !push || !runs.MatchString(c.called(call).name) {
			return true
		}
		for i, arg := range call.Args {
			s, ok := parse(c.text(arg))
			if !ok {
				continue
			}
			for _, m := range models {
				if m.table == "" || m.table == s.table {
					c.statement(m, s, call, call.Args[i], call.Args[i+1:], stack)
				}
			}
			break
		}
		return true
	})
}

// text returns a constant string, or "".
func (c *checker) text(e ast.Expr) string {
	if v := c.TypesInfo.Types[e].Value; v != nil && v.Kind() == constant.String {
		return constant.StringVal(v)
	}
	return ""
}

// statement checks a statement for a model. The first mistake is enough: to correct it, all of the statement
// is written again.
func (c *checker) statement(m *model, s statement, call *ast.CallExpr, text ast.Expr, args []ast.Expr, stack []ast.Node) {
	writes := slices.DeleteFunc(slices.Clone(s.set), func(a assignment) bool { return !m.columns[a.column] || a.value.null })
	if len(writes) == 0 {
		return
	}
	for _, a := range writes {
		if a.value.literal || !call.Ellipsis.IsValid() && a.value.argument > 0 && a.value.argument <= len(args) && isPlain(c.TypesInfo.TypeOf(args[a.value.argument-1])) {
			c.report(text, "column %s of %s is encrypted and this writes a plaintext into it: set the field, call Seal, and pass the field itself", a.column, m.name)
			return
		}
	}
	isKey := func(column string) bool { return slices.Contains(m.keys, column) }
	switch columns := columnsOf(s.set); {
	case len(m.keys) == 0:
	case s.insert && !slices.ContainsFunc(columns, isKey):
		c.report(text, "this INSERT writes %s without the key column %s, and then nothing can open it: insert the key too", writes[0].column, m.keys[0])
	case s.insert && slices.ContainsFunc(s.upsert, func(column string) bool { return m.columns[column] }) && !slices.ContainsFunc(s.upsert, isKey):
		c.report(text, "if the row exists, this sets %s and keeps the old data key, under which it does not open: set the key column %s too, and every column under it", writes[0].column, m.keys[0])
	case s.insert:
	case !slices.ContainsFunc(s.compared, isKey):
		c.report(text, "this UPDATE writes %s although the data key of the row may have changed since it was read: add AND %s = … to its WHERE, or use Update of the adapter for your database library", writes[0].column, m.keys[0])
	case discards(call, stack):
		c.report(text, "if the data key of the row has changed, this UPDATE writes nothing and nobody notices: look at RowsAffected, or use Update of the adapter for your database library")
	}
}

func columnsOf(list []assignment) (columns []string) {
	for _, a := range list {
		columns = append(columns, a.column)
	}
	return columns
}

// isPlain reports whether a type holds plain values: a ciphertext is in a field, or in an any.
func isPlain(t types.Type) bool {
	if isType(t, "time", "Time") {
		return true
	}
	if t == nil {
		return false
	}
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return u.Kind() != types.UntypedNil
	case *types.Slice:
		return types.Identical(u.Elem(), types.Typ[types.Byte])
	}
	return false
}

// discards reports whether the sql.Result of a call is thrown away.
func discards(call *ast.CallExpr, stack []ast.Node) bool {
	name := call.Fun
	if s, ok := name.(*ast.SelectorExpr); ok {
		name = s.Sel
	}
	id, ok := name.(*ast.Ident)
	if !ok || !strings.Contains(id.Name, "Exec") || len(stack) < 2 {
		return false
	}
	switch parent := stack[len(stack)-2].(type) {
	case *ast.ExprStmt:
		return true
	case *ast.AssignStmt:
		first, ok := parent.Lhs[0].(*ast.Ident)
		return ok && first.Name == "_"
	}
	return false
}
