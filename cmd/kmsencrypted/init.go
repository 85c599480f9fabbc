package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/cmd/kmsencrypted/internal/starter"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

type initCmd struct {
	Driver  string   `enum:",postgres,mysql,sqlite" default:"" help:"postgres, mysql (and MariaDB) or sqlite."`
	DSNEnv  string   `name:"dsn-env" default:"DATABASE_URL" placeholder:"NAME" help:"The environment variable that holds the DSN (${default})."`
	Table   string   `placeholder:"NAME" help:"The table with columns to encrypt."`
	Encrypt []string `placeholder:"COLUMN" help:"A column to encrypt, or a new one."`
	Find    []string `placeholder:"COLUMN[=EXPRESSION]" help:"An encrypted column to find rows by, as it is or by an expression such as lower or digits."`
	Key     string   `placeholder:"ID" help:"The key, such as alias/customers, vault/customers or local:keys.txt, which is for development."`
	Tool    string   `enum:"golang-migrate,goose" default:"golang-migrate" help:"Who runs the migration: golang-migrate or goose (${default})."`
	Package string   `default:"models" help:"The package and folder of the records (${default})."`
	Out     string   `type:"path" default:"." help:"The folder of the program (${default})."`
}

func (initCmd) Help() string {
	return `Looks at a table and writes what a program needs to encrypt some of its columns: the
records, the configuration, the migration and a command line of your own. On a terminal it
asks for what the flags do not say. It changes neither the database nor a file that exists.
Example:

  DATABASE_URL=app.sqlite3 kmsencrypted init --driver sqlite --table customers \
    --encrypt email --encrypt phone --find email=lower --key local:keys.txt`
}

func (c *initCmd) Run(ctx context.Context, s *rotatecli.Session) error {
	ask := asker{out: s.Stdout}
	if isTerminal(os.Stdin) {
		ask.in = bufio.NewReader(s.Stdin)
	}
	if err := ask.text(&c.Driver, "--driver", "Which database: postgres, mysql or sqlite?"); err != nil {
		return err
	}
	dsn := os.Getenv(c.DSNEnv)
	if dsn == "" {
		return fmt.Errorf("%w: the environment variable %s, the DSN, is not set", kmsencrypted.ErrConfig, c.DSNEnv)
	}
	db, dialect, err := databaseConfig{Driver: c.Driver, DSN: dsn}.open()
	if err != nil {
		return err
	}
	defer db.Close()
	tables, err := starter.Tables(ctx, db, dialect)
	if err != nil {
		return err
	}
	choice, err := c.choose(ask, tables)
	if err != nil {
		return err
	}
	choice.Dialect, choice.Now = dialect, time.Now()
	plan, err := starter.NewPlan(choice)
	if err != nil {
		return err
	}
	files, err := plan.Files()
	if err != nil {
		return err
	}
	if err := writeNew(c.Out, files); err != nil {
		return err
	}
	return c.explain(s.Stdout, plan, files)
}

// choose asks for what the flags do not say.
func (c *initCmd) choose(ask asker, tables []starter.Table) (choice starter.Choice, err error) {
	var names []string
	for _, t := range tables {
		names = append(names, t.Name)
	}
	if err := ask.text(&c.Table, "--table", "Which table: "+strings.Join(names, ", ")+"?"); err != nil {
		return choice, err
	}
	i := slices.Index(names, c.Table)
	if i < 0 {
		return choice, fmt.Errorf("%w: the database has no table %s, but %s", kmsencrypted.ErrConfig, c.Table, strings.Join(names, ", "))
	}
	choice = starter.Choice{Table: tables[i], DSNEnv: c.DSNEnv, Package: c.Package, Tool: c.Tool, Module: moduleOf(c.Out), Find: make(map[string]string)}
	var columns []string
	for _, column := range tables[i].Columns {
		if !column.Primary {
			columns = append(columns, column.Name)
		}
	}
	if err := ask.list(&c.Encrypt, "--encrypt", "Which columns to encrypt, with commas: "+strings.Join(columns, ", ")+", or new ones?"); err != nil {
		return choice, err
	}
	if ask.in != nil && len(c.Find) == 0 {
		if err := ask.list(&c.Find, "--find", "By which of these to find a row, such as "+c.Encrypt[0]+" or "+c.Encrypt[0]+"=lower; none if empty?"); err != nil && !errors.Is(err, errEmpty) {
			return choice, err
		}
	}
	choice.Encrypt = c.Encrypt
	for _, find := range c.Find {
		name, expression, _ := strings.Cut(find, "=")
		choice.Find[name] = expression
	}
	err = ask.text(&c.Key, "--key", "Which key: alias/NAME, a key of Google Cloud, vault/NAME, or local:keys.txt for development?")
	choice.Key = c.Key
	return choice, err
}

