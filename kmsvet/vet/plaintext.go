package vet

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

// plaintexts knows which variables of a function hold a plaintext, at the point of the
// text that a walk has come to. A later assignment of something else ends it, also in a
// branch: better silent than wrong.
type plaintexts struct {
	*checker
	holds map[types.Object]parts
}

// parts are the fields of a struct that hold a plaintext; nil means all of the value.
type parts map[string]bool

// in reports whether an expression holds a plaintext, whole and not masked.
func (p *plaintexts) in(e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		_, ok := p.holds[p.TypesInfo.ObjectOf(e)]
		return ok
	case *ast.SelectorExpr:
		id, ok := ast.Unparen(e.X).(*ast.Ident)
		if !ok {
			return p.in(e.X)
		}
		parts, ok := p.holds[p.TypesInfo.ObjectOf(id)]
		return ok && (parts == nil || parts[e.Sel.Name])
	case *ast.CallExpr:
		return p.returned(e)
	case *ast.StarExpr:
		return p.in(e.X)
	case *ast.TypeAssertExpr:
		return p.in(e.X)
	case *ast.UnaryExpr:
		return e.Op == token.AND && p.in(e.X)
	case *ast.SliceExpr:
		return e.High == nil && p.in(e.X) // [:2] masks
	case *ast.IndexExpr:
		return p.in(e.X) && !isByte(p.TypesInfo.TypeOf(e))
	case *ast.BinaryExpr:
		return e.Op == token.ADD && (p.in(e.X) || p.in(e.Y))
	case *ast.KeyValueExpr:
		return p.in(e.Value)
	case *ast.CompositeLit:
		return slices.ContainsFunc(e.Elts, p.in)
	}
	return false
}

func isByte(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && (b.Kind() == types.Byte || b.Kind() == types.Rune)
}

// opens reports whether a call returns the plaintext of a field.
func (c *checker) opens(call *ast.CallExpr) bool {
	f := c.called(call)
	switch {
	case isType(f.recv, fieldPath, "Of"):
		return f.name == "Get" || f.name == "Must" || f.name == "Plain"
	case isType(f.recv, fieldPath, "Adapter"):
		return f.name == "Plaintext"
	}
	return false
}

// keeps are the functions whose result holds what an argument does.
var keeps = map[string][]string{
	"strings": {"ToLower", "ToUpper", "ToTitle", "Title", "TrimSpace", "Trim", "TrimLeft", "TrimRight", "TrimPrefix", "TrimSuffix", "Join", "Replace", "ReplaceAll", "Clone", "Repeat", "ToValidUTF8"},
	"bytes":   {"ToLower", "ToUpper", "TrimSpace", "Trim", "TrimPrefix", "TrimSuffix", "Join", "Clone", "NewBufferString", "NewBuffer"},
	"fmt":     {"Sprint", "Sprintf", "Sprintln", "Append", "Appendf", "Appendln"},
	"strconv": {"Itoa", "FormatInt", "FormatUint", "FormatFloat", "FormatBool", "Quote"},
	"net/url": {"QueryEscape", "PathEscape"}, "html": {"EscapeString"}, "slices": {"Clone", "Concat"}, "maps": {"Clone"},
	"log/slog":     {"Any", "String", "Int", "Int64", "Uint64", "Float64", "Bool", "Time", "Group", "AnyValue", "StringValue", "TimeValue", "GroupValue"},
	"encoding/hex": {"EncodeToString"},
}

// returned reports whether the first result of a call holds a plaintext.
func (p *plaintexts) returned(call *ast.CallExpr) bool {
	if p.opens(call) {
		return true
	}
	if p.TypesInfo.Types[call.Fun].IsType() { // a conversion
		return slices.ContainsFunc(call.Args, p.in)
	}
	f := p.called(call)
	if selector, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); ok && f.recv != nil {
		switch {
		case p.in(selector.X): // born.Format, address.String
			return f.name == "String" || f.name == "Format" || f.name == "Bytes" || f.name == "Text"
		case f.path == "encoding/base64":
			return f.name == "EncodeToString" && slices.ContainsFunc(call.Args, p.in)
		}
		return false
	}
	if f.path == "" && (f.name == "append" || f.name == "min" || f.name == "max") || slices.Contains(keeps[f.path], f.name) {
		return slices.ContainsFunc(call.Args, p.in)
	}
	return false
}

// note follows a statement that the walk leaves.
func (p *plaintexts) note(n ast.Node) {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if len(n.Lhs) != len(n.Rhs) {
			for i, to := range n.Lhs {
				p.assign(to, n.Rhs[0], i == 0 && p.in(n.Rhs[0]), n.Tok)
			}
			return
		}
		for i, to := range n.Lhs {
			p.assign(to, n.Rhs[i], p.in(n.Rhs[i]), n.Tok)
		}
	case *ast.ValueSpec:
		for i, to := range n.Names {
			if i < len(n.Values) {
				p.assign(to, n.Values[i], p.in(n.Values[i]), token.ASSIGN)
			}
		}
	case *ast.CallExpr: // b.WriteString of a strings.Builder or bytes.Buffer
		f := p.called(n)
		if f.is("strings", "WriteString", "Write") || f.is("bytes", "WriteString", "Write") {
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && slices.ContainsFunc(n.Args, p.in) {
				p.assign(s.X, nil, true, token.ADD_ASSIGN)
			}
		}
	}
}

// enter follows the variables of a range, which its body uses.
func (p *plaintexts) enter(r *ast.RangeStmt) {
	if r.Value != nil {
		p.assign(r.Value, nil, p.in(r.X), token.ASSIGN)
	}
}

func (p *plaintexts) assign(to, from ast.Expr, plain bool, how token.Token) {
	switch to := ast.Unparen(to).(type) {
	case *ast.Ident:
		o := p.TypesInfo.ObjectOf(to)
		switch {
		case o == nil:
		case plain:
			p.holds[o] = p.partsOf(from)
		case how == token.ASSIGN || how == token.DEFINE:
			delete(p.holds, o)
		}
	case *ast.SelectorExpr:
		id, ok := ast.Unparen(to.X).(*ast.Ident)
		if !ok {
			return
		}
		o := p.TypesInfo.ObjectOf(id)
		switch held, has := p.holds[o]; {
		case plain && !has:
			p.holds[o] = parts{to.Sel.Name: true}
		case plain && held != nil:
			held[to.Sel.Name] = true
		case !plain && held != nil:
			if delete(held, to.Sel.Name); len(held) == 0 {
				delete(p.holds, o)
			}
		}
	case *ast.IndexExpr:
		if id, ok := ast.Unparen(to.X).(*ast.Ident); ok && plain {
			p.holds[p.TypesInfo.ObjectOf(id)] = nil
		}
	}
}

// partsOf returns which fields of a struct literal hold a plaintext.
func (p *plaintexts) partsOf(e ast.Expr) parts {
	if e == nil {
		return nil
	}
	if u, ok := ast.Unparen(e).(*ast.UnaryExpr); ok {
		e = u.X
	}
	l, ok := ast.Unparen(e).(*ast.CompositeLit)
	if !ok {
		return nil
	}
	if _, ok := p.TypesInfo.TypeOf(l).Underlying().(*types.Struct); !ok {
		return nil
	}
	held := make(parts)
	for _, element := range l.Elts {
		kv, ok := element.(*ast.KeyValueExpr)
		if !ok {
			return nil
		}
		if name, ok := kv.Key.(*ast.Ident); ok && p.in(kv.Value) {
			held[name.Name] = true
		}
	}
	return held
}
