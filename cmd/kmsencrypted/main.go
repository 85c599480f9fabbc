// Command kmsencrypted manages encrypted columns from a shell. It rotates keys
// over all records of the tables described in a file, verifies and inspects
// records, tests key services, and encrypts and decrypts small secrets.
//
//	go install github.com/kmsencrypted/kmsencrypted/cmd/kmsencrypted@latest
//	kmsencrypted --help
//
// A program with models of its own gets these commands in five lines: see
// package rotatecli. docs/cli.md describes the file, its keys and examples.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/kmsencrypted/kmsencrypted/providers"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
)

// grammar is the whole command line.
type grammar struct {
	Config  string `short:"c" default:"kmsencrypted.yaml" env:"KMSENCRYPTED_CONFIG" placeholder:"FILE" help:"The file that describes database, versions and tables (${default}, or KMSENCRYPTED_CONFIG)."`
	Verbose bool   `short:"v" help:"Log every request to a key service to standard error."`
	rotatecli.Commands
	Encrypt encryptCmd        `cmd:"" help:"Encrypt standard input to a text that contains its own wrapped key."`
	Decrypt decryptCmd        `cmd:"" help:"Decrypt what encrypt printed."`
	Recover recoverFilesCmd   `cmd:"" name:"recover-files" help:"Decrypt the attached files of a bucket into a folder, without a database."`
	Keygen  keygenCmd         `cmd:"" help:"Create a local key file, or add a new key to one."`
	Bidx    bidxCmd           `cmd:"" help:"Compute the blind index of a value on standard input."`
	Create  createBranchesCmd `cmd:"" name:"create-branches" help:"Create the key store of branch keys that the file describes, and its receipts."`
	Init    initCmd           `cmd:"" help:"Write the first files of a program that encrypts columns of a table."`
	Schema  schemaCmd         `cmd:"" help:"Print a configuration file for the encrypted tables of a database."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second interrupt ends the process
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var g grammar
	program := rotatecli.Program{
		Name:        "kmsencrypted",
		Description: "Manages encrypted columns: rotates keys over all records, verifies, inspects, tests key services.",
		Grammar:     &g,
		Open: func(ctx context.Context) (*rotatecli.Database, error) {
			c, err := readConfig(g.Config)
			if err != nil {
				return nil, err
			}
			return c.database(ctx, g.logger(stderr), g.Verbose)
		},
		OpenKey: providers.Open,
		Options: []kong.Option{kong.Bind(&g)},
		Stdin:   stdin,
		Stdout:  stdout,
		Stderr:  stderr,
	}
	return program.Run(ctx, args)
}
