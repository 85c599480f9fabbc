package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The Go of README.md and of the pages in docs compiles. Each page is one package.
// A block may use the names of ambient and the packages of imports. What else it needs
// is in a comment before it, which readers do not see:
//
//	<!--go
//	var links *serve.Links
//	-->
//
// A block of declarations is one, and other blocks are the body of a function that
// returns an error. Where that does not fit, the comment has the code around the
// block too, with BLOCK in its place. "skip:" and a reason leave a block out. An
// ellipsis on a line of its own or in braces stands for code. A variable that is not
// used is no mistake.
const (
	hidden     = "<!--go\n"
	hiddenEnd  = "-->\n"
	visible    = "```go\n"
	visibleEnd = "```\n"
)

const ambient = `
var (
	ctx      context.Context
	err      error
	db       *sql.DB
	box      *kmsencrypted.Box
	provider kmsencrypted.Provider
	logger   *slog.Logger
)
`

const module = "github.com/kmsencrypted/kmsencrypted"

// imports are the packages that blocks use by name.
var imports = map[string]string{
	"context": "context", "errors": "errors", "fmt": "fmt", "http": "net/http", "io": "io", "iter": "iter", "log": "log",
	"multipart": "mime/multipart", "os": "os", "slog": "log/slog", "sql": "database/sql", "testing": "testing", "time": "time",

	"kmsencrypted": module, "attach": module + "/files/attach", "aws": module + "/providers/aws",
	"blindindex": module + "/blindindex", "field": module + "/field", "files": module + "/files", "filebox": module + "/files/lockbox",
	"azure": module + "/providers/azure", "gcp": module + "/providers/gcp", "gocloud": module + "/files/gocloud", "guard": module + "/providers/guard",
	"kmsbun": module + "/bun", "kmsgorm": module + "/gorm", "kment": module + "/ent", "kmspgx": module + "/pgx", "kmsriver": module + "/river", "kmssqlx": module + "/sqlx", "local": module + "/providers/local",
	"branch": module + "/providers/branch", "lockbox": module + "/lockbox", "multi": module + "/providers/multi", "providertest": module + "/providers/providertest",
	"s3client": module + "/files/s3ec/s3client", "s3ec": module + "/files/s3ec",
	"rotatecli": module + "/rotatecli", "rotation": module + "/rotation", "direct": module + "/files/direct", "serve": module + "/files/serve",
	"audit": module + "/audit", "storage": module + "/files/storage",
	"sqlstore": module + "/sqlstore", "vault": module + "/providers/vault",

	"dialect": "entgo.io/ent/dialect", "ent": module + "/examples/ent/ent",
	"api": "github.com/hashicorp/vault/api", "atomic": "sync/atomic", "blob": "gocloud.dev/blob", "bun": "github.com/uptrace/bun", "gorm": "gorm.io/gorm",
	"pgx": "github.com/jackc/pgx/v5", "pgxpool": "github.com/jackc/pgx/v5/pgxpool", "river": "github.com/riverqueue/river",
	"config": "github.com/aws/aws-sdk-go-v2/config", "kms": "github.com/aws/aws-sdk-go-v2/service/kms", "s3": "github.com/aws/aws-sdk-go-v2/service/s3",
	"sqlite": "modernc.org/sqlite", "riverpgxv5": "github.com/riverqueue/river/riverdriver/riverpgxv5", "sqlx": "github.com/jmoiron/sqlx",
}

func TestPagesCompile(t *testing.T) {
	t.Parallel()
	pages := []string{"../../README.md"}
	for _, pattern := range []string{"../../docs/*.md", "../../docs/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	load := compiled(t)
	for _, page := range pages {
		checker := checker{t: t, page: strings.TrimPrefix(page, "../../"), files: token.NewFileSet()}
		checker.importer = importer.ForCompiler(checker.files, "gc", load)
		checker.check(page)
	}
}

// compiled finds what the compiler says of a package and those it imports.
func compiled(t *testing.T) func(path string) (io.ReadCloser, error) {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}"}
	for _, path := range imports {
		args = append(args, path)
	}
	list := exec.CommandContext(t.Context(), "go", args...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		files[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
}

// checker checks one page.
type checker struct {
	t        *testing.T
	page     string
	files    *token.FileSet
	importer types.Importer
	parsed   []*ast.File // of the package of the page
}

func (c *checker) check(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	c.add("ambient names", ambient)
	around, at := "", 1
	for rest := strings.ReplaceAll(string(text), "\r\n", "\n"); rest != ""; {
		line, after, _ := strings.Cut(rest, "\n")
		switch line + "\n" {
		case hidden:
			around, after, _ = strings.Cut(after, hiddenEnd)
		case visible:
			var block string
			block, after, _ = strings.Cut(after, visibleEnd)
			c.block(fmt.Sprintf("%s:%d", c.page, at), around, block)
			around = ""
		}
		at += strings.Count(rest[:len(rest)-len(after)], "\n")
		rest = after
	}
	c.types("page", c.parsed)
}

// block adds a block of a page with the code around it. One that is a file is a
// package of its own.
func (c *checker) block(where, around, block string) {
	block = strings.ReplaceAll(block, "{ … }", "{}")
	block = strings.ReplaceAll(block, "\t…\n", "\n")
	switch {
	case strings.HasPrefix(around, "skip:"):
	case strings.Contains(block, "\npackage ") || strings.HasPrefix(block, "package "):
		file, err := parser.ParseFile(c.files, where, block, 0)
		if err != nil {
			c.t.Errorf("%s: %v", where, err)
			return
		}
		c.types(file.Name.Name, []*ast.File{file})
	case strings.Contains(around, "BLOCK\n"):
		c.add(where, strings.Replace(around, "BLOCK\n", block, 1))
	case isDeclarations(block):
		c.add(where, around+block)
	default:
		c.add(where, around+"func _() error {\n"+block+"return nil\n}\n")
	}
}

func isDeclarations(block string) bool {
	_, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+block, parser.SkipObjectResolution)
	return err == nil
}

// add parses declarations and imports the packages whose names they use.
func (c *checker) add(where, declarations string) {
	file, err := parser.ParseFile(token.NewFileSet(), where, "package page\n"+declarations, 0)
	if err != nil {
		c.t.Errorf("%s: %v\n%s", where, err, declarations)
		return
	}
	var used []string
	for _, name := range file.Unresolved {
		if path := imports[name.Name]; path != "" {
			used = append(used, fmt.Sprintf("import %s %q; ", name.Name, path))
		}
	}
	slices.Sort(used)
	source := "package page; " + strings.Join(slices.Compact(used), "") + "\n" + declarations
	if file, err = parser.ParseFile(c.files, where, source, parser.SkipObjectResolution); err != nil {
		c.t.Fatal(err)
	}
	c.parsed = append(c.parsed, file)
}

// types checks a package.
func (c *checker) types(name string, files []*ast.File) {
	config := types.Config{Importer: c.importer, Error: func(err error) {
		if one, ok := errors.AsType[types.Error](err); ok && one.Soft { // a name that is not used
			return
		}
		c.t.Error(err)
	}}
	config.Check(name, c.files, files, nil) // reports every error by the function
}
