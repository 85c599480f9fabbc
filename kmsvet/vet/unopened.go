package vet

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
	"strings"
)

// unopened finds Must of a field in an HTTP handler, of a record that the handler itself
// read and did not open. A record that came from elsewhere may be open.
func unopened(c *checker) {
	c.inspect.Preorder([]ast.Node{(*ast.FuncDecl)(nil), (*ast.FuncLit)(nil)}, func(n ast.Node) {
		kind, body := (*ast.FuncType)(nil), (*ast.BlockStmt)(nil)
		switch n := n.(type) {
		case *ast.FuncDecl:
			kind, body = n.Type, n.Body
		case *ast.FuncLit:
			kind, body = n.Type, n.Body
		}
		if body != nil && c.takes(kind, "ResponseWriter", "Request") {
			c.handler(body)
		}
	})
}

// reads are the functions that read a record and leave it closed.
var reads = regexp.MustCompile(`^(Scan|StructScan|Get|GetContext|Select|SelectContext|QueryRow|QueryRowContext|Query|QueryContext)$`)

// handler follows the records that a handler declares, in the order of the text.
func (c *checker) handler(body *ast.BlockStmt) {
	closed := make(map[types.Object]bool) // declared here, and nothing has opened or set them
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit: // a handler of its own is looked at for itself
			return !c.takes(n.Type, "ResponseWriter", "Request")
		case *ast.RangeStmt:
			if id, ok := n.Value.(*ast.Ident); ok && closed[c.root(n.X)] {
				closed[c.TypesInfo.Defs[id]] = true
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				if len(n.Values) == 0 {
					closed[c.TypesInfo.Defs[name]] = true
				}
			}
		case *ast.AssignStmt:
			c.assigned(n, closed)
		case *ast.CallExpr:
			c.passed(n, closed)
		}
		return true
	})
}

// assigned notes c := Customer{} and c := new(Customer), and what is assigned to a record later.
func (c *checker) assigned(n *ast.AssignStmt, closed map[types.Object]bool) {
	for i, to := range n.Lhs {
		o := c.root(to)
		if o == nil {
			continue
		}
		delete(closed, o)
		if id, ok := to.(*ast.Ident); ok && len(n.Lhs) == len(n.Rhs) && c.TypesInfo.Defs[id] != nil && c.isEmpty(n.Rhs[i]) {
			closed[o] = true
		}
	}
}

// isEmpty reports whether an expression is a record in which nothing is set.
func (c *checker) isEmpty(e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.UnaryExpr:
		return c.isEmpty(e.X)
	case *ast.CompositeLit:
		return len(e.Elts) == 0
	case *ast.CallExpr:
		f := c.called(e)
		return f.path == "" && f.name == "new"
	}
	return false
}

// passed looks at the records in a call: Must of one that is closed is the mistake, and a call
// that does not only read may open it.
func (c *checker) passed(call *ast.CallExpr, closed map[types.Object]bool) {
	f := c.called(call)
	if s, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); ok && f.recv != nil {
		switch o := c.root(s.X); {
		case o == nil || !closed[o]:
		case isType(f.recv, fieldPath, "Of") && f.name == "Must":
			c.report(s.Sel, "Must panics here, because nothing has opened %s: call Open of the model before, and answer its error", o.Name())
		case isType(f.recv, fieldPath, "Of") && (f.name == "IsNull" || f.name == "IsSet" || f.name == "IsLoaded" || f.name == "Get"):
		default:
			delete(closed, o)
		}
	}
	if reads.MatchString(f.name) && len(f.path) > 0 && !isLibrary(f.path) {
		return
	}
	for _, arg := range call.Args {
		ast.Inspect(arg, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && !c.isPart(arg, id) {
				delete(closed, c.TypesInfo.Uses[id])
			}
			return true
		})
	}
}

// isPart reports whether an argument is a value of the record and not the record, as in
// w.Write(c.Email.Must()) or print(c.ID). A function that gets &c.Email may set it.
func (c *checker) isPart(arg ast.Expr, id *ast.Ident) bool {
	if u, ok := ast.Unparen(arg).(*ast.UnaryExpr); ok && u.Op == token.AND {
		return false
	}
	part := false
	ast.Inspect(arg, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && c.root(s.X) == c.TypesInfo.Uses[id] {
			part = true
		}
		return true
	})
	return part
}

func isLibrary(path string) bool { return strings.HasPrefix(path+"/", library+"/") }

// root returns the variable that an expression is about: c of &c, c.Email and c[0].
func (c *checker) root(e ast.Expr) types.Object {
	for {
		switch x := ast.Unparen(e).(type) {
		case *ast.Ident:
			return c.TypesInfo.ObjectOf(x)
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.UnaryExpr:
			e = x.X
		default:
			return nil
		}
	}
}
