// Package vet holds the analyzers of the command kmsvet.
//
// They look at one function, and for SQL at the models of one package, and stay silent
// about what cannot be decided there: a plaintext that goes through a function
// of the program is no longer followed. They do not look at files of tests, where plaintexts are
// made up.
//
// A comment silences a line, its own or the next one if it has a line to itself. Without
// a reason it does nothing:
//
//	log.Print(c.Email.Must()) //kmsvet:ignore a tool for one machine, which prints what it is asked for
package vet

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
)

// Analyzers are all of them, each of which a flag of go vet turns off.
var Analyzers = []*analysis.Analyzer{
	analyzer("kmsleak", "find plaintexts of encrypted fields in logs, errors, output and JSON", leaks),
	analyzer("kmssql", "find SQL that writes encrypted columns in a way that loses or reveals them", statements),
	analyzer("kmswhere", "find updates that ignore the conditions of a field.Write", conditions),
	analyzer("kmsmust", "find Must of a field that an HTTP handler has not opened", unopened),
	analyzer("kmsindexkey", "find models with blind indexes and no key for them", indexKeys),
	analyzer("kmspersonal", "find plain fields named like personal data beside encrypted ones", personal),
}

// checker is one analyzer at work on one package.
type checker struct {
	*analysis.Pass
	inspect *inspector.Inspector
	quiet   map[string]map[int]bool // lines by file
}

func analyzer(name, doc string, run func(*checker)) *analysis.Analyzer {
	return &analysis.Analyzer{Name: name, Doc: doc, Requires: []*analysis.Analyzer{inspect.Analyzer}, Run: func(p *analysis.Pass) (any, error) {
		c := &checker{Pass: p, inspect: p.ResultOf[inspect.Analyzer].(*inspector.Inspector), quiet: make(map[string]map[int]bool)}
		for _, f := range p.Files {
			if err := c.readIgnored(f); err != nil {
				return nil, err
			}
		}
		run(c)
		return nil, nil
	}}
}

// report reports a mistake, unless it is in a test or a comment silences it.
func (c *checker) report(at ast.Node, format string, args ...any) {
	p := c.Fset.Position(at.Pos())
	if strings.HasSuffix(p.Filename, "_test.go") || c.quiet[p.Filename][p.Line] {
		return
	}
	c.Pass.Report(analysis.Diagnostic{Pos: at.Pos(), Message: fmt.Sprintf(format, args...)})
}

const ignore = "//kmsvet:ignore "

// readIgnored notes the lines of a file that comments silence.
func (c *checker) readIgnored(f *ast.File) error {
	for _, group := range f.Comments {
		for _, comment := range group.List {
			reason, ok := strings.CutPrefix(comment.Text, ignore)
			if !ok || strings.TrimSpace(reason) == "" {
				continue
			}
			p := c.Fset.Position(comment.Pos())
			alone, err := c.alone(p)
			if err != nil {
				return err
			}
			if c.quiet[p.Filename] == nil {
				c.quiet[p.Filename] = make(map[int]bool)
			}
			if alone {
				p.Line++
			}
			c.quiet[p.Filename][p.Line] = true
		}
	}
	return nil
}

// alone reports whether nothing but spaces is before a position in its line.
func (c *checker) alone(p token.Position) (bool, error) {
	text, err := c.ReadFile(p.Filename)
	if err != nil || p.Offset > len(text) {
		return false, err
	}
	before := string(text[:p.Offset])
	return strings.TrimSpace(before[strings.LastIndexByte(before, '\n')+1:]) == "", nil
}
