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
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/internal/sqldialect"
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

// Main runs the command line of the process for the tables of some models, each a
// *field.Model or a model with [With] options, and exits. It recognises the
// database by the driver of db.
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

// interruptible ends its context at the first interrupt. The second one ends the
// process as usual.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// With adds options to the table of a model: the managers of files attached to its
// records, without which the records cannot be rekeyed, and columns that look
// encrypted but are independent.
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

// Database is the database that the commands use.
type Database struct {
	DB      *sql.DB
	Dialect field.Dialect
	Models  []field.AnyModel
	// Ledger gets the receipts of "open". Without it "open" and "audit verify" are refused.
	Ledger *audit.Ledger
}

// Program is a command line. Main is enough for most programs.
type Program struct {
	// Name is the name of the command in its help; empty means the name of the
	// process.
	Name string
	// Description is the first sentence of the help; empty means a general one.
	Description string
	// Grammar is a pointer to a struct for kong that embeds [Commands] and adds
	// commands of its own. Their Run methods may take a context.Context and a
	// *[Session]. Nil means Commands alone.
	Grammar any
	// Options are additional options for kong.
	Options []kong.Option
	// Open connects to the database. Commands that need it call it once.
	Open func(context.Context) (*Database, error)
	// OpenKey opens a key service by the id of a key, for commands with --key. If it
	// is nil, these use only the keys of the models.
	OpenKey func(ctx context.Context, keyID string) (kmsencrypted.Provider, error)
	// Stdin, Stdout and Stderr are the streams to use; nil means those of the
	// process.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// exited carries an exit code that kong requests, for example after help.
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
		kong.Description(cmp.Or(p.Description, "Manages encrypted columns: rotates keys over all records, verifies, inspects.")),
		kong.Writers(s.Stdout, s.Stderr),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(s),
		kong.Vars{"version": s.name + ": " + libraryVersion()},
	}, p.Options...)
	parser, err := kong.New(grammar, options...)
	if err != nil {
		panic("rotatecli: " + err.Error()) // an error in the grammar
	}
	s.parser = parser
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(s.Stderr, "%s: %v\n%s --help lists the commands\n", s.name, err, s.name)
		return ExitUsage
	}
	return s.report(command.Run())
}

// ErrUsage reports an invalid command line.
var ErrUsage = errors.New("usage")

// ErrFailures reports that a command did its work and something failed, which its
// output names. The exit code is [ExitFailures].
var ErrFailures = errors.New("not all succeeded")

// exit is the end of a command whose output already says what happened.
type exit struct{ code int }

func (e exit) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// exitCodes maps errors to exit codes; the first match counts.
var exitCodes = []struct {
	is   func(error) bool
	code int
}{
	{is(rotation.ErrPaused), ExitPaused},
	{is(context.Canceled), ExitPaused},
	{is(rotation.ErrTooManyFailures), ExitFailures},
	{is(ErrFailures), ExitFailures},
	{is(audit.ErrBroken), ExitFailures},
	{is(rotation.ErrHeldUp), ExitThrottled},
	{is(ErrUsage), ExitUsage},
	{kmsencrypted.Retryable, ExitThrottled},
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// report prints an error once and returns its exit code.
func (s *Session) report(err error) int {
	if err == nil {
		return ExitDone
	}
	if e, ok := errors.AsType[exit](err); ok {
		return e.code
	}
	text := sqldialect.Explained(err).Error()
	if !strings.HasPrefix(text, s.name+": ") { // errors of the library may begin with that name
		text = s.name + ": " + text
	}
	fmt.Fprintln(s.Stderr, text)
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

// usage returns an error of the command line.
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
