package rotatecli

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

// Exit codes of [Program.Run].
const (
	ExitDone      = 0
	ExitError     = 1
	ExitFailures  = 2
	ExitPaused    = 3
	ExitThrottled = 4
	ExitUsage     = 64
)

// Main runs the command line of the process over the tables of some models,
// each a *field.Model or [With] options, and exits. The database is told from the
// driver of db.
func Main(ctx context.Context, db *sql.DB, models ...field.AnyModel) {
	ctx, stop := interruptible(ctx)
	program := Program{Open: func(context.Context) (*Database, error) {
		dialect, err := DialectOf(db)
		return &Database{DB: db, Dialect: dialect, Models: models}, err
	}}
	code := program.Run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// interruptible ends its context at the first interrupt; the second one ends the
// process as if nobody listened.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// With gives the table of a model options: the managers of files that are
// attached to its records, without which they cannot be rekeyed, and columns that
// look encrypted and are independent.
//
//	rotatecli.Main(ctx, db, customers, rotatecli.With(documents, sqlstore.Options{Dependents: …}))
func With(m field.AnyModel, options sqlstore.Options) field.AnyModel { return modelWith{m, options} }

type modelWith struct {
	field.AnyModel
	options sqlstore.Options
}

func optionsOf(m field.AnyModel) sqlstore.Options {
	if with, ok := m.(modelWith); ok {
		return with.options
	}
	return sqlstore.Options{}
}

// Database is what the commands work on.
type Database struct {
	DB      *sql.DB
	Dialect field.Dialect
	Models  []field.AnyModel
}

// Program is a command line. Main is enough for most.
type Program struct {
	// Name is that of the command in its help; empty is the name of the process.
	Name string
	// Description is the first sentence of its help; empty is a general one.
	Description string
	// Grammar is a pointer to a struct for kong, with [Commands] embedded in it
	// and further commands beside. Their methods Run may take a context.Context
	// and a *[Session]. Nil is Commands alone.
	Grammar any
	// Options are further ones for kong.
	Options []kong.Option
	// Open connects to the database. It is called by commands that need it, once.
	Open func(context.Context) (*Database, error)
	// OpenKey opens a key service by the id of a key, for commands with --key; nil
	// leaves them to the keys of the models.
	OpenKey func(ctx context.Context, keyID string) (kmsencrypted.Provider, error)
	// Stdin, Stdout and Stderr are those of the process where they are nil.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// exited carries an exit code that kong asks for, after help for example.
type exited int

// Run runs a command and returns its exit code.
func (p Program) Run(ctx context.Context, args []string) (code int) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exited:
			code = int(e)
		default:
			panic(e)
		}
	}()
	s := p.session()
	grammar := p.Grammar
	if grammar == nil {
		grammar = new(Commands)
	}
	options := append([]kong.Option{
		kong.Name(s.name),
		kong.Description(cmp.Or(p.Description, "Looks after encrypted columns: rotates keys over all records, verifies, inspects.")),
		kong.Writers(s.Stdout, s.Stderr),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(s),
	}, p.Options...)
	parser, err := kong.New(grammar, options...)
	if err != nil {
		panic("rotatecli: " + err.Error()) // a mistake in a grammar
	}
	s.parser = parser
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(s.Stderr, "%s: %v\n%s --help shows what there is\n", s.name, err, s.name)
		return ExitUsage
	}
	return s.report(command.Run())
}

// ErrUsage: the words of a command do not make sense together.
var ErrUsage = errors.New("usage")

// exit is the end of a command whose output says already what happened.
type exit struct{ code int }

func (e exit) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// exitCodes of errors; the first that fits.
var exitCodes = []struct {
	is   func(error) bool
	code int
}{
	{is(rotation.ErrPaused), ExitPaused},
	{is(context.Canceled), ExitPaused},
	{is(rotation.ErrTooManyFailures), ExitFailures},
	{is(rotation.ErrHeldUp), ExitThrottled},
	{is(ErrUsage), ExitUsage},
	{kmsencrypted.Retryable, ExitThrottled},
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// report prints an error once and turns it into an exit code.
func (s *Session) report(err error) int {
	if err == nil {
		return ExitDone
	}
	if e, ok := errors.AsType[exit](err); ok {
		return e.code
	}
	fmt.Fprintf(s.Stderr, "%s: %v\n", s.name, err)
	return codeOf(err)
}

func codeOf(err error) int {
	for _, known := range exitCodes {
		if known.is(err) {
			return known.code
		}
	}
	return ExitError
}

// usage is an error of the command line.
func usage(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUsage, fmt.Errorf(format, args...))
}

func (p Program) session() *Session {
	s := &Session{name: p.Name, open: p.Open, OpenKey: p.OpenKey, Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr}
	if s.name == "" {
		s.name = filepath.Base(os.Args[0])
	}
	if s.Stdin == nil {
		s.Stdin = os.Stdin
	}
	if s.Stdout == nil {
		s.Stdout = os.Stdout
	}
	if s.Stderr == nil {
		s.Stderr = os.Stderr
	}
	return s
}
