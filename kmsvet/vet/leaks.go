package vet

import (
	"go/ast"
	"go/types"
	"regexp"
	"slices"
	"strings"
)

// leaks finds plaintexts that go where nobody protects them.
func leaks(c *checker) {
	for _, f := range c.Files {
		for _, d := range f.Decls {
			w := &walk{plaintexts: plaintexts{checker: c, holds: make(map[types.Object]parts)}}
			w.walk(d)
		}
	}
}

// walk goes through a function in the order of its text.
type walk struct {
	plaintexts
	stack []ast.Node
}

func (w *walk) walk(root ast.Node) {
	ast.Inspect(root, func(n ast.Node) bool {
		if n != nil {
			if r, ok := n.(*ast.RangeStmt); ok {
				w.enter(r)
			}
			w.stack = append(w.stack, n)
			return true
		}
		left := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		switch left := left.(type) {
		case *ast.CallExpr:
			w.call(left)
		case *ast.CompositeLit:
			w.errorLiteral(left)
		}
		w.note(left)
		return true
	})
}

// answers reports whether the function answers an HTTP request, where showing a plaintext is
// its purpose.
func (w *walk) answers() bool {
	return slices.ContainsFunc(w.stack, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			return w.takes(n.Type, "ResponseWriter")
		case *ast.FuncLit:
			return w.takes(n.Type, "ResponseWriter")
		}
		return false
	})
}

// call reports the arguments of a call that reveals them.
func (w *walk) call(call *ast.CallExpr) {
	message := w.revealing(call)
	if message == "" {
		return
	}
	for _, arg := range call.Args {
		if w.in(arg) {
			w.report(arg, "%s", message)
			return
		}
	}
}

const (
	inLog    = "the plaintext of an encrypted field goes into a log: log the record's primary key instead"
	inError  = "the plaintext of an encrypted field goes into an error, which ends in a log: name the record's primary key instead"
	inOutput = "the plaintext of an encrypted field is printed, and output is often kept: print the record's primary key, or the field itself, which prints [redacted]"
	inJSON   = "the plaintext of an encrypted field becomes JSON, which queues, caches and logs keep: pass the record's primary key on and open the record where the value is needed"
)

// revealing says what is wrong with a plaintext in a call, "" if nothing is.
func (w *walk) revealing(call *ast.CallExpr) string {
	f := w.called(call)
	switch {
	case isLog(f):
		return inLog
	case f.is("fmt", "Errorf"), f.is("errors", "New"), f.is("github.com/pkg/errors", "New", "Errorf", "Wrap", "Wrapf", "WithMessage", "WithMessagef"),
		f.is("google.golang.org/grpc/status", "Error", "Errorf", "New", "Newf"), f.path == "" && f.name == "panic":
		return inError
	case f.is("fmt", "Print", "Printf", "Println"), f.path == "" && (f.name == "print" || f.name == "println"),
		f.is("fmt", "Fprint", "Fprintf", "Fprintln") && w.isStandard(call.Args[0]):
		return inOutput
	case f.is("encoding/json", "Marshal", "MarshalIndent", "Encode") && !w.answers():
		return inJSON
	}
	return ""
}

// isStandard reports whether an expression is os.Stdout or os.Stderr.
func (c *checker) isStandard(e ast.Expr) bool {
	s, ok := ast.Unparen(e).(*ast.SelectorExpr)
	if !ok {
		return false
	}
	o := c.TypesInfo.Uses[s.Sel]
	return o != nil && o.Pkg() != nil && o.Pkg().Path() == "os" && (o.Name() == "Stdout" || o.Name() == "Stderr")
}

var (
	// loggers are packages in which every function that takes a value logs it.
	loggers = regexp.MustCompile(`^log$|^log/slog$|(^|/)(zap|zapcore|zerolog|logrus|logr|klog|glog|hclog|log15)(/v\d+)?$|/apex/log$|/charmbracelet/log$`)
	// logs are the names of other functions that may log, if a type, package or variable is named
	// like a logger.
	logs      = regexp.MustCompile(`(?i)^(trace|debug|info|notice|warn|warning|error|fatal|panic|print|log)(f|ln|w|ctx|context)?$`)
	logNames  = regexp.MustCompile(`[lL]ogg(er|ing)|^[lL]og($|[A-Z_])|[a-z]Log($|[A-Z])`)
	slogValue = regexp.MustCompile(`^(Any|String|Int|Int64|Uint64|Float64|Bool|Time|Duration|Group|GroupAttrs|.*Value)$`)
)

func isLog(f function) bool {
	switch {
	case f.path == "log/slog":
		return !slogValue.MatchString(f.name) // the logger gets what they return
	case loggers.MatchString(f.path):
		return true
	case f.path == "math" || f.signature == nil || !f.signature.Variadic() || !logs.MatchString(f.name):
		return false
	case f.recv != nil:
		return logNames.MatchString(f.typeName())
	}
	return logNames.MatchString(f.pkg) || strings.HasPrefix(strings.ToLower(f.name), "log")
}

// errorLiteral reports a plaintext in a struct that is an error.
func (w *walk) errorLiteral(l *ast.CompositeLit) {
	t := w.TypesInfo.TypeOf(l)
	fault := types.Universe.Lookup("error").Type().Underlying().(*types.Interface)
	if t == nil || !types.Implements(t, fault) && !types.Implements(types.NewPointer(t), fault) {
		return
	}
	for _, e := range l.Elts {
		if w.in(e) {
			w.report(e, inError)
		}
	}
}