// moduleOf returns the path of the Go module in a folder, or "".
func moduleOf(folder string) string {
	text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		return ""
	}
	return modfile.ModulePath(text)
}

// asker asks for answers that are missing. Without in it cannot ask.
type asker struct {
	in  *bufio.Reader
	out io.Writer
}

var errEmpty = errors.New("no answer")

// text asks for a text, unless there is one.
func (a asker) text(into *string, flag, question string) error {
	if *into != "" {
		return nil
	}
	if a.in == nil {
		return fmt.Errorf("%w: %s is missing: %s", rotatecli.ErrUsage, flag, question)
	}
	fmt.Fprintf(a.out, "%s ", question)
	line, err := a.in.ReadString('\n')
	if *into = strings.TrimSpace(line); *into != "" {
		return nil
	}
	if err == nil || err == io.EOF {
		err = errEmpty
	}
	return fmt.Errorf("%w: %s: %w", rotatecli.ErrUsage, flag, err)
}

// list asks for texts with commas between them, unless there are some.
func (a asker) list(into *[]string, flag, question string) error {
	if len(*into) > 0 {
		return nil
	}
	var line string
	if err := a.text(&line, flag, question); err != nil {
		return err
	}
	for _, part := range strings.Split(line, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*into = append(*into, part)
		}
	}
	return nil
}

// writeNew writes all files, or none if one of them exists.
func writeNew(folder string, files []starter.File) error {
	for _, f := range files {
		path := filepath.Join(folder, filepath.FromSlash(f.Path))
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, fmt.Errorf("%w: the file %s exists, and nothing was written", kmsencrypted.ErrConfig, f.Path))
		}
	}
	for _, f := range files {
		path := filepath.Join(folder, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = io.WriteString(file, f.Text)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// explain says what was written, and what to do next.
func (c *initCmd) explain(out io.Writer, plan *starter.Plan, files []starter.File) error {
	for _, f := range files {
		fmt.Fprintf(out, "wrote %s\n", f.Path)
	}
	var steps []string
	step := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	step("export KMS_KEY_ID=%s", c.Key)
	if name, ok := strings.CutPrefix(c.Key, "local:"); ok {
		step("kmsencrypted keygen %s", name)
	}
	if len(plan.Indexes) > 0 {
		step("export BLIND_INDEX_MASTER_KEY=$(openssl rand -hex 32)   # once: keep it apart from the database")
	}
	step("run migrations/ with %s", c.Tool)
	if plan.Module != "" {
		step("go get github.com/kmsencrypted/kmsencrypted && go mod tidy")
		step("go run ./ops check")
		if plan.Dialect != field.SQLite {
			step("go run ./ops policy %s --role app   # the rights of the program; also writer, reader and ops, and for aws, gcp or vault", plan.Dialect)
		}
		if len(plan.Old) > 0 {
			step("deploy %s.%s, then: go run ./ops rotate run --kind migrate --writers-are-ours", plan.Package, plan.Records)
		}
	} else {
		step("run kmsencrypted init in the folder of a Go module to get a command line of your own too")
	}
	fmt.Fprintf(out, "\nNext:\n")
	for i, text := range steps {
		fmt.Fprintf(out, "%3d. %s\n", i+1, text)
	}
	if len(plan.Old) > 0 {
		fmt.Fprintf(out, "\nThe table keeps %s in plaintext until the third release: see docs/database.md, From a plain column to an encrypted one.\n", strings.Join(plan.Old, ", "))
	}
	return nil
}
